"""The application's loop over its events, and the commits behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

from chinwag import events as ev
from chinwag.errors import ChinwagError
from chinwag.inbox import Inbox
from chinwag.store import ClientStore

# Events that the application took are committed together: when it waits, or this many.
COMMIT_EVENTS = 200


class Reading:
    """An iterator over a client's events: see `Client.events`. One loop at a time; a loop that is
    left and begun again goes on with the next event.

    Args:
        closed_by: Why nothing more will come; None: it may.
        on_taken: Called with each event that the application took.
    """

    def __init__(
        self,
        inbox: Inbox,
        store: ClientStore,
        *,
        closed_by: Callable[[], ChinwagError | None],
        on_taken: Callable[[ev.Event], None],
    ) -> None:
        self._inbox = inbox
        self._store = store
        self._closed_by = closed_by
        self._on_taken = on_taken
        self._in_work: ev.Event | None = None
        self._taken: list[ev.Event] = []
        self._waiting: asyncio.Future[None] | None = None

    def __aiter__(self) -> Self:
        # The event in work of a loop that was left is not counted as taken: its body may have
        # failed. What follows it in its channel moves the cursor behind it.
        self._in_work = None
        return self

    async def __anext__(self) -> ev.Event:
        if self._in_work is not None:
            self._take(self._in_work)
            self._in_work = None
        while (event := self._pop()) is None:
            self.flush()
            error = self._closed_by()
            if error is not None:
                if error.reason:
                    raise error
                raise StopAsyncIteration  # closed by the application
            await self._wait()
        self._in_work = event
        return event

    def _pop(self) -> ev.Event | None:
        while (event := self._inbox.pop()) is not None:
            if not isinstance(event, ev.StampReached):
                return event
            self._taken.append(event)
        return None

    def _take(self, event: ev.Event) -> None:
        self._taken.append(event)
        self._on_taken(event)
        if len(self._taken) >= COMMIT_EVENTS:
            self.flush()

    async def _wait(self) -> None:
        if self._waiting is not None:
            raise RuntimeError("another loop over this client's events is waiting")
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def wake(self) -> None:
        """Something has come, or the client is closed."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def commit(self, event: ev.Event) -> None:
        """Counts an event as taken now."""
        if event is self._in_work:
            self._in_work = None
        self._take(event)
        self.flush()

    def flush(self) -> None:
        """Writes what was taken to the store."""
        if self._taken:
            taken, self._taken = self._taken, []
            self._store.commit(taken)
