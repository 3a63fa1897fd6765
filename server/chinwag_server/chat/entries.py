"""Entries as values: building them, redacting them, and reading them back."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from chinwag.chat.v1 import channel_pb2, entry_pb2, message_pb2
from chinwag_server.chat.store import StoredMessage

COUNT_RULE = 1
MAX_REACTION_USERS = 100


def timestamp(time_us: int) -> Timestamp:
    """Microseconds since 1970 as a Timestamp."""
    return Timestamp(seconds=time_us // 1_000_000, nanos=time_us % 1_000_000 * 1000)


def time_us(stamp: Timestamp) -> int:
    """A Timestamp as microseconds since 1970."""
    return stamp.seconds * 1_000_000 + stamp.nanos // 1000


def parse(payload: bytes) -> entry_pb2.Entry:
    """A stored payload as a message."""
    return entry_pb2.Entry.FromString(payload)


def redacted(payload: bytes) -> bytes:
    """The legal form of an entry without its content: id, kind, count and the ids of other
    entries stay."""
    entry = parse(payload)
    entry.redacted = True
    kind = entry.WhichOneof("kind")
    if kind == "message_sent":
        entry.message_sent.ClearField("content")
    elif kind == "message_edited":
        entry.message_edited.ClearField("content")
    return entry.SerializeToString()


def content_of(payload: bytes) -> message_pb2.MessageContent:
    """The content that a MessageSent or MessageEdited entry carries."""
    entry = parse(payload)
    if entry.WhichOneof("kind") == "message_edited":
        return entry.message_edited.content
    return entry.message_sent.content


def project(stored: StoredMessage) -> message_pb2.Message:
    """The message as people see it, from its entry, its state and its newest edit."""
    entry = parse(stored.entry)
    sent = entry.message_sent
    message = message_pb2.Message()
    if stored.state is not None:
        message.ParseFromString(stored.state)
    else:
        message.last_entry_id = entry.id
    message.channel_id = entry.channel_id
    message.id = entry.id
    message.sender_id = entry.actor_id
    message.device_id = entry.device_id
    message.client_message_id = sent.client_message_id
    message.create_time.CopyFrom(entry.create_time)
    message.reply_to_id = sent.reply_to_id
    message.thread_root_id = sent.thread_root_id
    message.timeline_count = entry.timeline_count
    if not message.HasField("delete_time"):
        if stored.content_entry is not None:
            message.content.CopyFrom(content_of(stored.content_entry))
        elif sent.HasField("content"):
            message.content.CopyFrom(sent.content)
    return message


def state_of(message: message_pb2.Message) -> bytes:
    """What `PutMessage` keeps of a projection: what its entries do not say."""
    state = message_pb2.Message(last_entry_id=message.last_entry_id)
    if message.HasField("edit_time"):
        state.edit_time.CopyFrom(message.edit_time)
    if message.HasField("delete_time"):
        state.delete_time.CopyFrom(message.delete_time)
    if message.HasField("thread"):
        state.thread.CopyFrom(message.thread)
    state.reactions.extend(message.reactions)
    return state.SerializeToString()


def add_reaction(message: message_pb2.Message, emoji: str, user_id: str) -> None:
    """Adds a user to a projection's reaction group."""
    for group in message.reactions:
        if group.emoji == emoji:
            group.count += 1
            if len(group.user_ids) < MAX_REACTION_USERS:
                group.user_ids.append(user_id)
            return
    message.reactions.add(emoji=emoji, count=1, user_ids=[user_id])


def remove_reaction(
    message: message_pb2.Message, emoji: str, user_id: str, first_users: list[str] | None
) -> None:
    """Takes a user out of a projection's reaction group.

    Args:
        first_users: Who is in the group besides, oldest first; None if the projection lists them
            all.
    """
    for index, group in enumerate(message.reactions):
        if group.emoji != emoji:
            continue
        group.count -= 1
        if group.count <= 0:
            del message.reactions[index]
            return
        names = first_users if first_users is not None else list(group.user_ids)
        del group.user_ids[:]
        group.user_ids.extend([name for name in names if name != user_id][:MAX_REACTION_USERS])
        return


def settings_of(channel: channel_pb2.Channel) -> channel_pb2.Channel:
    """A channel's settings without counts, head and generation: what entries and the store hold."""
    settings = channel_pb2.Channel()
    settings.CopyFrom(channel)
    for name in ("member_count", "generation", "head_id", "head_count"):
        settings.ClearField(name)
    return settings
