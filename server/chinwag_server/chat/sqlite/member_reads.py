"""Reading channels and members."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from chinwag.chat.v1 import channel_pb2
from chinwag_server.chat.sqlite.channels import ChannelNumbers
from chinwag_server.chat.store import ChannelRecord, MemberRecord

_CHANNEL = """c.channel_id, c.kind, c.settings, h.head_id, h.head_count, h.head_time_us,
    h.last_message_id, c.member_count, c.deleted"""
_CHANNEL_WIDTH = 9
_MEMBER = """m.user_id, m.role, m.join_id, m.join_time_us, m.ranges, m.read_id, m.read_count,
    m.delivered_id, m.preferences, m.archived, m.pinned"""
# CROSS JOIN keeps SQLite to this order: from the user's rows to the channels.
_OF_USER = """FROM members m CROSS JOIN channels c ON c.no = m.no
    CROSS JOIN heads h ON h.no = m.no WHERE m.user_id = ?"""

_ONE_CHANNEL = (
    f"SELECT {_CHANNEL} FROM channels c JOIN heads h ON h.no = c.no WHERE c.channel_id = ?"  # noqa: S608
)
_OF_CHANNEL = f"SELECT {_MEMBER} FROM members m WHERE m.no = ? "  # noqa: S608


@lru_cache(4096)
def unpack_ranges(packed: bytes) -> tuple[tuple[int, int], ...]:
    """The opposite of `pack_ranges`."""
    return tuple((first, last) for first, last in struct.iter_unpack("<2q", packed))


class MemberReads:
    """Reads through one connection: at most one thread at a time."""

    def __init__(
        self, connection: sqlite3.Connection, numbers: ChannelNumbers, generation: int
    ) -> None:
        self._connection = connection
        self._numbers = numbers
        self._generation = generation

    def channel(self, channel_id: str) -> ChannelRecord | None:
        row = self._connection.execute(
            _ONE_CHANNEL,
            (channel_id,),
        ).fetchone()
        return self._channel(row) if row else None

    def members(self, channel_id: str) -> list[MemberRecord]:
        return self._members(channel_id, "", ())

    def member(self, channel_id: str, user_id: str) -> MemberRecord | None:
        found = self._members(channel_id, "AND m.user_id = ?", (user_id,))
        return found[0] if found else None

    def member_page(self, channel_id: str, after_user_id: str, limit: int) -> list[MemberRecord]:
        return self._members(
            channel_id,
            "AND m.user_id > ? AND m.role <> 0 ORDER BY m.user_id LIMIT ?",
            (after_user_id, limit),
        )

    def _members(self, channel_id: str, where: str, values: tuple[Any, ...]) -> list[MemberRecord]:
        number = self._numbers.find(self._connection, channel_id)
        if number is None:
            return []
        rows = self._connection.execute(_OF_CHANNEL + where, (number.no, *values))
        return [_member(channel_id, row) for row in rows]

    def user_channels(
        self, user_id: str, since_stamp: int
    ) -> list[tuple[ChannelRecord, MemberRecord]]:
        text, values = f"SELECT {_CHANNEL}, {_MEMBER} {_OF_USER}", [user_id]
        if since_stamp:
            return self._pairs(
                text + " AND (m.stamp > ? OR h.entry_stamp > ? OR (h.receipt_stamp > ?"
                f" AND c.kind <> {channel_pb2.CHANNEL_KIND_BROADCAST}))",
                (user_id, since_stamp, since_stamp, since_stamp),
            )
        return self._pairs(text, values)

    def user_channel_page(
        self,
        user_id: str,
        kinds: Sequence[int],
        include_archived: bool,
        after: tuple[bool, int, str] | None,
        limit: int,
    ) -> list[tuple[ChannelRecord, MemberRecord]]:
        text = f"SELECT m.no {_OF_USER} AND m.role <> 0"
        values: list[Any] = [user_id]
        if kinds:
            text += f" AND c.kind IN ({', '.join('?' * len(kinds))})"
            values += kinds
        if not include_archived:
            text += " AND m.archived = 0"
        if after is not None:
            pinned, head_time_us, channel_id = after
            text += " AND (-m.pinned, -h.head_time_us, c.channel_id) > (?, ?, ?)"
            values += (-int(pinned), -head_time_us, channel_id)
        order = " ORDER BY m.pinned DESC, h.head_time_us DESC, c.channel_id"
        # Sorted by number first: the sorter would carry the settings of all channels.
        return self._pairs(
            f"SELECT {_CHANNEL}, {_MEMBER} {_OF_USER} AND m.no IN ({text}{order} LIMIT ?){order}",
            (user_id, *values, limit),
        )

    def count_user_channels(self, user_id: str) -> int:
        (count,) = self._connection.execute(
            "SELECT count(*) FROM members m CROSS JOIN channels c ON c.no = m.no"
            " WHERE m.user_id = ? AND m.role <> 0 AND c.deleted = 0",
            (user_id,),
        ).fetchone()
        return int(count)

    def _pairs(self, text: str, values: Sequence[Any]) -> list[tuple[ChannelRecord, MemberRecord]]:
        return [
            (self._channel(row[:_CHANNEL_WIDTH]), _member(row[0], row[_CHANNEL_WIDTH:]))
            for row in self._connection.execute(text, values)
        ]

    def _channel(self, row: tuple[Any, ...]) -> ChannelRecord:
        channel_id, kind, settings, head_id, count, time_us, last_id, members, deleted = row
        return ChannelRecord(
            channel_id,
            kind,
            settings,
            self._generation,
            head_id,
            count,
            time_us,
            last_id,
            members,
            bool(deleted),
        )


def _member(channel_id: str, row: tuple[Any, ...]) -> MemberRecord:
    user_id, role, join_id, join_us, ranges, read_id, count, delivered_id, own, put, pin = row
    return MemberRecord(
        channel_id,
        user_id,
        role,
        join_id,
        join_us,
        unpack_ranges(ranges),
        read_id,
        count,
        delivered_id,
        own,
        bool(put),
        bool(pin),
    )
