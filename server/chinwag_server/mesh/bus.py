"""The bus's port: what is published under a topic reaches who is subscribed to it now.

The bus may lose, it never delivers twice, and what one node publishes on a topic arrives in its
order. Whoever needs more repeats (owners repeat the heads of channels) or reads again after a gap.
Every adapter passes tests/mesh/bus_contract.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

# Takes a payload, in the event loop; it must not wait.
Received = Callable[[bytes], None]

# Undoes what gave it; a second call does nothing.
Undo = Callable[[], None]


class Bus(Protocol):
    """One node's end of the bus."""

    @property
    def dropped(self) -> int:
        """Payloads published here that were given up: the queue was full, or the bus away."""

    async def open(self) -> None:
        """Connects.

        Raises:
            Unavailable: There is no bus.
        """

    def publish(self, topic: str, payload: bytes) -> None:
        """Queues a payload for who is subscribed, also here. Never waits: when the queue is full,
        the oldest are dropped."""

    def subscribe(self, topic: str, received: Received) -> Undo:
        """Calls `received` for what is published from soon on; `settle` says when. Thousands of
        topics are cheap."""

    async def settle(self) -> None:
        """Waits until every topic subscribed to so far is heard.

        Raises:
            Unavailable: Not in time; it is tried further.
        """

    def on_gap(self, gap: Callable[[], None]) -> Undo:
        """Calls `gap` when payloads may have been missed, once the topics are heard again;
        possibly several times, after each part of them."""

    async def close(self) -> None:
        """Ends it; what is still queued is dropped."""
