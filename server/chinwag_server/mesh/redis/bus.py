"""The bus over Redis's sharded pub/sub: one connection that publishes, a few that hear."""

from __future__ import annotations

import asyncio
import logging
import random
import zlib
from collections import deque
from collections.abc import Callable

from chinwag_server.mesh.bus import Received, Undo
from chinwag_server.mesh.redis.ear import Ear
from chinwag_server.mesh.redis.link import RedisLink
from chinwag_server.mesh.subscriptions import Callbacks, Subscriptions
from chinwag_server.mesh.unavailable import Unavailable

log = logging.getLogger(__name__)

MAX_BATCH = 256
RETRY_S = 0.1


class RedisBus:
    """One node's end.

    Args:
        url: As `address.FORM`.
        timeout_s: No call waits longer.
        connections: That hear; a topic is always on the same.
        max_queued: Payloads that wait to be published,
        max_queued_bytes: and their bytes.
        retry: Seconds to wait, of the seconds that it should be about: jitter.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 1.0,
        connections: int = 2,
        max_queued: int = 20_000,
        max_queued_bytes: int = 16 << 20,
        retry: Callable[[float], float] = lambda seconds: seconds * random.uniform(0.5, 1.5),
    ) -> None:
        # Not the link of others: large payloads would hold them up.
        self._link = RedisLink(url, timeout_s=timeout_s)
        self._max_queued = max_queued
        self._max_queued_bytes = max_queued_bytes
        self._queue: deque[tuple[str, bytes]] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._dropped = 0
        self._away = False
        self._subscriptions = Subscriptions()
        self._gaps = Callbacks()
        self._ears = [
            Ear(self._link.address, timeout_s, self._subscriptions.receive, self._gaps.call, retry)
            for _ in range(connections)
        ]
        self._task: asyncio.Task[None] | None = None

    @property
    def dropped(self) -> int:
        return self._dropped

    async def open(self) -> None:
        try:
            await self._link.open()
            for ear in self._ears:
                await ear.open()
        except BaseException:
            await self.close()
            raise
        self._task = asyncio.create_task(self._publish())

    def publish(self, topic: str, payload: bytes) -> None:
        self._queue.append((topic, payload))
        self._queued_bytes += len(payload)
        while len(self._queue) > self._max_queued or self._queued_bytes > self._max_queued_bytes:
            self._take()
            self._dropped += 1
        self._wake.set()

    def subscribe(self, topic: str, received: Received) -> Undo:
        ear = self._ears[zlib.crc32(topic.encode()) % len(self._ears)]
        return self._subscriptions.add(topic, received, lambda wanted: ear.want(topic, wanted))

    async def settle(self) -> None:
        try:
            async with asyncio.timeout(self._link.timeout_s):
                for ear in self._ears:
                    await ear.settle()
        except TimeoutError:
            raise Unavailable(
                f"{self._link.address} did not confirm all subscriptions within "
                f"{self._link.timeout_s:g} s"
            ) from None

    def on_gap(self, gap: Callable[[], None]) -> Undo:
        return self._gaps.add(gap)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for ear in self._ears:
            await ear.close()
        await self._link.close()
        self._dropped += len(self._queue)
        self._queue.clear()

    def _take(self) -> tuple[str, bytes]:
        topic, payload = self._queue.popleft()
        self._queued_bytes -= len(payload)
        return topic, payload

    async def _publish(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                batch = [self._take() for _ in range(min(MAX_BATCH, len(self._queue)))]
                try:
                    await self._link.call_all([("SPUBLISH", *message) for message in batch])
                except Unavailable as error:
                    # Not sent again: they may have arrived.
                    self._dropped += len(batch)
                    if not self._away:
                        log.warning("the bus is away, payloads are dropped: %s", error)
                    self._away = True
                    await asyncio.sleep(RETRY_S)
                else:
                    self._away = False
