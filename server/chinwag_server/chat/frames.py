"""Pieces of `ConnectResponse` as bytes.

A repeated protobuf field concatenates: a frame that holds several events is the joined bytes of
the pieces that hold one each (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
So an event is serialised once and joined into every receiver's frame as it is.
"""

from __future__ import annotations

from google.protobuf.message import Message as ProtobufMessage

from chinwag.chat.v1 import connect_pb2
from chinwag_server.chat.encoding import varint

_FIELDS = connect_pb2.ConnectResponse.DESCRIPTOR.fields_by_name


def _tag(name: str) -> bytes:
    return varint(_FIELDS[name].number << 3 | 2)


_EVENTS = _tag("events")
_RESULTS = _tag("results")
_RECEIPTS = _tag("receipts")
_TYPING = _tag("typing")
_ACCOUNT = _tag("account")
_ERRORS = _tag("errors")
# Event.entry is field 1 of length-delimited type.
_EVENT_ENTRY = b"\x0a"


def entry(payload: bytes) -> bytes:
    """A serialised `Entry` as a piece with one event."""
    size = varint(len(payload))
    return b"".join((_EVENTS, varint(1 + len(size) + len(payload)), _EVENT_ENTRY, size, payload))


def _piece(tag: bytes, message: ProtobufMessage) -> bytes:
    body = message.SerializeToString()
    return tag + varint(len(body)) + body


def event(message: ProtobufMessage) -> bytes:
    """An `Event` as a piece."""
    return _piece(_EVENTS, message)


def result(message: ProtobufMessage) -> bytes:
    """A `SendResult` as a piece."""
    return _piece(_RESULTS, message)


def sent(serialised: bytes) -> bytes:
    """A serialised `SendResult` as a piece."""
    return _RESULTS + varint(len(serialised)) + serialised


def receipt(message: ProtobufMessage) -> bytes:
    """A `Receipt` as a piece."""
    return _piece(_RECEIPTS, message)


def typing(message: ProtobufMessage) -> bytes:
    """A `Typing` as a piece."""
    return _piece(_TYPING, message)


def account(serialised: bytes) -> bytes:
    """A serialised `AccountEvent` as a piece."""
    return _ACCOUNT + varint(len(serialised)) + serialised


def error(message: ProtobufMessage) -> bytes:
    """A `FrameError` as a piece."""
    return _piece(_ERRORS, message)


def whole(**fields: object) -> bytes:
    """A frame of single fields, such as welcome or pong."""
    return connect_pb2.ConnectResponse(**fields).SerializeToString()  # type: ignore[arg-type]
