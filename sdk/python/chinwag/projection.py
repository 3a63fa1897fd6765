"""Messages as people see them, made of the entries that a client gets (reference: `Message` in
chinwag/chat/v1/message.proto)."""

from __future__ import annotations

from chinwag.chat.v1 import entry_pb2, message_pb2

MAX_REACTING_USERS = 100


def target_id(entry: entry_pb2.Entry) -> int:
    """The message that an entry is about; 0: none."""
    kind = entry.WhichOneof("kind")
    if kind == "message_sent":
        return entry.id
    if kind == "message_edited":
        return entry.message_edited.message_id
    if kind == "message_deleted":
        return entry.message_deleted.message_id
    if kind == "reaction_added":
        return entry.reaction_added.message_id
    if kind == "reaction_removed":
        return entry.reaction_removed.message_id
    return 0


def new_message(entry: entry_pb2.Entry) -> message_pb2.Message:
    """The message that a `message_sent` entry makes; without content if it is redacted."""
    sent = entry.message_sent
    message = message_pb2.Message(
        channel_id=entry.channel_id,
        id=entry.id,
        sender_id=entry.actor_id,
        device_id=entry.device_id,
        client_message_id=sent.client_message_id,
        create_time=entry.create_time,
        reply_to_id=sent.reply_to_id,
        thread_root_id=sent.thread_root_id,
        last_entry_id=entry.id,
        timeline_count=entry.timeline_count,
    )
    if sent.HasField("content"):
        message.content.CopyFrom(sent.content)
    return message


def change(message: message_pb2.Message, entry: entry_pb2.Entry) -> None:
    """Applies an edit, deletion or reaction to its message; a repeat changes nothing.

    A deletion takes the content away: of the text and of its edits nothing is left.
    """
    if entry.id <= message.last_entry_id:
        return
    message.last_entry_id = entry.id
    kind = entry.WhichOneof("kind")
    if kind == "message_edited":
        # A redacted edit says that the deletion of the message follows.
        if not entry.redacted and not message.HasField("delete_time"):
            message.content.CopyFrom(entry.message_edited.content)
            message.edit_time.CopyFrom(entry.create_time)
    elif kind == "message_deleted":
        message.ClearField("content")
        message.ClearField("reactions")
        message.delete_time.CopyFrom(entry.create_time)
    elif kind == "reaction_added":
        _react(message, entry.reaction_added.emoji, entry.actor_id)
    elif kind == "reaction_removed":
        _unreact(message, entry.reaction_removed.emoji, entry.actor_id)


def reply(root: message_pb2.Message, entry: entry_pb2.Entry) -> None:
    """Counts a thread reply at its root; a repeat changes nothing."""
    if entry.id > root.thread.last_reply_id:
        root.thread.reply_count += 1
        root.thread.last_reply_id = entry.id


def _react(message: message_pb2.Message, emoji: str, user_id: str) -> None:
    group = next((g for g in message.reactions if g.emoji == emoji), None)
    if group is None:
        group = message.reactions.add(emoji=emoji)
    if user_id not in group.user_ids:
        group.count += 1
        if len(group.user_ids) < MAX_REACTING_USERS:
            group.user_ids.append(user_id)


def _unreact(message: message_pb2.Message, emoji: str, user_id: str) -> None:
    for index, group in enumerate(message.reactions):
        if group.emoji == emoji:
            group.count -= 1
            if user_id in group.user_ids:
                group.user_ids.remove(user_id)
            if group.count <= 0:
                del message.reactions[index]
            return
