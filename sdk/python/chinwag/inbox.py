"""Events between the stream and the application: bounded, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from chinwag.events import ConnectionChanged, Event

MAX_EVENTS = 10_000
MAX_BYTES = 16 << 20


class Inbox:
    """Events that the application has not taken.

    It holds what one frame brought beyond its bounds; who fills it looks at `is_full` before the
    next one.

    Args:
        on_room: Called when it was full and half of it is free again.
    """

    def __init__(
        self,
        on_room: Callable[[], None],
        *,
        max_events: int = MAX_EVENTS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._events: deque[tuple[Event, int]] = deque()
        self._bytes = 0
        self._was_full = False
        self._on_room = on_room
        self._max_events, self._max_bytes = max_events, max_bytes

    def __len__(self) -> int:
        return len(self._events)

    @property
    def is_full(self) -> bool:
        """Whether no more should be put in."""
        full = len(self._events) >= self._max_events or self._bytes >= self._max_bytes
        self._was_full |= full
        return full

    def put(self, events: Sequence[Event], size_bytes: int = 0) -> None:
        """Adds events.

        Args:
            size_bytes: Of the frame that brought them.
        """
        queue = self._events
        for event in events:
            is_state = isinstance(event, ConnectionChanged)
            if is_state and queue and isinstance(queue[-1][0], ConnectionChanged):
                # A connection that comes and goes must not fill a queue that nobody reads.
                queue.pop()
            queue.append((event, 0))
        if events and size_bytes:
            queue[-1] = (events[-1], size_bytes)
            self._bytes += size_bytes

    def pop(self) -> Event | None:
        """The next event; None if there is none."""
        if not self._events:
            return None
        event, size_bytes = self._events.popleft()
        self._bytes -= size_bytes
        if self._was_full and (
            len(self._events) * 2 <= self._max_events and self._bytes * 2 <= self._max_bytes
        ):
            self._was_full = False
            self._on_room()
        return event
