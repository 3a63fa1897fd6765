"""One seed's scenario: three nodes under faults, people who chat and retry, readers who check."""

from __future__ import annotations

import asyncio
import random

from tests.simulation.asking import Asking
from tests.simulation.checker import Violation
from tests.simulation.final import check_projections
from tests.simulation.flavours import draw
from tests.simulation.people import QUIET, People
from tests.simulation.replicas import Faults
from tests.simulation.troubles import Troubles
from tests.simulation.world import World

UNREST_S = 45.0
# Within which everybody who is to hear of an acked entry has, once nothing breaks.
TOLD_S = 30.0


class Scenario(Asking):
    """What people do, and what is done to the mesh.

    Args:
        flavour: See `flavours`; "": the seed's own.
    """

    def __init__(self, seed: int, flavour: str = "") -> None:
        self.flavour = draw(random.Random(f"scenario {seed}"), flavour)
        world = World(
            seed, faults=Faults(), max_open=self.flavour.max_open, call_s=self.flavour.call_s
        )
        super().__init__(world, UNREST_S)
        self.troubles = Troubles(self)
        self.people = People(self)

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
            log = await self.whole_log(channel_id)
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
