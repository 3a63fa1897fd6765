"""Writes as the rules would make them, for tests of stores."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

from chinwag.chat.v1 import channel_pb2, entry_pb2, message_pb2
from chinwag_server.chat.entries import add_reaction, redacted, state_of, timestamp
from chinwag_server.chat.ids import client_message_id_bytes
from chinwag_server.chat.store import (
    AppendEntry,
    ChannelRecord,
    ChatStore,
    DeleteReactions,
    EntryKind,
    MemberRecord,
    PutChannel,
    PutMember,
    PutMentions,
    PutMessage,
    PutReaction,
    Redact,
    Write,
)

GROUP = channel_pb2.CHANNEL_KIND_GROUP
BROADCAST = channel_pb2.CHANNEL_KIND_BROADCAST
OWNER = channel_pb2.MEMBER_ROLE_OWNER
MEMBER = channel_pb2.MEMBER_ROLE_MEMBER
START_US = 1_700_000_000_000_000


def uuid7(number: int, time_us: int = START_US) -> str:
    """The UUIDv7 number `number` of a millisecond."""
    raw = (time_us // 1000).to_bytes(6, "big") + number.to_bytes(10, "big")
    value = int.from_bytes(raw, "big") & ~(0xF << 76) & ~(0x3 << 62)
    return str(uuid.UUID(int=value | 0x7 << 76 | 0x2 << 62))


async def commit(store: ChatStore, writes: Sequence[Write]) -> int:
    """Submits and waits; gives the stamp or raises the error."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def done(stamp: int, error: Exception | None) -> None:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(stamp)

    store.submit(writes, done)
    return await future


class Author:
    """One channel's assigned state, and the writes that move it.

    Args:
        channel_id: Its id.
        users: Its members; the first is the owner.
    """

    def __init__(
        self, channel_id: str, users: Sequence[str] = ("ann", "bob"), kind: int = GROUP
    ) -> None:
        self.record = ChannelRecord(channel_id, kind, b"settings of " + channel_id.encode())
        self.members = {user: MemberRecord(channel_id, user) for user in users}
        self.payloads: dict[int, bytes] = {}
        self.states: dict[int, message_pb2.Message] = {}
        self.edits: dict[int, list[int]] = {}
        self.sent = 0
        self.main: set[int] = set()
        self.keys: list[bytes] = []

    @property
    def id(self) -> str:
        return self.record.channel_id

    @property
    def head(self) -> int:
        return self.record.head_id

    def _entry(self, actor_id: str, *, counts: bool = False) -> entry_pb2.Entry:
        record = self.record
        record.head_id += 1
        record.head_count += counts
        record.head_time_us = (record.head_time_us or START_US) + 1
        return entry_pb2.Entry(
            channel_id=record.channel_id,
            id=record.head_id,
            create_time=timestamp(record.head_time_us),
            actor_id=actor_id,
            timeline_count=record.head_count,
            count_rule=1,
        )

    def _append(self, entry: entry_pb2.Entry, kind: EntryKind, message_id: int = 0) -> AppendEntry:
        self.payloads[entry.id] = entry.SerializeToString()
        return AppendEntry(
            self.id,
            entry.id,
            kind,
            self.payloads[entry.id],
            entry.timeline_count,
            self.record.head_time_us,
            message_id,
        )

    def _put_channel(self) -> PutChannel:
        record = self.record
        members = sum(bool(row.role) for row in self.members.values())
        return PutChannel(
            ChannelRecord(
                record.channel_id,
                record.kind,
                record.settings,
                member_count=members,
                deleted=record.deleted,
            )
        )

    def member(self, user: str, **changes: object) -> PutMember:
        """The member's row with some fields set."""
        row = self.members[user]
        for name, value in changes.items():
            setattr(row, name, value)
        copy = MemberRecord(*(getattr(row, name) for name in MemberRecord.__slots__))
        return PutMember(copy, own_only="preferences" in changes)

    def create(self) -> list[Write]:
        """The channel with its members."""
        entry = self._entry(next(iter(self.members), ""))
        entry.channel_created.SetInParent()
        writes: list[Write] = [self._append(entry, EntryKind.CHANNEL_CREATED)]
        for place, user in enumerate(self.members):
            writes.append(
                self.member(
                    user,
                    role=MEMBER if place else OWNER,
                    join_id=1,
                    join_time_us=START_US,
                    ranges=((1, 0),),
                    read_id=1,
                    delivered_id=1,
                )
            )
        return [self._put_channel(), *writes]

    def send(
        self,
        user: str,
        text: str = "hello",
        *,
        root_id: int = 0,
        mentions: tuple[str, ...] = (),
        key: str = "",
        digest: bytes = b"",
    ) -> list[Write]:
        """A message, the sender's marks and what else it changes."""
        self.sent += 1
        entry = self._entry(user, counts=not root_id)
        key = key or uuid7(self.sent)
        entry.message_sent.client_message_id = key
        entry.message_sent.content.text = text
        entry.message_sent.thread_root_id = root_id
        write = self._append(entry, EntryKind.MESSAGE_SENT, entry.id)
        write.thread_root_id = root_id
        write.sender_id = user
        write.client_message_id = client_message_id_bytes(key)
        write.content_hash = digest or b"hash of " + text.encode()[:8]
        self.keys.append(write.client_message_id)
        if not root_id:
            self.main.add(entry.id)
            self.record.last_message_id = entry.id
        marks = self.member(
            user, read_id=entry.id, read_count=entry.timeline_count, delivered_id=entry.id
        )
        writes: list[Write] = [write, marks]
        if mentions:
            writes.append(PutMentions(self.id, entry.id, mentions))
        if root_id:
            state = self.state(root_id)
            state.thread.reply_count += 1
            state.thread.last_reply_id = entry.id
            writes.append(self.put_state(root_id))
        return writes

    def state(self, message_id: int) -> message_pb2.Message:
        return self.states.setdefault(message_id, message_pb2.Message(id=message_id))

    def is_deleted(self, message_id: int) -> bool:
        return message_id in self.states and self.states[message_id].HasField("delete_time")

    def put_state(self, message_id: int) -> PutMessage:
        state = self.state(message_id)
        state.last_entry_id = self.head
        edits = self.edits.get(message_id, [])
        newest = 0 if state.HasField("delete_time") or not edits else edits[-1]
        return PutMessage(self.id, message_id, state_of(state), newest)

    def edit(self, user: str, message_id: int, text: str) -> list[Write]:
        entry = self._entry(user)
        entry.message_edited.message_id = message_id
        entry.message_edited.content.text = text
        self.edits.setdefault(message_id, []).append(entry.id)
        self.state(message_id).edit_time.CopyFrom(entry.create_time)
        write = self._append(entry, EntryKind.MESSAGE_EDITED, message_id)
        return [write, self.put_state(message_id)]

    def delete(self, user: str, message_id: int) -> list[Write]:
        entry = self._entry(user)
        entry.message_deleted.message_id = message_id
        state = self.state(message_id)
        state.delete_time.CopyFrom(entry.create_time)
        del state.reactions[:]
        writes: list[Write] = [
            self._append(entry, EntryKind.MESSAGE_DELETED, message_id),
            self.put_state(message_id),
            DeleteReactions(self.id, message_id),
        ]
        for old in (message_id, *self.edits.get(message_id, [])):
            self.payloads[old] = redacted(self.payloads[old])
            writes.append(Redact(self.id, old, self.payloads[old]))
        return writes

    def react(self, user: str, message_id: int, emoji: str) -> list[Write]:
        entry = self._entry(user)
        entry.reaction_added.message_id = message_id
        entry.reaction_added.emoji = emoji
        add_reaction(self.state(message_id), emoji, user)
        return [
            self._append(entry, EntryKind.REACTION_ADDED, message_id),
            self.put_state(message_id),
            PutReaction(self.id, message_id, emoji, user, entry.id),
        ]

    def leave(self, user: str) -> list[Write]:
        entry = self._entry(user)
        entry.member_removed.user_id = user
        first = self.members[user].ranges[-1][0]
        write = self._append(entry, EntryKind.MEMBER_REMOVED)
        return [write, self.member(user, role=0, ranges=((first, entry.id),)), self._put_channel()]

    def end(self, user: str) -> list[Write]:
        """The channel's deletion."""
        entry = self._entry(user)
        entry.channel_deleted.SetInParent()
        self.record.deleted = True
        return [self._append(entry, EntryKind.CHANNEL_DELETED), self._put_channel()]
