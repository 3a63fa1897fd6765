"""How messages are printed."""

from __future__ import annotations

import json
from collections.abc import Mapping

from chinwag.chat.v1 import entry_pb2, message_pb2


def printable(text: str) -> str:
    """Text without control characters, which could do things to a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def of_entry(entry: entry_pb2.Entry) -> message_pb2.Message:
    """A MessageSent entry as a message."""
    return message_pb2.Message(
        channel_id=entry.channel_id,
        id=entry.id,
        sender_id=entry.actor_id,
        client_message_id=entry.message_sent.client_message_id,
        create_time=entry.create_time,
        content=entry.message_sent.content,
        reply_to_id=entry.message_sent.reply_to_id,
        thread_root_id=entry.message_sent.thread_root_id,
    )


def as_json(message: message_pb2.Message) -> str:
    """One message as a line of JSON."""
    return json.dumps(
        {
            "channel_id": message.channel_id,
            "id": message.id,
            "sender_id": message.sender_id,
            "time": message.create_time.ToJsonString(),
            "text": message.content.text,
            "deleted": message.HasField("delete_time"),
            "edited": message.HasField("edit_time"),
            "thread_root_id": message.thread_root_id,
        },
        ensure_ascii=False,
    )


def as_line(message: message_pb2.Message, names: Mapping[str, str], *, where: str = "") -> str:
    """One message for a person."""
    when = message.create_time.ToDatetime().astimezone()
    text = printable(message.content.text) if message.HasField("content") else "(deleted)"
    name = names.get(message.sender_id, message.sender_id)
    edited = " (edited)" if message.HasField("edit_time") else ""
    return f"{when:%Y-%m-%d %H:%M} {where}{name}: {text}{edited}"
