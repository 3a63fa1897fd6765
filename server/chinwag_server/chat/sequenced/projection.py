"""What follows from a log's entries, as rows: each cell with a timestamp that cannot go back.

A cell that the log decides is written at the id of the entry that decided it: so twice, or late,
does no harm, and the order of the log wins. A mark is written at its own value, for the same
reason. A register that no entry tells of (preferences, who is in a broadcast channel) is written at
a number of its owner's epoch.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from itertools import chain

from chinwag.chat.v1 import channel_pb2
from chinwag_server.chat.sequenced import schema
from chinwag_server.chat.sequenced.tables import Delete, Key, Put, Row, Value
from chinwag_server.chat.store import (
    ChannelRecord,
    DeleteReactions,
    MemberRecord,
    PutChannel,
    PutMember,
    PutMentions,
    PutMessage,
    PutReaction,
    PutRequest,
    Write,
)

_BROADCAST = channel_pb2.CHANNEL_KIND_BROADCAST
# Registers of a shard and epoch that can be told apart.
REGISTER_BITS = 24

Rows = list[Put | Delete]


class Projector:
    """Turns the writes of one channel into rows, and leaves out the cells that are stored already.

    Args:
        next_register: The next timestamp of a register, rising with epochs.
    """

    def __init__(self, channel_id: str, kind: int, next_register: Callable[[], int]) -> None:
        self._channel_id = channel_id
        self.kind = kind
        self._next_register = next_register
        self._members: dict[str, dict[str, Value]] = {}

    def knows(self, member: MemberRecord) -> None:
        """The row of a member is stored like this."""
        self._members[member.user_id] = member_cells(member)

    def rows(self, at_id: int, writes: Iterable[Write]) -> Rows:
        """The rows of writes that follow from entry `at_id`, or were made when it was the head.
        Redactions are not among them: they are the log's."""
        found: Rows = []
        for write in writes:
            if isinstance(write, PutMember):
                found += self._member(at_id, write)
            elif isinstance(write, PutChannel):
                found.append(self._channel(at_id, write))
            else:
                found += self._other(at_id, write)
        return found

    def reply(self, root_id: int, entry_id: int) -> Put:
        """The row that finds a message of a thread."""
        place = (self._channel_id, root_id, entry_id // schema.WIDE_BUCKET)
        return Put(schema.REPLIES, place, (entry_id,), {"kind": 1}, entry_id)

    def edit(self, message_id: int, entry_id: int) -> Put:
        """The row that finds an edit of a message."""
        place = (self._channel_id, message_id)
        return Put(schema.EDITS, place, (entry_id,), {"kind": 1}, entry_id)

    def own_mark(self, user_id: str, entry_id: int, count: int) -> Rows:
        """The marks of somebody who sent: they have read up to their own message."""
        known = self._members.setdefault(user_id, {})
        cells: dict[str, Value] = {
            "read_id": entry_id,
            "read_count": count,
            "delivered_id": entry_id,
        }
        known.update(cells)
        return self._both(user_id, cells, entry_id)

    def _channel(self, at_id: int, write: PutChannel) -> Put:
        record = write.record
        self.kind = record.kind
        cells = channel_cells(record)
        timestamp = self._next_register() if record.kind == _BROADCAST else at_id
        return Put(schema.CHANNELS, (self._channel_id,), (), cells, timestamp)

    def _member(self, at_id: int, write: PutMember) -> Rows:
        record = write.record
        known = self._members.get(record.user_id, {})
        cells = member_cells(record)
        self._members[record.user_id] = cells
        changed = {name: value for name, value in cells.items() if known.get(name) != value}
        by_time: dict[int, dict[str, Value]] = {}
        register = 0
        for name, value in changed.items():
            if name in _READ:
                timestamp = max(record.read_id, 1)
            elif name == "delivered_id":
                timestamp = max(record.delivered_id, 1)
            elif name in _REGISTERS or self.kind == _BROADCAST:
                register = register or self._next_register()
                timestamp = register
            else:
                timestamp = at_id
            by_time.setdefault(timestamp, {})[name] = value
        return [
            row
            for timestamp, some in by_time.items()
            for row in self._both(record.user_id, some, timestamp)
        ]

    def _both(self, user_id: str, cells: dict[str, Value], timestamp: int) -> Rows:
        slot = schema.slot_of(user_id, is_broadcast=self.kind == _BROADCAST)
        return [
            Put(schema.USER_CHANNELS, (user_id,), (self._channel_id,), cells, timestamp),
            Put(schema.MEMBERS, (self._channel_id, slot), (user_id,), cells, timestamp),
        ]

    def _other(self, at_id: int, write: Write) -> Rows:
        channel_id = self._channel_id
        if isinstance(write, PutMessage):
            message_id = write.message_id
            place: Key = (channel_id, schema.bucket_of(message_id))
            cells: dict[str, Value] = {
                "state": write.state,
                "content_entry_id": write.content_entry_id,
            }
            return [Put(schema.MESSAGES, place, (message_id,), cells, at_id)]
        if isinstance(write, PutReaction):
            place = (channel_id, write.message_id)
            key: Key = (write.emoji, write.user_id)
            return [Put(schema.REACTIONS, place, key, {"entry_id": write.entry_id}, at_id)]
        if isinstance(write, DeleteReactions):
            place = (channel_id, write.message_id)
            key = (write.emoji, write.user_id) if write.emoji or write.user_id else ()
            return [Delete(schema.REACTIONS, place, key, key, at_id)]
        if isinstance(write, PutMentions):
            bucket = write.entry_id // schema.WIDE_BUCKET
            return [
                Put(
                    schema.MENTIONS,
                    (channel_id, user_id, bucket),
                    (write.entry_id,),
                    {"kind": 1},
                    at_id,
                )
                for user_id in write.user_ids
            ]
        if isinstance(write, PutRequest):
            return [answer_row(write)]
        raise TypeError(f"no row follows from {write!r}")


_READ = frozenset({"read_id", "read_count"})
_REGISTERS = frozenset({"preferences", "archived", "pinned"})


def batches(rows: Iterable[Put | Delete]) -> list[Rows]:
    """Rows by partition key, in the order in which each came first: a user's list before the
    channel's, so that who is a member is always listed."""
    found: dict[Key, Rows] = {}
    for row in rows:
        found.setdefault(row.partition, []).append(row)
    return list(found.values())


def newest(rows: Iterable[Put | Delete]) -> Rows:
    """Rows without those of which a later one sets the same cells."""
    found: dict[object, Put | Delete] = {}
    for number, row in enumerate(rows):
        key: object = number
        if isinstance(row, Put):
            key = (row.table.name, row.partition, row.key, *row.cells)
            other = found.get(key)
            if other is not None and other.timestamp > row.timestamp:
                continue
        found[key] = row
    return list(found.values())


def answer_row(write: PutRequest) -> Put:
    """The row of the answer to a request id."""
    cells: dict[str, Value] = {
        "content_hash": write.content_hash,
        "response": write.response,
        "time_us": write.time_us,
    }
    place = (write.scope, write.request_id)
    return Put(schema.REQUESTS, place, (), cells, max(write.time_us, 1))


def channel_cells(record: ChannelRecord) -> dict[str, Value]:
    """A channel's row as cells, without its head."""
    return {
        "kind": record.kind,
        "settings": record.settings,
        "deleted": record.deleted,
        "member_count": record.member_count,
    }


def member_cells(record: MemberRecord) -> dict[str, Value]:
    """A member's row as cells."""
    bounds = tuple(chain.from_iterable(record.ranges))
    return {
        "role": record.role,
        "join_id": record.join_id,
        "join_time_us": record.join_time_us,
        "ranges": struct.pack(f"<{len(bounds)}q", *bounds),
        "read_id": record.read_id,
        "read_count": record.read_count,
        "delivered_id": record.delivered_id,
        "preferences": record.preferences,
        "archived": record.archived,
        "pinned": record.pinned,
    }


def member_of(channel_id: str, user_id: str, row: Row) -> MemberRecord:
    """A member's row from cells."""
    packed = row.blob("ranges")
    bounds = struct.unpack(f"<{len(packed) // 8}q", packed)
    return MemberRecord(
        channel_id,
        user_id,
        row.number("role"),
        row.number("join_id"),
        row.number("join_time_us"),
        tuple(zip(bounds[::2], bounds[1::2], strict=True)),
        row.number("read_id"),
        row.number("read_count"),
        row.number("delivered_id"),
        row.blob("preferences"),
        bool(row.number("archived")),
        bool(row.number("pinned")),
    )
