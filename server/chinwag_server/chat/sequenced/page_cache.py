"""Pages of messages that an owner has read, for who scrolls to the same place.

Only its owner changes a channel, so a page holds until the owner changes a message: each change
raises the channel's version, which is part of the key, and pages of older versions age out. For
the same reason those who ask while a page of that key is read share what comes of it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable

from chinwag_server.chat.paging import size_bytes
from chinwag_server.chat.store import MessagePage

MAX_BYTES = 64 << 20
OVERHEAD_BYTES = 500


class PageCache:
    """The pages that were used last.

    Args:
        max_bytes: About what they may weigh together.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._pages: OrderedDict[Hashable, tuple[MessagePage, int]] = OrderedDict()
        self._reading: dict[Hashable, asyncio.Task[MessagePage]] = {}
        self.bytes = 0

    async def get(
        self,
        key: Hashable,
        read: Callable[[], Awaitable[MessagePage]],
        holds: Callable[[MessagePage], bool],
    ) -> MessagePage:
        """A page; whoever gets it must not change it.

        Args:
            read: Reads it.
            holds: Whether what was read may be kept under the key.
        """
        found = self._pages.get(key)
        if found is not None:
            self._pages.move_to_end(key)
            return found[0]
        reading = self._reading.get(key)
        if reading is None:
            # In a task of its own: of those who wait for it any may be cancelled.
            reading = asyncio.ensure_future(self._read(key, read, holds))
            reading.add_done_callback(_look_at)
            self._reading[key] = reading
        return await asyncio.shield(reading)

    async def _read(
        self,
        key: Hashable,
        read: Callable[[], Awaitable[MessagePage]],
        holds: Callable[[MessagePage], bool],
    ) -> MessagePage:
        try:
            page = await read()
            if holds(page):
                self._put(key, page)
            return page
        finally:
            del self._reading[key]

    def _put(self, key: Hashable, page: MessagePage) -> None:
        """Keeps a page; one that would push out all others is not kept."""
        size = OVERHEAD_BYTES + sum(OVERHEAD_BYTES + size_bytes(each) for each in page.messages)
        if size > self._max_bytes // 4 or key in self._pages:
            return
        self._pages[key] = (page, size)
        self.bytes += size
        while self.bytes > self._max_bytes:
            _, (_, gone) = self._pages.popitem(last=False)
            self.bytes -= gone


def _look_at(reading: asyncio.Task[MessagePage]) -> None:
    if not reading.cancelled():
        reading.exception()  # nobody may be waiting any more
