"""What the in-memory store holds, and what each write does to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from chinwag_server.chat.store import (
    AppendEntry,
    ChannelRecord,
    DeleteReactions,
    EntryKind,
    FeedRange,
    MemberRecord,
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


@dataclass(slots=True)
class MemberRow:
    """A member's record and the stamp of its newest change."""

    record: MemberRecord
    stamp: int


@dataclass(slots=True)
class ChannelTable:
    """All of one channel; `entries[id - 1]` is the entry with that id.

    Attributes:
        redacted: Ids of entries that lost their payload.
        reactions: (message id, emoji, user) -> entry id.
        mentions: entry id -> users, "" for everyone.
    """

    record: ChannelRecord
    entries: list[AppendEntry] = field(default_factory=list)
    redacted: set[int] = field(default_factory=set)
    members: dict[str, MemberRow] = field(default_factory=dict)
    messages: dict[int, PutMessage] = field(default_factory=dict)
    reactions: dict[tuple[int, str, str], int] = field(default_factory=dict)
    mentions: dict[int, set[str]] = field(default_factory=dict)
    entry_stamp: int = 0
    receipt_stamp: int = 0


@dataclass(slots=True)
class Tables:
    """Everything. `sends` is by (channel, sender, client_message_id)."""

    channels: dict[str, ChannelTable] = field(default_factory=dict)
    sends: dict[tuple[str, str, bytes], AppendEntry] = field(default_factory=dict)
    requests: dict[tuple[str, str], PutRequest] = field(default_factory=dict)
    feed: list[FeedRange] = field(default_factory=list)

    def refuse(self, writes: Sequence[Write]) -> None:
        """Checks a submission before anything of it is applied.

        Raises:
            WriteRefused: It contradicts what is stored.
        """
        created = {w.record.channel_id for w in writes if isinstance(w, PutChannel)}
        heads: dict[str, int] = {}
        sends: set[tuple[str, str, bytes]] = set()
        for write in writes:
            if isinstance(write, PutRequest):
                continue
            channel_id = channel_of(write)
            table = self.channels.get(channel_id)
            if table is None and channel_id not in created:
                raise WriteRefused(f"there is no channel {channel_id!r} to write to")
            head = heads.get(channel_id, len(table.entries) if table else 0)
            if isinstance(write, AppendEntry):
                if write.id != head + 1:
                    raise WriteRefused(f"{channel_id!r}: entry {write.id} after head {head}")
                heads[channel_id] = write.id
                key = (channel_id, write.sender_id, write.client_message_id)
                if write.client_message_id and (key in self.sends or key in sends):
                    raise WriteRefused(f"{channel_id!r}: {key} was sent before")
                sends.add(key)
            elif isinstance(write, Redact) and not 0 < write.id <= head:
                raise WriteRefused(f"{channel_id!r}: there is no entry {write.id} to redact")

    def apply(self, writes: Sequence[Write], stamp: int) -> None:
        """Makes a checked submission true."""
        for write in writes:
            if isinstance(write, PutChannel):
                self._put_channel(write.record)
        first: dict[str, int] = {}
        for write in writes:
            if isinstance(write, PutRequest):
                self.requests[write.scope, write.request_id] = write
                continue
            table = self.channels[channel_of(write)]
            if isinstance(write, AppendEntry):
                first.setdefault(write.channel_id, write.id)
                self._append(table, write, stamp)
            elif isinstance(write, PutMember):
                table.members[write.record.user_id] = MemberRow(replace(write.record), stamp)
                if not write.own_only:
                    table.receipt_stamp = stamp
            elif isinstance(write, PutMessage):
                table.messages[write.message_id] = write
            elif isinstance(write, Redact):
                old = table.entries[write.id - 1]
                table.entries[write.id - 1] = replace(old, payload=write.payload)
                table.redacted.add(write.id)
            elif isinstance(write, PutReaction):
                key = (write.message_id, write.emoji, write.user_id)
                table.reactions[key] = write.entry_id
            elif isinstance(write, DeleteReactions):
                for key in [k for k in table.reactions if k[0] == write.message_id]:
                    if (write.emoji, write.user_id) in ((key[1], key[2]), ("", "")):
                        del table.reactions[key]
            elif isinstance(write, PutMentions):
                table.mentions.setdefault(write.entry_id, set()).update(write.user_ids)
        for channel_id, first_id in first.items():
            last_id = len(self.channels[channel_id].entries)
            self.feed.append(FeedRange(stamp, channel_id, first_id, last_id))

    def _put_channel(self, record: ChannelRecord) -> None:
        table = self.channels.setdefault(
            record.channel_id, ChannelTable(ChannelRecord(record.channel_id, record.kind, b""))
        )
        table.record.kind = record.kind
        table.record.settings = record.settings
        table.record.member_count = record.member_count
        table.record.deleted = record.deleted

    def _append(self, table: ChannelTable, write: AppendEntry, stamp: int) -> None:
        table.entries.append(write)
        record = table.record
        record.head_id = write.id
        record.head_count = write.timeline_count
        record.head_time_us = write.time_us
        if write.kind == EntryKind.MESSAGE_SENT and not write.thread_root_id:
            record.last_message_id = write.id
        table.entry_stamp = stamp
        if write.client_message_id:
            self.sends[write.channel_id, write.sender_id, write.client_message_id] = write


def channel_of(write: Write) -> str:
    """The channel that a write is about; "" for a request."""
    if isinstance(write, PutRequest):
        return ""
    if isinstance(write, PutChannel | PutMember):
        return write.record.channel_id
    return write.channel_id
