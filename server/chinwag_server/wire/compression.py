"""Message encodings: identity, gzip and deflate ("Compression" in the gRPC documents).

What comes in is inflated up to a bound, so that a small message cannot become a large one.
"""

from __future__ import annotations

import zlib
from typing import Final

from chinwag_server.wire.status import CallError, Code

IDENTITY: Final = b"identity"
ACCEPTED: Final = b"identity,deflate,gzip"
# The parameter `wbits` of zlib: which wrapping.
_WBITS: Final = {b"gzip": 31, b"deflate": 15}
# Chat messages are short and many: speed before size.
_LEVEL: Final = 4


def is_known(encoding: bytes) -> bool:
    """Whether messages may come in this encoding."""
    return encoding == IDENTITY or encoding in _WBITS


def compress(encoding: bytes, data: bytes) -> bytes:
    """A message's bytes in an encoding."""
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WBITS[encoding])
    return deflater.compress(data) + deflater.flush()


def decompress(encoding: bytes, data: bytes, most: int) -> bytes:
    """A message that came in an encoding.

    Raises:
        CallError: It is broken, or larger than `most` bytes.
    """
    wbits = _WBITS.get(encoding)
    if wbits is None:
        raise CallError(Code.INTERNAL, "a compressed message, and grpc-encoding names no encoding")
    inflater = zlib.decompressobj(wbits)
    try:
        out = inflater.decompress(data, most + 1)
    except zlib.error as error:
        raise CallError(Code.INTERNAL, "a compressed message is broken") from error
    if len(out) > most:
        raise CallError(Code.RESOURCE_EXHAUSTED, f"a message has at most {most} bytes")
    if not inflater.eof or inflater.unused_data:
        raise CallError(Code.INTERNAL, "a compressed message is broken")
    return out
