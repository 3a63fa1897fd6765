"""Reading entries, messages, idempotency rows and the feed."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator, Sequence

from chinwag_server.chat.paging import cut_page
from chinwag_server.chat.sqlite.channels import ChannelNumbers
from chinwag_server.chat.sqlite.schema import MAX_ENTRY_ID, entry_key
from chinwag_server.chat.sqlite.statements import ManyRows
from chinwag_server.chat.store import (
    FeedRange,
    MessagePage,
    Ranges,
    StoredEntry,
    StoredMessage,
    StoredRequest,
    StoredSend,
)

_MESSAGE = """
    SELECT e.key, e.payload, m.state, c.payload FROM entries e
    LEFT JOIN messages m ON m.key = e.key LEFT JOIN entries c ON c.key = m.content_key
"""
_FIND_SENDS = ManyRows(
    "WITH wanted (place, client_message_id, no, sender_id) AS (",
    4,
    ") SELECT wanted.place, s.message_id, s.content_hash FROM wanted CROSS JOIN sends s"
    " ON s.client_message_id = wanted.client_message_id AND s.no = wanted.no"
    " AND s.sender_id = wanted.sender_id",
)


class LogReads:
    """Reads through one connection: at most one thread at a time."""

    def __init__(self, connection: sqlite3.Connection, numbers: ChannelNumbers) -> None:
        self._connection = connection
        self._numbers = numbers

    def number(self, channel_id: str) -> int | None:
        """The channel's number; None if there is none."""
        found = self._numbers.find(self._connection, channel_id)
        return found.no if found is not None else None

    def entries(
        self, channel_id: str, after_id: int, to_id: int, limit: int, max_bytes: int
    ) -> list[StoredEntry]:
        no = self.number(channel_id)
        if no is None or to_id <= 0:
            return []
        found: list[StoredEntry] = []
        size = 0
        for key, payload in self._connection.execute(
            "SELECT key, payload FROM entries WHERE key > ? AND key <= ? ORDER BY key LIMIT ?",
            (entry_key(no, after_id), entry_key(no, to_id), limit),
        ):
            size += len(payload)
            if found and size > max_bytes:
                break
            found.append(StoredEntry(key & MAX_ENTRY_ID, payload))
        return found

    def entry(self, channel_id: str, entry_id: int) -> bytes | None:
        no = self.number(channel_id)
        if no is None:
            return None
        row = self._connection.execute(
            "SELECT payload FROM entries WHERE key = ?", (entry_key(no, entry_id),)
        ).fetchone()
        return row[0] if row else None

    def entries_of_message(self, channel_id: str, message_id: int) -> list[StoredEntry]:
        no = self.number(channel_id)
        if no is None:
            return []
        key = entry_key(no, message_id)
        return [
            StoredEntry(found & MAX_ENTRY_ID, payload)
            for found, payload in self._connection.execute(
                "SELECT key, payload FROM entries WHERE key = ? AND kind = 16 UNION ALL"
                " SELECT key, payload FROM entries WHERE message_key = ? AND kind = 17"
                " ORDER BY key",
                (key, key),
            )
        ]

    def timeline_count(self, channel_id: str, entry_id: int) -> int:
        no = self.number(channel_id)
        if no is None:
            return 0
        row = self._connection.execute(
            "SELECT timeline_count FROM entries WHERE key = ?", (entry_key(no, entry_id),)
        ).fetchone()
        return row[0] if row else 0

    def message(self, channel_id: str, message_id: int) -> StoredMessage | None:
        no = self.number(channel_id)
        if no is None:
            return None
        row = self._connection.execute(
            _MESSAGE + "WHERE e.key = ? AND e.kind = 16", (entry_key(no, message_id),)
        ).fetchone()
        return _stored(row) if row else None

    def last_messages(self, wanted: Sequence[tuple[str, int]]) -> dict[str, StoredMessage]:
        found = {}
        for channel_id, message_id in wanted:
            message = self.message(channel_id, message_id)
            if message is not None:
                found[channel_id] = message
        return found

    def messages(
        self,
        channel_id: str,
        ranges: Ranges,
        thread_root_id: int,
        anchor: str,
        anchor_id: int,
        limit: int,
        max_bytes: int,
    ) -> MessagePage:
        no = self.number(channel_id)
        if no is None:
            return MessagePage()
        thread_key = entry_key(no, thread_root_id)
        # "before" has the anchor itself on the far side, "after" on the near one.
        split = anchor_id + (anchor == "after")
        below = [(a, min(b, split - 1)) for a, b in reversed(ranges) if a < split]
        above = [(max(a, split), b) for a, b in ranges if b >= split]
        # Both sides and the edited contents have to be of one moment.
        self._connection.execute("BEGIN")
        try:
            return cut_page(
                anchor,
                self._walk(no, thread_key, below, "DESC", limit + 1),
                self._walk(no, thread_key, above, "ASC", limit + 1),
                limit,
                max_bytes,
            )
        finally:
            self._connection.execute("COMMIT")

    def _walk(
        self, no: int, thread_key: int, ranges: Ranges, direction: str, limit: int
    ) -> Iterator[StoredMessage]:
        for first, last in ranges:
            for row in self._connection.execute(
                _MESSAGE + "WHERE e.thread_key = ? AND e.key >= ? AND e.key <= ?"
                f" ORDER BY e.key {direction} LIMIT ?",
                (thread_key, entry_key(no, first), entry_key(no, last), limit),
            ):
                yield _stored(row)

    def has_reaction(self, channel_id: str, message_id: int, emoji: str, user_id: str) -> bool:
        no = self.number(channel_id)
        if no is None:
            return False
        row = self._connection.execute(
            "SELECT 1 FROM reactions WHERE key = ? AND emoji = ? AND user_id = ?",
            (entry_key(no, message_id), emoji, user_id),
        ).fetchone()
        return row is not None

    def reaction_users(self, channel_id: str, message_id: int, emoji: str, limit: int) -> list[str]:
        no = self.number(channel_id)
        if no is None:
            return []
        rows = self._connection.execute(
            "SELECT user_id FROM reactions WHERE key = ? AND emoji = ?"
            " ORDER BY entry_id, user_id LIMIT ?",
            (entry_key(no, message_id), emoji, limit),
        )
        return [user_id for (user_id,) in rows]

    def mention_count(self, channel_id: str, user_id: str, after_id: int, to_id: int) -> int:
        no = self.number(channel_id)
        if no is None:
            return 0
        bounds = (entry_key(no, after_id), entry_key(no, to_id))
        (count,) = self._connection.execute(
            "SELECT count(*) FROM ("
            "SELECT key FROM mentions WHERE user_id = ? AND key > ? AND key <= ? UNION "
            "SELECT key FROM mentions WHERE user_id = '' AND key > ? AND key <= ?)",
            (user_id, *bounds, *bounds),
        ).fetchone()
        return int(count)

    def find_sends(self, keys: Sequence[tuple[str, str, bytes]]) -> list[StoredSend | None]:
        found: list[StoredSend | None] = [None] * len(keys)
        wanted: list[int | str | bytes] = []
        for place, (channel_id, sender_id, client_message_id) in enumerate(keys):
            no = self.number(channel_id)
            if no is not None:
                wanted += (place, client_message_id, no, sender_id)
        for place, message_id, content_hash in _FIND_SENDS.rows(self._connection, wanted):
            found[place] = StoredSend(message_id, content_hash)
        return found

    def find_request(self, scope: str, request_id: str) -> StoredRequest | None:
        row = self._connection.execute(
            "SELECT content_hash, response FROM requests WHERE scope = ? AND request_id = ?",
            (scope, request_id),
        ).fetchone()
        return StoredRequest(*row) if row else None

    def messages_of_sender(
        self, sender_id: str, after: tuple[str, int], limit: int
    ) -> list[tuple[str, int]]:
        after_channel_id, after_id = after
        channels = self._connection.execute(
            "SELECT c.channel_id, c.no FROM members m CROSS JOIN channels c ON c.no = m.no"
            " WHERE m.user_id = ? AND c.channel_id >= ? ORDER BY c.channel_id",
            (sender_id, after_channel_id),
        ).fetchall()
        found: list[tuple[str, int]] = []
        for channel_id, no in channels:
            start = after_id if channel_id == after_channel_id else 0
            found += (
                (channel_id, key & MAX_ENTRY_ID)
                for (key,) in self._connection.execute(
                    "SELECT key FROM entries WHERE key > ? AND key <= ? AND kind = 16"
                    " AND redacted = 0 AND sender_id = ? ORDER BY key LIMIT ?",
                    (
                        entry_key(no, start),
                        entry_key(no, MAX_ENTRY_ID),
                        sender_id,
                        limit - len(found),
                    ),
                )
            )
            if len(found) >= limit:
                break
        return found

    def feed(self, after_stamp: int, to_stamp: int, limit: int) -> list[FeedRange]:
        found: list[FeedRange] = []
        names: dict[int, str] = {}
        for stamp, packed in self._connection.execute(
            "SELECT stamp, ranges FROM feed WHERE stamp > ? AND stamp <= ? ORDER BY stamp",
            (after_stamp, to_stamp),
        ):
            if len(found) >= limit:
                break
            for no, first_id, last_id in struct.iter_unpack("<3q", packed):
                name = names.get(no)
                if name is None:
                    (name,) = self._connection.execute(
                        "SELECT channel_id FROM channels WHERE no = ?", (no,)
                    ).fetchone()
                    names[no] = name
                found.append(FeedRange(stamp, name, first_id, last_id))
        return found


def _stored(row: tuple[int, bytes, bytes | None, bytes | None]) -> StoredMessage:
    key, entry, state, content_entry = row
    return StoredMessage(key & MAX_ENTRY_ID, entry, state, content_entry)
