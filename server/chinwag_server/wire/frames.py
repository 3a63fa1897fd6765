"""HTTP/2 frames as bytes (RFC 9113, sections 4 and 6): heads, flags, and those that we send."""

from __future__ import annotations

import struct
from collections.abc import Mapping

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA = 0x0
HEADERS = 0x1
PRIORITY = 0x2
RST_STREAM = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

# Settings (RFC 9113, 6.5.2).
HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6

HEAD_BYTES = 9
# What both sides start with, and the bounds of the protocol.
DEFAULT_WINDOW = 65_535
DEFAULT_FRAME_SIZE = 16_384
DEFAULT_TABLE_SIZE = 4_096
MAX_WINDOW = 2**31 - 1
LARGEST_FRAME_SIZE = 2**24 - 1
MAX_STREAM_ID = 2**31 - 1

# A length of 24 bits as 16 and 8, then type, flags, stream id.
_HEAD = struct.Struct(">HBBBI")
unpack_head = _HEAD.unpack_from
pack_head = _HEAD.pack
_SETTING = struct.Struct(">HI")
_U32 = struct.Struct(">I")
_TWO_U32 = struct.Struct(">II")

SETTINGS_ACK = pack_head(0, 0, SETTINGS, ACK, 0)


def head(size: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The head of a frame with so many bytes of payload."""
    return pack_head(size >> 8, size & 0xFF, kind, flags, stream_id)


def settings(values: Mapping[int, int]) -> bytes:
    """A SETTINGS frame."""
    payload = b"".join(_SETTING.pack(key, value) for key, value in values.items())
    return head(len(payload), SETTINGS, 0, 0) + payload


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """The (setting, value) pairs of a payload whose size is a multiple of six, in order."""
    return [(key, value) for key, value in _SETTING.iter_unpack(payload)]


def window_update(stream_id: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame; stream 0 is the connection."""
    return head(4, WINDOW_UPDATE, 0, stream_id) + _U32.pack(increment)


def rst_stream(stream_id: int, code: int) -> bytes:
    """A RST_STREAM frame."""
    return head(4, RST_STREAM, 0, stream_id) + _U32.pack(code)


def goaway(last_stream_id: int, code: int, text: str = "") -> bytes:
    """A GOAWAY frame, with a text for the peer's log."""
    debug = text.encode()[:256]
    return head(8 + len(debug), GOAWAY, 0, 0) + _TWO_U32.pack(last_stream_id, code) + debug


def ping(payload: bytes, *, ack: bool = False) -> bytes:
    """A PING frame; the payload has 8 bytes."""
    return head(8, PING, ACK if ack else 0, 0) + payload


def header_frames(stream_id: int, block: bytes, *, end: bool, max_frame_size: int) -> bytes:
    """A header block as HEADERS and, if it is long, CONTINUATION frames."""
    flags = END_STREAM if end else 0
    if len(block) <= max_frame_size:
        return head(len(block), HEADERS, flags | END_HEADERS, stream_id) + block
    parts = [block[at : at + max_frame_size] for at in range(0, len(block), max_frame_size)]
    out = [head(len(parts[0]), HEADERS, flags, stream_id), parts[0]]
    for part in parts[1:]:
        last = END_HEADERS if part is parts[-1] else 0
        out += [head(len(part), CONTINUATION, last, stream_id), part]
    return b"".join(out)
