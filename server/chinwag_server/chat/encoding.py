"""Protobuf bytes by hand, for the two messages of which there are most
(https://protobuf.dev/programming-guides/encoding/).

Building a message object field by field, copying the content into it and serialising it costs
several times as much as joining the same bytes. Tests hold each to what protobuf makes of the
message.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from chinwag.chat.v1 import connect_pb2, entry_pb2

_ONE_BYTE: Final = tuple(bytes((number,)) for number in range(128))


def varint(number: int) -> bytes:
    """A base-128 varint of a number that is not negative."""
    if number < 128:
        return _ONE_BYTE[number]
    if number < 16384:
        return bytes((number & 127 | 128, number >> 7))
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


_VARINT, _BYTES = 0, 2


def _tag(message: type, name: str, kind: int) -> bytes:
    number: int = message.DESCRIPTOR.fields_by_name[name].number  # type: ignore[attr-defined]
    return varint(number << 3 | kind)


_SECONDS: Final = _tag(Timestamp, "seconds", _VARINT)
_NANOS: Final = _tag(Timestamp, "nanos", _VARINT)

_CHANNEL_ID: Final = _tag(entry_pb2.Entry, "channel_id", _BYTES)
_ID: Final = _tag(entry_pb2.Entry, "id", _VARINT)
_CREATE_TIME: Final = _tag(entry_pb2.Entry, "create_time", _BYTES)
_ACTOR_ID: Final = _tag(entry_pb2.Entry, "actor_id", _BYTES)
_DEVICE_ID: Final = _tag(entry_pb2.Entry, "device_id", _BYTES)
_TIMELINE_COUNT: Final = _tag(entry_pb2.Entry, "timeline_count", _VARINT)
_COUNT_RULE: Final = _tag(entry_pb2.Entry, "count_rule", _VARINT)
_MESSAGE_SENT: Final = _tag(entry_pb2.Entry, "message_sent", _BYTES)
_CLIENT_MESSAGE_ID: Final = _tag(entry_pb2.MessageSent, "client_message_id", _BYTES)
_CONTENT: Final = _tag(entry_pb2.MessageSent, "content", _BYTES)
_REPLY_TO_ID: Final = _tag(entry_pb2.MessageSent, "reply_to_id", _VARINT)
_THREAD_ROOT_ID: Final = _tag(entry_pb2.MessageSent, "thread_root_id", _VARINT)

_RESULT_KEY: Final = _tag(connect_pb2.SendResult, "client_message_id", _BYTES)
_RESULT_CHANNEL: Final = _tag(connect_pb2.SendResult, "channel_id", _BYTES)
_RESULT_ID: Final = _tag(connect_pb2.SendResult, "message_id", _VARINT)
_RESULT_TIME: Final = _tag(connect_pb2.SendResult, "create_time", _BYTES)


@lru_cache(16384)  # channels, people and devices that are at it now
def _text(tag: bytes, text: str) -> bytes:
    """A field of text; nothing if it is empty."""
    data = text.encode()
    return tag + varint(len(data)) + data if data else b""


def _number(tag: bytes, number: int) -> bytes:
    return tag + varint(number) if number else b""


@lru_cache(64)  # all that is sent and answered in a moment
def _time(time_us: int) -> bytes:
    """A Timestamp."""
    return _number(_SECONDS, time_us // 1_000_000) + _number(_NANOS, time_us % 1_000_000 * 1000)


def message_sent(
    *,
    channel_id: str,
    entry_id: int,
    time_us: int,
    actor_id: str,
    device_id: str,
    timeline_count: int,
    count_rule: int,
    client_message_id: str,
    content: bytes,
    reply_to_id: int = 0,
    thread_root_id: int = 0,
) -> bytes:
    """An `Entry` of kind message_sent.

    Args:
        content: The serialised `MessageContent`.
    """
    key = client_message_id.encode()
    sent = b"".join(
        (
            _CLIENT_MESSAGE_ID,
            varint(len(key)),
            key,
            _CONTENT,
            varint(len(content)),
            content,
            _number(_REPLY_TO_ID, reply_to_id),
            _number(_THREAD_ROOT_ID, thread_root_id),
        )
    )
    time = _time(time_us)
    return b"".join(
        (
            _text(_CHANNEL_ID, channel_id),
            _ID,
            varint(entry_id),
            _CREATE_TIME,
            varint(len(time)),
            time,
            _text(_ACTOR_ID, actor_id),
            _text(_DEVICE_ID, device_id),
            _number(_TIMELINE_COUNT, timeline_count),
            _number(_COUNT_RULE, count_rule),
            _MESSAGE_SENT,
            varint(len(sent)),
            sent,
        )
    )


def sent_result(client_message_id: str, channel_id: str, message_id: int, time_us: int) -> bytes:
    """A `SendResult` of a message that was stored."""
    key = client_message_id.encode()
    time = _time(time_us) if time_us else b""
    return b"".join(
        (
            _RESULT_KEY,
            varint(len(key)),
            key,
            _text(_RESULT_CHANNEL, channel_id),
            _RESULT_ID,
            varint(message_id),
            *((_RESULT_TIME, varint(len(time)), time) if time else ()),
        )
    )
