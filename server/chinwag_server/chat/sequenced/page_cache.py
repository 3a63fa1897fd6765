"""Pages of messages that an owner has read, for who scrolls to the same place.

Only its owner changes a channel, so a page holds until the owner changes a message: each change
raises the channel's version, which is part of the key, and pages of older versions age out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

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
        self.bytes = 0

    def get(self, key: Hashable) -> MessagePage | None:
        """A page; whoever gets it must not change it."""
        found = self._pages.get(key)
        if found is None:
            return None
        self._pages.move_to_end(key)
        return found[0]

    def put(self, key: Hashable, page: MessagePage) -> None:
        """Keeps a page; one that would push out all others is not kept."""
        size = OVERHEAD_BYTES + sum(OVERHEAD_BYTES + size_bytes(each) for each in page.messages)
        if size > self._max_bytes // 4 or key in self._pages:
            return
        self._pages[key] = (page, size)
        self.bytes += size
        while self.bytes > self._max_bytes:
            _, (_, gone) = self._pages.popitem(last=False)
            self.bytes -= gone
