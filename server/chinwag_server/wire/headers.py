"""Header fields: requests in (RFC 9113, section 8; RFC 7541), response blocks out.

Decoding is the `hpack` package's. Blocks that we send use no dynamic table and no Huffman code:
they need no state, so that the same bytes serve every stream of every connection.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError

from chinwag_server.wire.errors import ConnectionFault, ErrorCode, StreamFault

# At the debug level it writes every value, tokens too.
logging.getLogger("hpack").setLevel(logging.INFO)

Field = tuple[bytes, bytes]
Fields = Sequence[Field]

FIELD_OVERHEAD = 32
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
# White space around a value is forbidden too (8.2.1), but sent by honest clients, and harmless.
_BAD_VALUE = re.compile(rb"[\0\r\n]").search
# Fields of a connection, which HTTP/2 has no place for (8.2.2).
_OF_CONNECTIONS = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path"})


@dataclass(slots=True)
class Request:
    """The head of a request.

    Attributes:
        fields: All but the pseudo-header fields, as they came: lower-case name and value.
        size: Of all fields as RFC 9113, 10.5.1 counts.
        content_length: Of the body; -1 if the peer did not say.
    """

    method: bytes
    path: bytes
    scheme: bytes
    authority: bytes
    fields: list[Field]
    size: int
    content_length: int = -1


def new_decoder(max_bytes: int) -> Decoder:
    """A connection's decoder."""
    return Decoder(max_header_list_size=max_bytes)


def decode(decoder: Decoder, block: bytes) -> Fields:
    """The fields of a whole header block.

    Raises:
        ConnectionFault: The block cannot be read, and with it the table is lost.
    """
    try:
        return decoder.decode(block, raw=True)  # type: ignore[return-value]
    except OversizedHeaderListError as error:
        raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "the header list is too long") from error
    except (HPACKError, IndexError, ValueError) as error:
        raise ConnectionFault(
            ErrorCode.COMPRESSION_ERROR, "the header block cannot be decoded"
        ) from error


def read_request(stream_id: int, fields: Fields) -> Request:
    """A request from its fields.

    Raises:
        StreamFault: It is malformed (8.1.1).
    """
    pseudo: dict[bytes, bytes] = {}
    rest: list[Field] = []
    size = 0
    length = -1
    for name, value in fields:
        size += len(name) + len(value) + FIELD_OVERHEAD
        if name[:1] == b":":
            if rest or name in pseudo or name not in _PSEUDO:
                raise _malformed(stream_id, "pseudo-header fields that are no request's")
            if _BAD_VALUE(value):
                raise _malformed(stream_id, "a field value with characters that none may have")
            pseudo[name] = value
            continue
        _check_field(stream_id, name, value)
        if name == b"content-length":
            # 18 digits are more than anybody sends, and no more than a number may have.
            if not value.isdigit() or len(value) > 18 or length not in (-1, int(value)):
                raise _malformed(stream_id, "a content-length that is none")
            length = int(value)
        rest.append((name, value))
    method, scheme, path = (pseudo.get(name, b"") for name in (b":method", b":scheme", b":path"))
    if not (method and scheme and path):
        raise _malformed(stream_id, ":method, :scheme and :path are needed")
    authority = pseudo.get(b":authority", b"")
    return Request(method, path, scheme, authority, rest, size, length)


def check_trailers(stream_id: int, fields: Fields) -> None:
    """Fields after a request's body.

    Raises:
        StreamFault: They are malformed.
    """
    for name, value in fields:
        if name[:1] == b":":
            raise _malformed(stream_id, "a pseudo-header field in trailers")
        _check_field(stream_id, name, value)


def _check_field(stream_id: int, name: bytes, value: bytes) -> None:
    if _NAME(name) is None or _BAD_VALUE(value):
        raise _malformed(stream_id, "a field with characters that none may have")
    if name in _OF_CONNECTIONS or (name == b"te" and value != b"trailers"):
        raise _malformed(stream_id, f"the field {name.decode()}, which HTTP/2 has no place for")


def _malformed(stream_id: int, text: str) -> StreamFault:
    return StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, text)


# --- what we send ---

_STATUS = {200: b"\x88", 204: b"\x89", 400: b"\x8c", 404: b"\x8d"}
# Says that from now on the dynamic table has no room (RFC 7541, 6.3). Owed to a peer that made
# it smaller than it was (4.2).
EMPTY_TABLE = b"\x20"


def _integer(value: int, bits: int, first: int) -> bytes:
    """An integer with a prefix of so many bits (RFC 7541, 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    out = bytearray((first | most,))
    value -= most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(fields: Iterable[Field]) -> bytes:
    """Fields as literals that no table keeps (RFC 7541, 6.2.2)."""
    return b"".join(
        b"\0" + _integer(len(name), 7, 0) + name + _integer(len(value), 7, 0) + value
        for name, value in fields
    )


def encode_status(status: int) -> bytes:
    """The pseudo-header field of a response."""
    known = _STATUS.get(status)
    return known if known is not None else encode([(b":status", b"%d" % status)])
