"""Three nodes in one process, on engines in memory, for tests of how they work together."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable
from typing import Any

from chinwag_server.chat.room import ChatSettings
from chinwag_server.chat.routed.fanout import FanoutLimits
from chinwag_server.chat.sequenced.memory import MemoryTables
from chinwag_server.clock import SystemClock
from chinwag_server.mesh.agreed import Agreed
from chinwag_server.mesh.links import Answers, Links
from chinwag_server.mesh.memory_bus import Hub, MemoryBus
from chinwag_server.mesh.memory_coordination import MemoryCluster, MemoryCoordination
from chinwag_server.mesh.memory_inbox import InboxServer, MemoryInbox
from chinwag_server.mesh.memory_links import MemoryLinks, MemoryNetwork
from chinwag_server.mesh.memory_sessions import MemorySessions
from chinwag_server.mesh.shards import SHARDS
from chinwag_server.meshed import Meshed, Shared
from tests.server.chat.rules import Device, FakeClock, FakeDirectory, Room

PREFIX = "/chinwag/"
TTL_S = 2
MARGIN_S = 0.5


class Node(Room):
    """One node, and short ways to call it."""

    def __init__(self, mesh: Nodes, meshed: Meshed, bus: MemoryBus, ids: Any) -> None:
        super().__init__(
            meshed.store,
            mesh.settings,
            clock=mesh.clock,
            directory=mesh.directory,
            random_bytes=secrets.token_bytes,
            is_mine=meshed.store.owns,
            across=meshed.across,
        )
        self.mesh = mesh
        self.meshed = meshed
        self.bus = bus
        self._ids = ids

    def message_id(self) -> str:
        ms = self.clock.time_us() // 1000
        text = f"{ms:012x}7000{0x8000000000000000 + next(self._ids):016x}"
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

    def owns(self, channel_id: str) -> bool:
        return self.meshed.owns(channel_id)

    async def stop(self) -> None:
        """Leaves in order."""
        await self.meshed.drain(5)
        await self.room.stop()
        await self.meshed.stop()
        await self.bus.close()


class Nodes:
    """What they share.

    Args:
        clock: Of the rules; leases and links have a real one.
    """

    def __init__(
        self,
        *,
        limits: FanoutLimits | None = None,
        settings: ChatSettings | None = None,
        clock: FakeClock | None = None,
    ) -> None:
        self.directory = FakeDirectory()
        self.clock = clock or SystemClock()
        self.limits = limits or FanoutLimits()
        self.settings = settings
        real = SystemClock()
        self.tables = MemoryTables()
        self.etcd = MemoryCluster(real)
        self.hub = Hub()
        self.sessions = MemorySessions(real)
        self.inboxes = InboxServer(real)
        self.network = MemoryNetwork()
        self.nodes: list[Node] = []
        self._ids = itertools.count(1)

    async def start(self, count: int = 3) -> list[Node]:
        """Starts nodes, and waits until all shards are owned."""
        for _ in range(count):
            await self.add()
        await self.settled()
        return self.nodes

    async def add(self) -> Node:
        """Starts one more node."""
        clock = SystemClock()
        coordination = MemoryCoordination(self.etcd, clock)
        agreed = Agreed(coordination, clock, secrets.token_bytes, prefix=PREFIX)
        bus = MemoryBus(self.hub)
        await bus.open()

        def links(node_id: str, answers: Answers) -> Links:
            return MemoryLinks(self.network, node_id, answers)

        shared = Shared(
            coordination,
            self.tables,
            bus,
            self.sessions,
            MemoryInbox(self.inboxes, agreed.raise_inbox_generation),
            agreed,
            links,
        )
        meshed = Meshed(
            shared,
            generation=1,
            cluster_id="test",
            clock=clock,
            random_bytes=secrets.token_bytes,
            limits=self.limits,
            ttl_s=TTL_S,
            margin_s=MARGIN_S,
        )
        node = Node(self, meshed, bus, self._ids)
        await meshed.links.start()
        await meshed.start("memory:0")
        await node.room.start()
        await meshed.serve()
        self.nodes.append(node)
        return node

    async def settled(self) -> None:
        """Waits until each shard has one owner, as all see it."""
        await until(lambda: sum(len(n.meshed.ownership.owned()) for n in self.nodes) == SHARDS)
        await until(
            lambda: all(
                node.meshed.ownership.holder_of(shard) == other.meshed.node_id
                for node in self.nodes
                for other in self.nodes
                for shard in other.meshed.ownership.owned()
            )
        )

    def owner_of(self, channel_id: str) -> Node:
        """Who owns a channel."""
        return next(node for node in self.nodes if node.owns(channel_id))

    def others(self, channel_id: str) -> list[Node]:
        """Who does not."""
        return [node for node in self.nodes if not node.owns(channel_id)]

    async def stop(self) -> None:
        """Stops all nodes."""
        for node in self.nodes:
            await node.stop()


class Anywhere(Node):
    """All nodes, as a client sees them: each call and each device goes to the next one."""

    def __init__(self, mesh: Nodes) -> None:
        self.__dict__.update(mesh.nodes[0].__dict__)
        self._next = itertools.cycle(mesh.nodes)

    async def call(self, user_id: str, method: str, /, **fields: Any) -> Any:
        return await Room.call(next(self._next), user_id, method, **fields)

    def connect(self, user_id: str, device_id: str = "") -> Device:
        return next(self._next).connect(user_id, device_id)


async def until(holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Waits until something holds."""
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110  # what it asks has no event
            await asyncio.sleep(0.01)
