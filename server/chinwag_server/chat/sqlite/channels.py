"""Which number a channel has inside the file."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

MAX_CACHED = 200_000  # about 200 bytes each


class ChannelNumber(NamedTuple):
    """A channel's key in the file and its `ChannelKind`, which never changes."""

    no: int
    kind: int


class ChannelNumbers:
    """A bounded cache of committed channels, shared by the writer and all readers.

    A channel's number never changes and is never given again, so an element cannot become wrong;
    what a transaction makes is put in after its commit. Each operation is one of a dict, so
    threads need no lock.
    """

    def __init__(self, max_cached: int = MAX_CACHED) -> None:
        self._known: dict[str, ChannelNumber] = {}
        self._max_cached = max_cached

    def find(self, connection: sqlite3.Connection, channel_id: str) -> ChannelNumber | None:
        """A channel's number, read through `connection` if need be; None if it has none."""
        known = self._known.get(channel_id)
        if known is not None:
            return known
        row = connection.execute(
            "SELECT no, kind FROM channels WHERE channel_id = ?", (channel_id,)
        ).fetchone()
        if row is None:
            return None
        found = ChannelNumber(*row)
        self.add({channel_id: found})
        return found

    def add(self, committed: dict[str, ChannelNumber]) -> None:
        """Takes in channels that are stored for certain."""
        if len(self._known) + len(committed) > self._max_cached:
            self._known.clear()
        self._known.update(committed)
