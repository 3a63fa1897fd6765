"""What every scenario has: a world, its channels, and a way to ask nodes until one answers."""

from __future__ import annotations

import asyncio
from typing import Any

from chinwag_server.chat.store import StoreUnavailable
from chinwag_server.rpc.errors import Refusal
from tests.simulation.flavours import Flavour
from tests.simulation.world import NoAnswer, Node, World

# Refusals after which the same call may succeed.
FOR_A_MOMENT = frozenset({"STORAGE_UNAVAILABLE", "OVERLOADED"})


class Asking:
    """A world and those who ask it.

    Args:
        unrest_s: After which nothing breaks any more: where everything breaks all the time nothing
            would ever end.

    Attributes:
        flavour: What the run is like.
        channels: By name.
        marks: The last mark of each (channel, user) that was taken.
        entries: Of all logs at the end.
    """

    flavour: Flavour

    def __init__(self, world: World, unrest_s: float) -> None:
        self.world = world
        self.rng = world.rng
        self.channels: dict[str, str] = {}
        self.marks: dict[tuple[str, str], int] = {}
        self.entries = 0
        self._unrest_s = unrest_s

    @property
    def unrest(self) -> bool:
        """Whether things break."""
        return self.world.loop.now < self._unrest_s

    async def whole_log(self, channel_id: str) -> list[tuple[int, bytes]]:
        """All entries, as (id, payload)."""
        log: list[tuple[int, bytes]] = []
        while entries := await self.ask("the end", "read", channel_id, len(log)):
            log += entries
        return log

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
