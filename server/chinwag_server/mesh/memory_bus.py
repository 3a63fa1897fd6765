"""A bus in memory: for nodes that live in one process, as in tests and simulations."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import copy_context

from chinwag_server.mesh.bus import Received, Undo
from chinwag_server.mesh.subscriptions import Callbacks, Subscriptions
from chinwag_server.mesh.unavailable import Unavailable


class Hub:
    """What the ends have in common.

    Attributes:
        away: Whether nothing gets through.
    """

    def __init__(self) -> None:
        self.away = False
        self.ends: list[MemoryBus] = []

    def lose(self) -> None:
        """Loses what is under way, as a connection that broke and is there again."""
        for end in self.ends:
            end.lose()


class MemoryBus:
    """One node's end.

    Args:
        max_queued: Payloads that wait to be published, and those that wait to be received.
    """

    def __init__(self, hub: Hub, *, max_queued: int = 20_000) -> None:
        self._hub = hub
        self._max_queued = max_queued
        self._queue: deque[tuple[str, bytes]] = deque()
        self._dropped = 0
        self._delivery: asyncio.Handle | None = None
        # What came for this end: it is received in the end's own context, so that a simulation
        # can pause who receives and not who publishes.
        self._arrived: deque[tuple[str, bytes]] = deque()
        self._receipt: asyncio.Handle | None = None
        self._missed = False
        self._context = copy_context()
        self._subscriptions = Subscriptions()
        self._gaps = Callbacks()

    @property
    def dropped(self) -> int:
        return self._dropped

    async def open(self) -> None:
        if self._hub.away:
            raise Unavailable("the bus is away")
        self._context = copy_context()
        self._hub.ends.append(self)

    def publish(self, topic: str, payload: bytes) -> None:
        self._queue.append((topic, payload))
        if len(self._queue) > self._max_queued:
            self._queue.popleft()
            self._dropped += 1
        if self._delivery is None:
            # Never within the caller's call, who may not be ready for an answer.
            self._delivery = asyncio.get_running_loop().call_soon(self._deliver)

    def subscribe(self, topic: str, received: Received) -> Undo:
        return self._subscriptions.add(topic, received, lambda _wanted: None)

    async def settle(self) -> None:
        if self._hub.away:
            raise Unavailable("the bus is away")

    def on_gap(self, gap: Callable[[], None]) -> Undo:
        return self._gaps.add(gap)

    async def close(self) -> None:
        if self in self._hub.ends:
            self._hub.ends.remove(self)
        for handle in (self._delivery, self._receipt):
            if handle is not None:
                handle.cancel()
        self._give_up()

    def lose(self) -> None:
        """Drops what is under way, and tells of the gap."""
        self._give_up()
        self._arrived.clear()
        self._missed = True
        self._wake()

    def arrive(self, topic: str, payload: bytes) -> None:
        """Takes a payload from any end."""
        self._arrived.append((topic, payload))
        if len(self._arrived) > self._max_queued:
            self._arrived.popleft()
            self._missed = True
        self._wake()

    def _deliver(self) -> None:
        self._delivery = None
        if self._hub.away:
            self._give_up()
        while self._queue:
            topic, payload = self._queue.popleft()
            for end in list(self._hub.ends):
                end.arrive(topic, payload)

    def _wake(self) -> None:
        if self._receipt is None:
            loop = asyncio.get_running_loop()
            self._receipt = loop.call_soon(self._receive, context=self._context)

    def _receive(self) -> None:
        self._receipt = None
        if self._missed:
            self._missed = False
            self._gaps.call()
        for _ in range(len(self._arrived)):
            self._subscriptions.receive(*self._arrived.popleft())
        if self._arrived:
            self._wake()

    def _give_up(self) -> None:
        self._dropped += len(self._queue)
        self._queue.clear()
