"""Checking one channel's log: ids, counts, times, payloads, and its head."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from chinwag.chat.v1 import entry_pb2
from chinwag_server.chat.entries import time_us
from chinwag_server.chat.sqlite.schema import MAX_ENTRY_ID, entry_key
from chinwag_server.chat.store import EntryKind

_KINDS = {field.name: field.number for field in entry_pb2.Entry.DESCRIPTOR.oneofs[0].fields}
_NO_MESSAGE = -1
_ABOUT_MESSAGES = frozenset(
    {
        EntryKind.MESSAGE_EDITED,
        EntryKind.MESSAGE_DELETED,
        EntryKind.REACTION_ADDED,
        EntryKind.REACTION_REMOVED,
    }
)


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong, and where: `id` is an entry's or a mark's, 0 if it is about no entry."""

    channel_id: str
    id: int
    text: str

    def __str__(self) -> str:
        where = f"{self.channel_id or 'the store'}"
        return f"{where}/{self.id}: {self.text}" if self.id else f"{where}: {self.text}"


def parse_entry(payload: bytes) -> entry_pb2.Entry | None:
    """A payload as an entry; None if it is none."""
    try:
        return entry_pb2.Entry.FromString(payload)
    except DecodeError:
        return None


class ChannelCheck:
    """Walks a log once.

    Attributes:
        counts: timeline_count of each entry, by id - 1.
        replies: Thread's root -> ids of its messages, rising.
        changed: Message id -> the newest entry that changed it (edit, deletion, reaction, reply).
    """

    def __init__(self, connection: sqlite3.Connection, no: int) -> None:
        self._connection = connection
        self.no = no
        self.channel_id, self.kind, self.member_count, self.deleted = connection.execute(
            "SELECT channel_id, kind, member_count, deleted FROM channels WHERE no = ?", (no,)
        ).fetchone()
        heads = connection.execute(
            "SELECT head_id, head_count, head_time_us, last_message_id, entry_stamp,"
            " receipt_stamp FROM heads WHERE no = ?",
            (no,),
        ).fetchone()
        self._head: tuple[int, ...] = heads[:4] if heads else (0, 0, 0, 0)
        self.head_id: int = self._head[0]
        self.entry_stamp: int = heads[4] if heads else 0
        self.receipt_stamp: int = heads[5] if heads else 0
        self.counts = array("q")
        self._roots = array("q")
        self.replies: dict[int, list[int]] = {}
        self.changed: dict[int, int] = {}

    def violation(self, entry_id: int, text: str) -> Violation:
        """Something wrong in this channel."""
        return Violation(self.channel_id, entry_id, text)

    def count_at(self, entry_id: int) -> int:
        """timeline_count of an entry, 0 if there is none."""
        return self.counts[entry_id - 1] if 0 < entry_id <= len(self.counts) else 0

    def root_of(self, entry_id: int) -> int:
        """The thread's root of a message, 0 in the main timeline; -1 if it is no message."""
        return self._roots[entry_id - 1] if 0 < entry_id <= len(self._roots) else _NO_MESSAGE

    def run(self) -> Iterator[Violation]:
        """Walks the entries; the attributes are filled then."""
        count = last_us = last_message_id = 0
        kind = 0
        for row in self._connection.execute(
            "SELECT key, kind, timeline_count, time_us, thread_key, message_key, redacted,"
            " sender_id, payload FROM entries WHERE key >= ? AND key <= ? ORDER BY key",
            (entry_key(self.no, 0), entry_key(self.no, MAX_ENTRY_ID)),
        ):
            entry_id = row[0] & MAX_ENTRY_ID
            expected = len(self.counts) + 1
            if entry_id != expected:
                yield self.violation(entry_id, f"a hole: expected entry {expected}")
                missing = max(entry_id - expected, 0)
                self.counts.extend([count] * missing)
                self._roots.extend([_NO_MESSAGE] * missing)
            if kind == EntryKind.CHANNEL_DELETED:
                yield self.violation(entry_id, "an entry after the channel's deletion")
            kind = row[1]
            if (kind == EntryKind.CHANNEL_CREATED) != (entry_id == 1):
                yield self.violation(entry_id, f"kind {kind}: entry 1 and only that creates")
            thread_root_id = row[4] & MAX_ENTRY_ID if row[4] is not None else 0
            counts = kind == EntryKind.MESSAGE_SENT and not thread_root_id
            if row[2] != count + counts:
                yield self.violation(
                    entry_id, f"timeline_count is {row[2]}, expected {count + counts}"
                )
            if row[3] < last_us:
                yield self.violation(entry_id, f"its time {row[3]} is before {last_us}")
            count, last_us = row[2], row[3]
            self.counts.append(count)
            if counts:
                last_message_id = entry_id
            yield from self._check_links(entry_id, kind, thread_root_id, row)
            yield from self._check_payload(entry_id, row)
        found = (len(self.counts), count, last_us, last_message_id)
        if self._head != found:
            yield self.violation(
                self.head_id,
                f"the head says (id, count, time, last message) {self._head}, the log {found}",
            )
        if bool(self.deleted) != (kind == EntryKind.CHANNEL_DELETED):
            yield self.violation(
                self.head_id, f"deleted is {self.deleted}, the last entry is of kind {kind}"
            )

    def _check_links(
        self, entry_id: int, kind: int, thread_root_id: int, row: tuple[Any, ...]
    ) -> Iterator[Violation]:
        """Threads and changes are about messages of this channel that came before."""
        thread_key, message_key, sender_id = row[4], row[5], row[7]
        is_message = kind == EntryKind.MESSAGE_SENT
        self._roots.append(thread_root_id if is_message else _NO_MESSAGE)
        if is_message != (thread_key is not None) or is_message != (sender_id is not None):
            yield self.violation(entry_id, "thread_key and sender_id are those of messages only")
        if (kind in _ABOUT_MESSAGES) != (message_key is not None):
            yield self.violation(entry_id, f"message_key does not fit kind {kind}")
        for key in (thread_key, message_key):
            if key is not None and key >> (MAX_ENTRY_ID.bit_length()) != self.no:
                yield self.violation(entry_id, "it refers to another channel")
        if is_message:
            if thread_root_id:
                if self.root_of(thread_root_id) != 0:
                    yield self.violation(
                        entry_id, f"its thread's root {thread_root_id} is no main message"
                    )
                self.changed[thread_root_id] = entry_id
                self.replies.setdefault(thread_root_id, []).append(entry_id)
        elif message_key is not None:
            message_id = message_key & MAX_ENTRY_ID
            if self.root_of(message_id) == _NO_MESSAGE:
                yield self.violation(entry_id, f"it is about {message_id}, which is no message")
            self.changed[message_id] = entry_id

    def _check_payload(self, entry_id: int, row: tuple[Any, ...]) -> Iterator[Violation]:
        """The serialised entry agrees with its row; a redacted one has no content."""
        _, kind, count, at_us, thread_key, message_key, redacted, sender_id, payload = row
        entry = parse_entry(payload)
        if entry is None:
            yield self.violation(entry_id, "its payload is no Entry")
            return
        case = entry.WhichOneof("kind")
        body = getattr(entry, case) if case else None
        said = {
            "channel_id": (entry.channel_id, self.channel_id),
            "id": (entry.id, entry_id),
            "kind": (_KINDS.get(case or "", 0), kind),
            "timeline_count": (entry.timeline_count, count),
            "create_time": (time_us(entry.create_time), at_us),
            "redacted": (entry.redacted, bool(redacted)),
        }
        if kind == EntryKind.MESSAGE_SENT and case == "message_sent":
            said["actor_id"] = (entry.actor_id, sender_id)
            said["thread_root_id"] = (
                entry.message_sent.thread_root_id,
                (thread_key or 0) & MAX_ENTRY_ID,
            )
        elif message_key is not None and body is not None and kind in _ABOUT_MESSAGES:
            said["message_id"] = (getattr(body, "message_id", 0), message_key & MAX_ENTRY_ID)
        for name, (in_payload, in_row) in said.items():
            if in_payload != in_row:
                yield self.violation(
                    entry_id, f"{name} is {in_payload!r} in the payload, {in_row!r} in the row"
                )
        if (
            case in ("message_sent", "message_edited")
            and body is not None
            and entry.redacted == body.HasField("content")
        ):
            has = "redacted, but it has" if entry.redacted else "not redacted, but without"
            yield self.violation(entry_id, f"{has} content")
