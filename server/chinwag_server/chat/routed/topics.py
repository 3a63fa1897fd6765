"""What this node hears by pub/sub: the channels of which owners publish entries."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from chinwag.mesh.v1 import mesh_service_pb2 as pb
from chinwag_server.chat.routed.fanout import topic_of
from chinwag_server.chat.routed.owners import Owners
from chinwag_server.clock import Clock
from chinwag_server.mesh.bus import Bus, Undo
from chinwag_server.mesh.links import Links
from chinwag_server.mesh.unavailable import Unavailable

log = logging.getLogger(__name__)

RENEW_S = 8.0
# A topic of which nothing was heard for so long is left.
IDLE_S = 60.0
MAX_TOPICS = 100_000


@dataclass(slots=True)
class _Topic:
    undo: Undo
    heard: float
    settled: bool = False


class Topics:
    """Subscribes when an owner says that it publishes, and tells it so.

    Args:
        told: Takes what was published.
    """

    def __init__(
        self, bus: Bus, owners: Owners, links: Links, clock: Clock, told: Callable[[pb.News], None]
    ) -> None:
        self._bus = bus
        self._owners = owners
        self._links = links
        self._clock = clock
        self._told = told
        self._topics: dict[str, _Topic] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to subscribe."""
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Leaves all topics."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for topic in self._topics.values():
            topic.undo()
        self._topics.clear()

    def published(self, channel_id: str) -> None:
        """An owner has told of entries that it publishes too."""
        topic = self._topics.get(channel_id)
        now = self._clock.monotonic()
        if topic is not None:
            topic.heard = now
        elif len(self._topics) < MAX_TOPICS:
            undo = self._bus.subscribe(topic_of(channel_id), self._received)
            self._topics[channel_id] = _Topic(undo, now)
            self._wake.set()

    def _received(self, payload: bytes) -> None:
        news = pb.News()
        try:
            news.ParseFromString(payload)
        except ValueError:
            log.warning("what was published is no news: %d bytes", len(payload))
            return
        topic = self._topics.get(news.entries.channel_id)
        if topic is not None:
            topic.heard = self._clock.monotonic()
            self._told(news)

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(RENEW_S):
                    await self._wake.wait()
                self._wake.clear()
                await self._settle()
            except TimeoutError:
                self._renew()
            except Unavailable as error:
                log.warning("topics are not heard yet: %s", error)
                await asyncio.sleep(1.0)
                self._wake.set()

    async def _settle(self) -> None:
        new = [name for name, topic in self._topics.items() if not topic.settled]
        await self._bus.settle()
        for name in new:
            if name in self._topics:
                self._topics[name].settled = True
        self._say(new)

    def _renew(self) -> None:
        now = self._clock.monotonic()
        for name, topic in list(self._topics.items()):
            if now - topic.heard > IDLE_S:
                topic.undo()
                del self._topics[name]
        self._say([name for name, topic in self._topics.items() if topic.settled])

    def _say(self, channel_ids: list[str]) -> None:
        by_node: dict[str, list[str]] = {}
        for channel_id in channel_ids:
            node_id = self._owners.owner_of(channel_id)
            if node_id is not None and node_id != self._owners.node_id:
                by_node.setdefault(node_id, []).append(channel_id)
        for node_id, some in by_node.items():
            for start in range(0, len(some), 500):
                part = pb.Subscribed(channel_ids=some[start : start + 500])
                self._links.tell(node_id, pb.News(subscribed=part))
