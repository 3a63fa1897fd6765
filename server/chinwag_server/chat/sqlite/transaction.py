"""What a batch of submissions becomes: the rows of one transaction."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from chinwag.chat.v1 import channel_pb2
from chinwag_server.chat.sqlite import rows
from chinwag_server.chat.sqlite.channels import ChannelNumber, ChannelNumbers
from chinwag_server.chat.sqlite.schema import ENTRY_BITS, MAX_CHANNEL_NO, MAX_ENTRY_ID
from chinwag_server.chat.store import (
    AppendEntry,
    DeleteReactions,
    EntryKind,
    PutChannel,
    PutMember,
    PutMentions,
    PutMessage,
    PutReaction,
    PutRequest,
    Redact,
    Write,
    WriteRefused,
)

_MESSAGE_SENT = EntryKind.MESSAGE_SENT
_BROADCAST = channel_pb2.CHANNEL_KIND_BROADCAST


@lru_cache(4096)  # nearly all members have the same few
def pack_ranges(ranges: tuple[tuple[int, int], ...]) -> bytes:
    """Ranges of ids as pairs of little-endian int64."""
    return struct.pack(f"<{2 * len(ranges)}q", *chain.from_iterable(ranges))


class _Head:
    """How far a channel's log moves in this transaction."""

    __slots__ = ("base_id", "count", "id", "last_message_id", "time_us")

    def __init__(self, base_id: int) -> None:
        self.base_id = self.id = base_id
        self.count = self.time_us = self.last_message_id = 0


class Transaction:
    """Collects submissions and stores them as one commit.

    Later writes of a row replace earlier ones here already, so each row is written once.

    Args:
        stamp: Of this commit.
    """

    def __init__(self, connection: sqlite3.Connection, numbers: ChannelNumbers, stamp: int) -> None:
        self._connection = connection
        self._numbers = numbers
        self._stamp = stamp
        self._next_no = 0
        self._seen: dict[str, ChannelNumber] = {}
        self._channels: dict[int, tuple[Any, ...]] = {}
        self._heads: dict[int, _Head] = {}
        self._entries: list[Any] = []
        self._sends: list[Any] = []
        self._members: dict[tuple[int, str], tuple[Any, ...]] = {}
        self._receipts: set[int] = set()
        self._messages: dict[int, tuple[Any, ...]] = {}
        self._redactions: dict[int, bytes] = {}
        self._wiped: set[int] = set()
        self._reactions: dict[tuple[int, str, str], int | None] = {}
        self._mentions: list[Any] = []
        self._requests: dict[tuple[str, str], tuple[Any, ...]] = {}
        self.created: dict[str, ChannelNumber] = {}

    @property
    def redacts(self) -> bool:
        """Whether bytes were taken away that must not stay in the write-ahead log."""
        return bool(self._redactions)

    @property
    def rows(self) -> int:
        """About how many rows it writes; each may be on a page of its own."""
        return (
            len(self._entries) // 9
            + len(self._members)
            + len(self._heads)
            + len(self._messages)
            + len(self._mentions) // 2
            + 4
        )

    # --- collecting ---

    def add(self, writes: Sequence[Write]) -> None:
        """Takes in a submission.

        Raises:
            WriteRefused: It names a channel that is not there, or an entry out of turn. The
                transaction is void then.
        """
        for write in writes:
            if type(write) is PutChannel:
                self._put_channel(write)
        for write in writes:
            kind = type(write)
            if kind is AppendEntry:
                self._append(write)  # type: ignore[arg-type]
            elif kind is PutMember:
                self._put_member(write)  # type: ignore[arg-type]
            elif kind is not PutChannel:
                self._put_other(write)

    def _number(self, channel_id: str) -> ChannelNumber:
        number = self._seen.get(channel_id)
        if number is None:
            number = self._numbers.find(self._connection, channel_id)
            if number is None:
                raise WriteRefused(f"there is no channel {channel_id!r} to write to")
            self._seen[channel_id] = number
        return number

    def _put_channel(self, write: PutChannel) -> None:
        record = write.record
        number = self._seen.get(record.channel_id) or self._numbers.find(
            self._connection, record.channel_id
        )
        if number is None:
            if not self._next_no:
                (newest,) = self._connection.execute("SELECT max(no) FROM channels").fetchone()
                self._next_no = (newest or 0) + 1
            if self._next_no > MAX_CHANNEL_NO:
                raise WriteRefused(f"a file holds at most {MAX_CHANNEL_NO} channels")
            number = ChannelNumber(self._next_no, record.kind)
            self._next_no += 1
            self.created[record.channel_id] = number
        self._seen[record.channel_id] = number
        self._channels[number.no] = (
            number.no,
            record.channel_id,
            record.kind,
            record.member_count,
            record.deleted,
            record.settings,
        )

    def _append(self, write: AppendEntry) -> None:
        no = self._number(write.channel_id).no
        entry_id = write.id
        head = self._heads.get(no)
        if head is None:
            head = self._heads[no] = _Head(entry_id - 1)
        if entry_id != head.id + 1 or entry_id > MAX_ENTRY_ID:
            raise WriteRefused(f"{write.channel_id!r}: entry {entry_id} after head {head.id}")
        base = no << ENTRY_BITS
        head.id = entry_id
        head.count = write.timeline_count
        head.time_us = write.time_us
        if write.kind == _MESSAGE_SENT:
            if not write.thread_root_id:
                head.last_message_id = entry_id
            self._entries += (
                base | entry_id,
                16,
                write.timeline_count,
                write.time_us,
                base | write.thread_root_id,
                None,
                0,
                write.sender_id,
                write.payload,
            )
        else:
            self._entries += (
                base | entry_id,
                int(write.kind),
                write.timeline_count,
                write.time_us,
                None,
                base | write.message_id if write.message_id else None,
                0,
                None,
                write.payload,
            )
        if write.client_message_id:
            self._sends += (
                write.client_message_id,
                no,
                write.sender_id,
                entry_id,
                write.time_us,
                write.content_hash,
            )

    def _put_member(self, write: PutMember) -> None:
        row = write.record
        no, kind = self._number(row.channel_id)
        self._members[no, row.user_id] = (
            no,
            row.user_id,
            row.role,
            row.join_id,
            row.join_time_us,
            row.read_id,
            row.read_count,
            row.delivered_id,
            row.archived,
            row.pinned,
            self._stamp,
            pack_ranges(row.ranges),
            row.preferences,
        )
        # Nobody else asks for the marks of a broadcast channel, which may have a million.
        if not write.own_only and kind != _BROADCAST:
            self._receipts.add(no)

    def _put_other(self, write: Write) -> None:
        if isinstance(write, PutRequest):
            self._requests[write.scope, write.request_id] = (
                write.scope,
                write.request_id,
                write.time_us,
                write.content_hash,
                write.response,
            )
            return
        assert not isinstance(write, PutChannel | PutMember | AppendEntry)
        base = self._number(write.channel_id).no << ENTRY_BITS
        if isinstance(write, PutMessage):
            key = base | write.message_id
            content_key = base | write.content_entry_id if write.content_entry_id else None
            self._messages[key] = (key, content_key, write.state)
        elif isinstance(write, Redact):
            self._redactions[base | write.id] = write.payload
        elif isinstance(write, PutReaction):
            key = base | write.message_id
            self._reactions[key, write.emoji, write.user_id] = write.entry_id
        elif isinstance(write, DeleteReactions):
            key = base | write.message_id
            if write.emoji or write.user_id:
                self._reactions[key, write.emoji, write.user_id] = None
            else:
                self._wiped.add(key)
                for reaction in [r for r in self._reactions if r[0] == key]:
                    del self._reactions[reaction]
        elif isinstance(write, PutMentions):
            for user_id in write.user_ids:
                self._mentions += (user_id, base | write.entry_id)

    # --- storing ---

    def execute(self) -> None:
        """Writes everything; the caller begins and commits.

        Raises:
            WriteRefused: It contradicts what is stored.
            sqlite3.Error: It cannot be written.
        """
        connection, stamp = self._connection, self._stamp
        if self._channels:
            rows.CHANNELS.run(connection, list(chain.from_iterable(self._channels.values())))
        if self.created:
            zeros = [v for number in self.created.values() for v in (number.no, 0, 0, 0, 0, 0, 0)]
            rows.NEW_HEADS.run(connection, zeros)
        if self._heads:
            self._move_heads()
            rows.ENTRIES.run(connection, self._entries)
            feed = chain.from_iterable((no, h.base_id + 1, h.id) for no, h in self._heads.items())
            connection.execute(
                "INSERT INTO feed (stamp, ranges) VALUES (?, ?)",
                (stamp, struct.pack(f"<{3 * len(self._heads)}q", *feed)),
            )
        if self._sends:
            rows.SENDS.run(connection, self._sends)
        if self._members:
            rows.MEMBERS.run(connection, list(chain.from_iterable(self._members.values())))
        quiet = [v for no in self._receipts if no not in self._heads for v in (no, stamp)]
        if quiet:
            rows.RECEIPTS.run(connection, quiet)
        if self._messages:
            rows.MESSAGES.run(connection, list(chain.from_iterable(self._messages.values())))
        if self._redactions:
            self._redact()
        if self._wiped or self._reactions:
            self._react()
        if self._mentions:
            rows.MENTIONS.run(connection, self._mentions)
        if self._requests:
            rows.REQUESTS.run(connection, list(chain.from_iterable(self._requests.values())))
        connection.execute("UPDATE store SET stamp = ?", (stamp,))

    def _move_heads(self) -> None:
        moves: list[Any] = []
        for no, head in self._heads.items():
            receipt = self._stamp if no in self._receipts else 0
            moves += (
                no,
                head.base_id,
                head.id,
                head.count,
                head.time_us,
                head.last_message_id,
                receipt,
                self._stamp,
            )
        if rows.HEADS.run(self._connection, moves) != len(self._heads):
            raise WriteRefused("an entry is not the one after its channel's stored head")

    def _redact(self) -> None:
        for key, payload in self._redactions.items():
            cursor = self._connection.execute(
                "UPDATE entries SET payload = ?, redacted = 1 WHERE key = ?", (payload, key)
            )
            if not cursor.rowcount:
                raise WriteRefused(f"there is no entry {key & MAX_ENTRY_ID} to redact")

    def _react(self) -> None:
        connection = self._connection
        for key in self._wiped:
            connection.execute("DELETE FROM reactions WHERE key = ?", (key,))
        taken = [reaction for reaction, entry_id in self._reactions.items() if entry_id is None]
        for reaction in taken:
            connection.execute(
                "DELETE FROM reactions WHERE key = ? AND emoji = ? AND user_id = ?", reaction
            )
        given = [
            value
            for reaction, entry_id in self._reactions.items()
            if entry_id is not None
            for value in (*reaction, entry_id)
        ]
        if given:
            rows.REACTIONS.run(connection, given)
