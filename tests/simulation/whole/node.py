"""A whole node: `Meshed` and a chat room over it, in a process that may die or stand still."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chinwag_server.chat.room import ChatRoom, ChatSettings
from chinwag_server.chat.routed.fanout import FanoutLimits
from chinwag_server.chat.stream import StreamLimits
from chinwag_server.mesh.agreed import Agreed
from chinwag_server.mesh.coordination import CoordinationUnavailable
from chinwag_server.mesh.links import Answers
from chinwag_server.mesh.links import Links as LinksPort
from chinwag_server.mesh.membership import PREFIX
from chinwag_server.mesh.memory_coordination import MemoryCoordination
from chinwag_server.mesh.memory_links import MemoryLinks
from chinwag_server.mesh.unavailable import Unavailable
from chinwag_server.meshed import Meshed, Shared
from chinwag_server.rpc.caller import Caller
from tests.simulation.loop import SimClock
from tests.simulation.replicas import SimTables
from tests.simulation.whole.shared import SimBus, SimInbox, SimSessions
from tests.simulation.world import GENERATION, MARGIN_S, TTL_S, Everybody, Node

if TYPE_CHECKING:
    from tests.simulation.whole.world import WholeWorld

RETRY_S = 0.5
# Short, so that a silent connection is noticed before the end.
STREAM = StreamLimits(ping_interval_s=6.0, idle_timeout_s=20.0)


async def _authenticate(token: str) -> Caller:
    return Caller(token)


class WholeNode(Node):
    """One node and its lives.

    Attributes:
        serves: It takes devices.
    """

    def __init__(self, world: WholeWorld, name: str) -> None:
        super().__init__(world, name)
        self._world = world
        self.meshed: Meshed
        self.bus: SimBus
        self.serves = False

    def start(self) -> None:
        assert not self.up
        self.lives += 1
        self.serves = False
        world = self._world
        rate = world.rng.uniform(0.9, 1.1)
        self.process = world.loop.process(f"{self.name}.{self.lives}", rate=rate)
        world.history.note(world.loop.now, self.process.name, f"starts, its clock at {rate:.2f}")
        with world.loop.inside(self.process):
            self._make(SimClock(world.loop, self.process))
            world.loop.create_task(self._run())

    def _make(self, clock: SimClock) -> None:
        world, redis = self._world, self._world.redis
        coordination = MemoryCoordination(world.etcd, clock, self._travel)
        agreed = Agreed(coordination, clock, world.bits, prefix=PREFIX)
        self.tables = SimTables(world.tables, self.name)
        self.bus = SimBus(redis.hub, redis, self.name)

        def links(node_id: str, answers: Answers) -> LinksPort:
            world.links.names[node_id] = self.name
            return MemoryLinks(world.network, node_id, answers)

        shared = Shared(
            coordination,
            self.tables,
            self.bus,
            SimSessions(redis, self.name),
            SimInbox(redis, self.name, agreed.raise_inbox_generation),
            agreed,
            links,
        )
        self.meshed = Meshed(
            shared,
            generation=GENERATION,
            cluster_id="simulated",
            clock=clock,
            random_bytes=world.bits,
            limits=FanoutLimits(direct_members=world.direct_members, pubsub_members=1000),
            feed=False,
            ttl_s=TTL_S,
            margin_s=MARGIN_S,
        )
        self.ownership = self.meshed.ownership
        self.membership = self.meshed.membership
        self.store = self.meshed.store
        self.store._max_open = world.max_open
        self.room = ChatRoom(
            self.store,
            Everybody(),
            authenticate=_authenticate,
            settings=ChatSettings(max_members_in_memory=world.max_open, stream=STREAM),
            clock=clock,
            random_bytes=world.bits,
            is_mine=self.meshed.owns,
            across=self.meshed.across,
        )

    async def _run(self) -> None:
        while True:
            try:
                await self.bus.open()
                break
            except Unavailable:
                await asyncio.sleep(RETRY_S)
        await self.meshed.open_links()
        while True:
            try:
                await self.meshed.start(self.name)
                break
            except CoordinationUnavailable:
                await asyncio.sleep(RETRY_S)
        await self.room.start()
        await self.meshed.serve()
        self.serves = True

    async def leave(self, grace_s: float) -> None:
        """As `node.Node.drain` and `stop` do."""
        await self.meshed.drain(grace_s / 2)
        await self.room.streams.drain_slowly(grace_s / 4)
        self.serves = False
        self.room.drain()
        await self.room.stop()
        await self.meshed.stop()
        await self.bus.close()

    def killed(self) -> None:
        """What it held open ends with it."""
        if self.bus in self._world.redis.hub.ends:
            self._world.redis.hub.ends.remove(self.bus)
