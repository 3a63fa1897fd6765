"""Cutting a page of messages out of what lies on both sides of an anchor: one rule for all
stores."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from chinwag_server.chat.store import MessagePage, StoredMessage


class _Side:
    """The messages on one side, nearest first; one is read ahead to know whether there is more."""

    def __init__(self, messages: Iterable[StoredMessage]) -> None:
        self._messages: Iterator[StoredMessage] = iter(messages)
        self.next: StoredMessage | None = next(self._messages, None)

    def take(self) -> StoredMessage:
        taken = self.next
        assert taken is not None
        self.next = next(self._messages, None)
        return taken


def size_bytes(message: StoredMessage) -> int:
    """What a message weighs in a page."""
    return len(message.entry) + len(message.state or b"") + len(message.content_entry or b"")


def cut_page(
    anchor: str,
    before: Iterable[StoredMessage],
    after: Iterable[StoredMessage],
    limit: int,
    max_bytes: int,
) -> MessagePage:
    """A page next to, or around, an anchor.

    Args:
        anchor: "before", "after" or "around".
        before: The messages below the anchor, ids falling; read as far as needed.
        after: The messages above it, ids rising; with "around" from the anchor itself on.
        limit: At most so many messages.
        max_bytes: About so many bytes, but at least one message.

    Raises:
        ValueError: Another anchor.
    """
    if anchor not in ("before", "after", "around"):
        raise ValueError(f"an anchor is before, after or around, not {anchor!r}")
    low, high = _Side(before), _Side(after)
    page: deque[StoredMessage] = deque()
    size = 0
    # "around" starts with the anchor and takes from both sides in turn.
    upward = anchor != "before"
    while len(page) < limit and (not page or size < max_bytes):
        side = high if upward else low
        if side.next is None and anchor == "around":
            upward = not upward
            side = high if upward else low
        if side.next is None or (page and size + size_bytes(side.next) > max_bytes):
            break
        taken = side.take()
        size += size_bytes(taken)
        if upward:
            page.append(taken)
        else:
            page.appendleft(taken)
        if anchor == "around":
            upward = not upward
    return MessagePage(list(page), low.next is not None, high.next is not None)
