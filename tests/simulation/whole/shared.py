"""What whole nodes share besides tables and etcd: links, a bus and Redis, each of which fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from chinwag_server.mesh.inbox import Changes, RaiseGeneration, Stamp
from chinwag_server.mesh.links import Unreachable
from chinwag_server.mesh.memory_bus import Hub, MemoryBus
from chinwag_server.mesh.memory_inbox import InboxServer, MemoryInbox
from chinwag_server.mesh.memory_links import MemoryNetwork
from chinwag_server.mesh.memory_sessions import MemorySessions
from chinwag_server.mesh.unavailable import Unavailable
from tests.simulation.loop import Loop, SimClock

T = TypeVar("T")

# A node that stands still for longer is not told anything meanwhile.
SESSION_LIFE_S = 5.0
# A frame that meets a partition is sent again so often.
AGAIN_S = 0.25
REDIS_S = 0.003
REDIS_TIMEOUT_S = 0.7


@dataclass(slots=True)
class Weather:
    """How bad it is between nodes, and to Redis: chances of each message.

    Attributes:
        link_s: How long a frame between nodes takes.
        breaks: That a frame is lost, and its connection with it.
        bus_lost: That a node does not get a publication.
        no_answer: That Redis does not answer; what was asked is done or not.
    """

    link_s: float = 0.005
    breaks: float = 0.0
    bus_lost: float = 0.0
    no_answer: float = 0.0

    def become(self, other: Weather) -> None:
        """It changes."""
        self.link_s, self.breaks = other.link_s, other.breaks
        self.bus_lost, self.no_answer = other.bus_lost, other.no_answer


@dataclass(slots=True)
class Links:
    """The network between the nodes.

    Attributes:
        names: Of nodes, by the ids of their lives.
        cut: Pairs (from, to) of names between which nothing gets through.
        slow: Seconds that frames take more between two names.
    """

    loop: Loop
    rng: random.Random
    weather: Weather
    names: dict[str, str] = field(default_factory=dict)
    cut: set[tuple[str, str]] = field(default_factory=set)
    slow: dict[tuple[str, str], float] = field(default_factory=dict)

    def network(self) -> MemoryNetwork:
        """For the nodes' links."""
        return MemoryNetwork(self._travel, self.rng)

    async def _travel(self, from_id: str, to_id: str) -> None:
        way = self.names[from_id], self.names[to_id]
        await asyncio.sleep(self.rng.expovariate(1 / self.weather.link_s) + self.slow.get(way, 0.0))
        while way in self.cut:  # noqa: ASYNC110  # as TCP does
            await asyncio.sleep(AGAIN_S)
        if self.rng.random() < self.weather.breaks:
            raise Unreachable("a frame was lost", sent=True)


class SimBus(MemoryBus):
    """A node's end of a bus that loses what it likes."""

    def __init__(self, hub: Hub, redis: Redis, name: str) -> None:
        super().__init__(hub)
        self._redis = redis
        self._name = name

    def arrive(self, topic: str, payload: bytes) -> None:
        redis = self._redis
        if self._name not in redis.cut_off and redis.rng.random() >= redis.weather.bus_lost:
            super().arrive(topic, payload)


class Redis:
    """What holds sessions and inboxes, and passes publications on.

    Attributes:
        cut_off: The names of nodes that do not reach it.
    """

    def __init__(self, loop: Loop, rng: random.Random, weather: Weather) -> None:
        clock = SimClock(loop, loop.process("redis"))
        self.rng = rng
        self.weather = weather
        self.hub = Hub()
        self.sessions = MemorySessions(clock, life_s=SESSION_LIFE_S)
        self.inboxes = InboxServer(clock)
        self.cut_off: set[str] = set()

    @property
    def away(self) -> bool:
        """Whether it answers nobody."""
        return self.hub.away

    def go(self, away: bool) -> None:
        """It is away from now on, or there again."""
        self.hub.away = self.sessions.away = self.inboxes.away = away
        if away:
            self.hub.lose()

    def wipe(self) -> None:
        """It has lost everything."""
        self.sessions.wipe()
        self.inboxes.wipe()
        self.hub.lose()

    def fail_over(self) -> None:
        """A replica takes over, which lacks the last moments."""
        self.inboxes.fail_over(int(self.rng.uniform(0, 3) * 1e6))
        self.hub.lose()

    async def call(self, name: str, act: Callable[[], Awaitable[T]]) -> T:
        """A node asks.

        Raises:
            Unavailable: It does not answer.
        """
        rng, failed = self.rng, self.rng.random() < self.weather.no_answer
        await asyncio.sleep(rng.expovariate(1 / REDIS_S))
        if self.away or name in self.cut_off or (failed and rng.random() < 0.5):
            await asyncio.sleep(rng.uniform(0, REDIS_TIMEOUT_S))
            raise Unavailable("Redis does not answer")
        answer = await act()
        await asyncio.sleep(rng.expovariate(1 / REDIS_S))
        if failed:
            await asyncio.sleep(REDIS_TIMEOUT_S)
            raise Unavailable("Redis did not answer")
        return answer


class SimSessions:
    """`mesh.sessions.Sessions` as one node sees them."""

    def __init__(self, redis: Redis, name: str) -> None:
        self._redis = redis
        self._name = name

    async def refresh(self, node_id: str) -> bool:
        return await self._call(lambda: self._redis.sessions.refresh(node_id))

    async def add(self, user_id: str, device_id: str, node_id: str) -> None:
        await self._call(lambda: self._redis.sessions.add(user_id, device_id, node_id))

    async def remove(self, user_id: str, device_id: str, node_id: str) -> None:
        await self._call(lambda: self._redis.sessions.remove(user_id, device_id, node_id))

    async def restore(self, node_id: str, devices: Iterable[tuple[str, str]]) -> None:
        await self._call(lambda: self._redis.sessions.restore(node_id, devices))

    async def nodes_of(self, user_ids: Collection[str]) -> dict[str, set[str]]:
        return await self._call(lambda: self._redis.sessions.nodes_of(user_ids))

    async def end(self, node_id: str) -> None:
        await self._call(lambda: self._redis.sessions.end(node_id))

    async def sweep(self) -> int:
        return await self._call(self._redis.sessions.sweep)

    async def _call(self, act: Callable[[], Awaitable[T]]) -> T:
        return await self._redis.call(self._name, act)


class SimInbox:
    """`mesh.inbox.Inbox` as one node sees it."""

    def __init__(self, redis: Redis, name: str, raise_generation: RaiseGeneration) -> None:
        self._redis = redis
        self._name = name
        self._inbox = MemoryInbox(redis.inboxes, raise_generation)

    async def touch(self, user_ids: Collection[str], channel_id: str) -> None:
        await self._call(lambda: self._inbox.touch(user_ids, channel_id))

    async def changed_since(self, user_id: str, stamp: Stamp, limit: int) -> Changes:
        return await self._call(lambda: self._inbox.changed_since(user_id, stamp, limit))

    async def now(self) -> Stamp:
        return await self._call(self._inbox.now)

    async def generation(self) -> int:
        return await self._call(self._inbox.generation)

    def agree(self, generation: int) -> None:
        self._inbox.agree(generation)

    async def _call(self, act: Callable[[], Awaitable[T]]) -> T:
        return await self._redis.call(self._name, act)
