"""One seed's scenario with whole nodes: people with two devices each, who roam under faults."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial

from tests.simulation.asking import Asking
from tests.simulation.checker import Violation
from tests.simulation.final import check_projections
from tests.simulation.replicas import Faults
from tests.simulation.whole.checks import (
    Seen,
    check_devices,
    check_sends,
    check_unread,
    lags,
    run_ahead,
)
from tests.simulation.whole.device import Device
from tests.simulation.whole.flavours import WholeFlavour, draw
from tests.simulation.whole.people import NEWS, USERS, Chatters
from tests.simulation.whole.troubles import WholeTroubles
from tests.simulation.whole.world import WholeWorld
from tests.simulation.world import GENERATION

UNREST_S = 30.0
# Within which every device has everything, once nothing breaks.
SETTLE_S = 40.0
# Within which a device that is connected has what is said in quiet: losses are noticed within two
# seconds.
PROMPT_S = 6.0
# And if the owner dies of it: its lease ends first.
TAKEN_OVER_S = 25.0
MAX_STEPS = 1_000_000
CALL_S = 8.0


class WholeScenario(Asking):
    """What people do, and what is done to the mesh.

    Args:
        flavour: See `whole.flavours`; "": the seed's own.
    """

    world: WholeWorld
    flavour: WholeFlavour
    generation = GENERATION

    def __init__(self, seed: int, flavour: str = "") -> None:
        self.flavour = draw(random.Random(f"whole {seed}"), flavour)
        world = WholeWorld(
            seed,
            faults=Faults(),
            max_open=self.flavour.max_open,
            direct_members=self.flavour.direct_members,
            max_steps=MAX_STEPS,
            call_s=CALL_S,
        )
        super().__init__(world, UNREST_S)
        self.devices: list[Device] = []
        self.troubles = WholeTroubles(self)
        self.people = Chatters(self)

    async def main(self) -> None:
        """The whole of it."""
        world, flavour = self.world, self.flavour
        for node in world.nodes:
            node.start()
        self.devices = [Device(self, user, number) for user in USERS for number in (1, 2)]
        await self._within(SETTLE_S, self._all_live)
        await self.people.make_channels()
        news = self.channels[NEWS]
        # Whoever made it is not told.
        joined = [device for device in self.devices if device.user != "ann"]
        await self._within(PROMPT_S, lambda: all(news in device.views for device in joined))
        for device in self.devices:
            device.look(news, 0)
        world.tables.faults = flavour.faults
        world.weather.become(flavour.weather)
        unrest = world.loop.create_task(self.troubles.make())
        await self.people.live()
        await unrest
        await self._within(SETTLE_S, self._all_live)
        await self._settle(SETTLE_S)
        await self._last_words()
        await self._start_anew()

    # --- quiet ---

    async def _last_words(self) -> None:
        """Something more is said everywhere: all hear of it, also if an owner dies of it."""
        for name in list(self.channels):
            device = self.rng.choice([d for d in self.devices if d.user == "ann"])
            key = device.post(self.channels[name], f"the last word in {name}")
            if self.rng.random() < 0.25:
                await self._within(SETTLE_S, partial(device.is_sent, key))
                if self.rng.random() < 0.7:
                    self.note("world", f"{name}: its owner dies of the last word")
                    self.world.loop.create_task(self.troubles.kill_owner(self.channels[name]))
        await self._within(SETTLE_S, self._all_live)
        await self._settle(TAKEN_OVER_S)

    async def _settle(self, seconds: float) -> dict[str, Seen]:
        """All devices see everything, soon."""
        seen = await self._logs()
        until = self.world.loop.now + seconds
        while True:
            if ahead := run_ahead(self.devices, seen):
                # A call that nobody waited for any more was done only now.
                seen = await self._logs()
            if not (lag := ahead or lags(self.devices, seen)):
                break
            if self.world.loop.now > until:
                raise Violation(f"{seconds:.0f} s of quiet, and {lag}")
            await asyncio.sleep(0.2)
        check_devices(self.devices, seen)
        check_sends(self.devices, seen, self.world.history)
        return seen

    async def _logs(self) -> dict[str, Seen]:
        seen = {}
        for name, channel_id in self.channels.items():
            log = await self.whole_log(channel_id)
            seen[channel_id] = Seen(
                log,
                since_joining=name == "group" and self.flavour.since_joining,
                all_see=name == NEWS,
            )
        return seen

    def _all_live(self) -> bool:
        return all(device.is_live for device in self.devices)

    async def _within(self, seconds: float, holds: Callable[[], bool]) -> None:
        until = self.world.loop.now + seconds
        while not holds():
            if self.world.loop.now > until:
                away = [device.name for device in self.devices if not device.is_live]
                raise Violation(f"{seconds:.0f} s of quiet, and {away} do not come to rest")
            await asyncio.sleep(0.1)

    async def _start_anew(self) -> None:
        """No node remembers: now the tables say what was kept, and any node says it."""
        for node in self.world.nodes:
            self.troubles.stop(node)
        for node in self.world.nodes:
            node.start()
        for device in self.devices:
            self.marks |= {
                (channel_id, device.user): max(self.marks.get((channel_id, device.user), 0), mark)
                for channel_id, mark in device.marks.items()
            }
        for name, channel_id in self.channels.items():
            log = await self.whole_log(channel_id)
            self.entries += len(log)
            self.world.history.check_log(channel_id, log)
            if name != NEWS:
                await check_projections(self, channel_id, log)
        await self._within(SETTLE_S, self._all_live)
        await check_unread(self, await self._settle(SETTLE_S))
