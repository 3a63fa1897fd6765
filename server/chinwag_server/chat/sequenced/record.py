"""Entries and what follows from them as bytes: `chinwag.mesh.v1.LogRecord`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chinwag.mesh.v1 import log_pb2
from chinwag_server.chat.store import (
    AppendEntry,
    ChannelRecord,
    DeleteReactions,
    EntryKind,
    MemberRecord,
    PutChannel,
    PutMember,
    PutMentions,
    PutMessage,
    PutReaction,
    PutRequest,
    Redact,
    Write,
)


def record_of(
    append: AppendEntry, epoch: int, follow: Sequence[Write]
) -> tuple[log_pb2.LogRecord, list[Write]]:
    """The record of an entry, and the writes that its own fields do not tell of.

    Args:
        follow: The writes of the same submission that follow from it.
    """
    record = log_pb2.LogRecord(
        epoch=epoch,
        kind=append.kind,
        timeline_count=append.timeline_count,
        time_us=append.time_us,
        message_id=append.message_id,
        thread_root_id=append.thread_root_id,
        sender_id=append.sender_id,
        client_message_id=append.client_message_id,
        content_hash=append.content_hash,
        payload=append.payload,
    )
    rest: list[Write] = []
    for write in follow:
        if _is_own_mark(append, write):
            # Of nearly every message: one bit instead of a row.
            record.moves_sender_marks = True
        else:
            record.projections.append(projection_of(write))
            rest.append(write)
    return record, rest


def _is_own_mark(append: AppendEntry, write: Write) -> bool:
    """Whether a write says no more than that who sends has read their own message."""
    return (
        type(write) is PutMember
        and append.kind == EntryKind.MESSAGE_SENT
        and write.record.user_id == append.sender_id
        and write.record.read_id == write.record.delivered_id == append.id
        and write.record.read_count == append.timeline_count
    )


def append_of(channel_id: str, entry_id: int, record: log_pb2.LogRecord) -> AppendEntry:
    """The write that a record was made from."""
    return AppendEntry(
        channel_id,
        entry_id,
        EntryKind(record.kind),
        record.payload,
        record.timeline_count,
        record.time_us,
        record.message_id,
        record.thread_root_id,
        record.sender_id,
        record.client_message_id,
        record.content_hash,
    )


def projection_of(write: Write) -> log_pb2.Projection:
    """A write that is no entry, as it lies in a record."""
    made = log_pb2.Projection()
    if isinstance(write, PutChannel):
        channel = write.record
        made.channel.kind = channel.kind
        made.channel.settings = channel.settings
        made.channel.member_count = channel.member_count
        made.channel.deleted = channel.deleted
    elif isinstance(write, PutMember):
        row = write.record
        made.member.user_id = row.user_id
        made.member.role = row.role
        made.member.join_id = row.join_id
        made.member.join_time_us = row.join_time_us
        made.member.ranges.extend(bound for stay in row.ranges for bound in stay)
        made.member.read_id = row.read_id
        made.member.read_count = row.read_count
        made.member.delivered_id = row.delivered_id
        made.member.preferences = row.preferences
        made.member.archived = row.archived
        made.member.pinned = row.pinned
    elif isinstance(write, PutMessage):
        made.message.message_id = write.message_id
        made.message.state = write.state
        made.message.content_entry_id = write.content_entry_id
    elif isinstance(write, PutReaction):
        made.reaction.message_id = write.message_id
        made.reaction.emoji = write.emoji
        made.reaction.user_id = write.user_id
        made.reaction.entry_id = write.entry_id
    elif isinstance(write, DeleteReactions):
        made.reaction.message_id = write.message_id
        made.reaction.emoji = write.emoji
        made.reaction.user_id = write.user_id
    elif isinstance(write, PutMentions):
        made.mention.entry_id = write.entry_id
        made.mention.user_ids.extend(write.user_ids)
    elif isinstance(write, PutRequest):
        made.request.scope = write.scope
        made.request.request_id = write.request_id
        made.request.content_hash = write.content_hash
        made.request.response = write.response
        made.request.time_us = write.time_us
    elif isinstance(write, Redact):
        made.redaction.entry_id = write.id
        made.redaction.payload = write.payload
    else:
        raise TypeError(f"an entry does not follow from an entry: {write!r}")
    return made


def writes_of(channel_id: str, projections: Iterable[log_pb2.Projection]) -> list[Write]:
    """The writes that lie in a record."""
    writes: list[Write] = []
    for made in projections:
        kind = made.WhichOneof("row")
        if kind == "channel":
            channel = made.channel
            writes.append(
                PutChannel(
                    ChannelRecord(
                        channel_id,
                        channel.kind,
                        channel.settings,
                        member_count=channel.member_count,
                        deleted=channel.deleted,
                    )
                )
            )
        elif kind == "member":
            writes.append(PutMember(_member_of(channel_id, made.member)))
        elif kind == "message":
            message = made.message
            writes.append(
                PutMessage(channel_id, message.message_id, message.state, message.content_entry_id)
            )
        elif kind == "reaction":
            row = made.reaction
            if row.entry_id:
                writes.append(
                    PutReaction(channel_id, row.message_id, row.emoji, row.user_id, row.entry_id)
                )
            else:
                writes.append(DeleteReactions(channel_id, row.message_id, row.emoji, row.user_id))
        elif kind == "mention":
            mention = made.mention
            writes.append(PutMentions(channel_id, mention.entry_id, tuple(mention.user_ids)))
        elif kind == "request":
            request = made.request
            writes.append(
                PutRequest(
                    request.scope,
                    request.request_id,
                    request.content_hash,
                    request.response,
                    request.time_us,
                )
            )
        elif kind == "redaction":
            writes.append(Redact(channel_id, made.redaction.entry_id, made.redaction.payload))
        else:
            raise ValueError(f"{channel_id}: a record was written by a newer chinwag: upgrade")
    return writes


def _member_of(channel_id: str, row: log_pb2.MemberRow) -> MemberRecord:
    bounds = list(row.ranges)
    return MemberRecord(
        channel_id,
        row.user_id,
        row.role,
        row.join_id,
        row.join_time_us,
        tuple(zip(bounds[::2], bounds[1::2], strict=True)),
        row.read_id,
        row.read_count,
        row.delivered_id,
        row.preferences,
        row.archived,
        row.pinned,
    )
