"""The frames that nearly all frames are, known as good without the validator.

protovalidate looks at every field of every message, at 5 microseconds a send while its code is
in the caches and ten times that on a server that mostly waits. So frames that hold nothing but
sends of text, marks and pings are checked here; whatever is not surely good goes to it.
"""

from __future__ import annotations

import re

from chinwag.chat.v1 import connect_pb2, message_pb2

MAX_SENDS = 100
MAX_MARKS = 1000
MAX_TEXT = 100_000
MAX_ID = 64

_UUID7 = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_is_uuid7 = _UUID7.fullmatch

_FRAME = connect_pb2.ConnectRequest
_PLAIN_PARTS = frozenset(
    {_FRAME.SENDS_FIELD_NUMBER, _FRAME.MARKS_FIELD_NUMBER, _FRAME.PING_FIELD_NUMBER}
)
_NO_PARTS = frozenset({_FRAME.FRAME_ID_FIELD_NUMBER})
_ONLY_TEXT = [message_pb2.MessageContent.TEXT_FIELD_NUMBER]


def is_plain(frame: connect_pb2.ConnectRequest) -> bool:
    """Whether a frame has something to handle, nothing but sends of text, marks and pings, and
    breaks no rule of the contract. False says nothing."""
    parts = {field.number for field, _ in frame.ListFields()} - _NO_PARTS
    if not parts or not parts <= _PLAIN_PARTS:
        return False
    sends, marks = frame.sends, frame.marks
    if len(sends) > MAX_SENDS or len(marks) > MAX_MARKS:
        return False
    for send in sends:
        text = send.content.text
        if (
            not 0 < len(text) <= MAX_TEXT
            or not _is_id(send.channel_id)
            or not _is_uuid7(send.client_message_id)
            or send.reply_to_id < 0
            or send.thread_root_id < 0
            or [field.number for field, _ in send.content.ListFields()] != _ONLY_TEXT
        ):
            return False
    for mark in marks:
        if not _is_id(mark.channel_id) or mark.read_id < 0 or mark.delivered_id < 0:
            return False
    return not frame.ping.HasField("activity")


def _is_id(text: str) -> bool:
    # The bound is in bytes, which for ASCII are the characters.
    return 0 < len(text) <= MAX_ID and text.isascii()
