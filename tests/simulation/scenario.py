"""One seed's scenario: three nodes under faults, people who chat and retry, readers who check."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from chinwag_server.chat.store import StoreUnavailable
from chinwag_server.rpc.errors import Refusal
from tests.simulation.checker import Violation
from tests.simulation.final import check_projections
from tests.simulation.flavours import draw
from tests.simulation.people import QUIET, People
from tests.simulation.replicas import Faults
from tests.simulation.troubles import Troubles
from tests.simulation.world import NoAnswer, Node, World

# After which nothing breaks any more: where everything breaks all the time nothing would ever end.
UNREST_S = 45.0
# Within which everybody who is to hear of an acked entry has, once nothing breaks.
TOLD_S = 30.0
# Refusals after which the same call may succeed.
FOR_A_MOMENT = frozenset({"STORAGE_UNAVAILABLE", "OVERLOADED"})


class Scenario:
    """What people do, and what is done to the mesh.

    Args:
        flavour: See `flavours`; "": the seed's own.
    """

    def __init__(self, seed: int, flavour: str = "") -> None:
        self.flavour = draw(random.Random(f"scenario {seed}"), flavour)
        self.world = World(seed, faults=Faults(), max_open=self.flavour.max_open)
        self.rng = self.world.rng
        self.channels: dict[str, str] = {}  # by name
        self.marks: dict[tuple[str, str], int] = {}
        self.entries = 0
        self.troubles = Troubles(self)
        self.people = People(self)

    @property
    def unrest(self) -> bool:
        """Whether things break."""
        return self.world.loop.now < UNREST_S

    async def main(self) -> None:
        """The whole of it."""
        world = self.world
        for node in world.nodes:
            node.start()
        await self.people.make_channels()
        world.tables.faults = self.flavour.faults
        unrest = world.loop.create_task(self.troubles.make())
        await self.people.live()
        await unrest
        await self.people.last_word()
        await self._check_told()
        await self._start_anew()
        for channel_id in self.channels.values():
            log = await self._whole_log(channel_id)
            self.entries += len(log)
            world.history.check_log(channel_id, log)
            await check_projections(self, channel_id, log)

    async def _check_told(self) -> None:
        """Who does not ask has heard of what was acked, since owners tell."""
        channel_id = self.channels[QUIET]
        acked = [
            entry_id
            for (channel, _, _), (entry_id, _) in self.world.history.acked.items()
            if channel == channel_id
        ]
        until = self.world.loop.now + TOLD_S
        while self.world.told.get(channel_id, 0) < max(acked, default=0):
            if self.world.loop.now > until:
                raise Violation(
                    f"{channel_id}: {max(acked)} was acked, and members were told of "
                    f"{self.world.told.get(channel_id, 0)}"
                )
            await asyncio.sleep(0.5)

    async def _start_anew(self) -> None:
        """What was late has landed, and no node remembers: now the tables say what was kept."""
        for node in self.world.nodes:
            self.troubles.stop(node)
        await asyncio.sleep(self.flavour.faults.late_s)
        for node in self.world.nodes:
            node.start()

    async def _whole_log(self, channel_id: str) -> list[tuple[int, bytes]]:
        log: list[tuple[int, bytes]] = []
        while entries := await self.ask("the end", "read", channel_id, len(log)):
            log += entries
        return log

    # --- asking ---

    async def ask(self, user: str, method: str, *args: Any, put_off: float = 0.0) -> Any:
        """Asks one node after the other until one answers.

        Args:
            put_off: The chance to give up for now where there is no answer.

        Raises:
            Refusal: One that will not change.
            NoAnswer: Given up for now.
        """
        tried = 0
        while True:
            node = self._somebody(tried)
            tried += 1
            try:
                return await self.world.call(node, method, *args)
            except Refusal as refusal:
                if refusal.reason not in FOR_A_MOMENT:
                    raise
                why: Exception = refusal
            except (NoAnswer, StoreUnavailable) as error:
                why = error
            if not isinstance(why, StoreUnavailable):
                self.note(user, f"{method} at {node.name}: {why}")
            if isinstance(why, NoAnswer) and self.rng.random() < put_off:
                raise why
            await asyncio.sleep(self.rng.uniform(0.01, 0.2 * min(tried, 5)))

    def _somebody(self, tried: int) -> Node:
        nodes = self.world.nodes
        return nodes[tried % len(nodes)] if tried else self.rng.choice(nodes)

    def note(self, who: str, what: str) -> None:
        """Something for the readable history."""
        self.world.history.note(self.world.loop.now, who, what)
