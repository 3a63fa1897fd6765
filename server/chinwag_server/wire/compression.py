"""Message encodings: identity, gzip (RFC 1952) and deflate (RFC 1950).

"Message-Encoding" in the gRPC protocol document, and compression.md of the gRPC project.

What comes in is inflated up to bounds, of a message and of a second, so that small messages cannot
become large ones.
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
# Text seldom becomes more than so many times as large.
_FREE_RATIO: Final = 16


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
        TooLarge: It is larger than `most` bytes.
        CallError: It is broken.
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
        raise TooLarge(f"a message has at most {most} bytes")
    if not inflater.eof or inflater.unused_data:
        raise CallError(Code.INTERNAL, "a compressed message is broken")
    return out


class TooLarge(CallError):
    """A message inflates to more than it may."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.RESOURCE_EXHAUSTED, message)


class Inflation:
    """What one peer may have inflated: so much for what it sent, and beyond that so much a second.

    A small message that becomes a large one costs its sender nothing and the server its time: a
    bound for each message alone would let a few of them a second take all of it.

    Args:
        per_second: Bytes.
        most: What may be saved up: one largest message.
    """

    __slots__ = ("_at", "_left", "_most", "_per_second")

    def __init__(self, per_second: float, most: int, now: float) -> None:
        self._per_second = per_second
        self._most = float(most)
        self._left = float(most)
        self._at = now

    def decompress(self, encoding: bytes, data: bytes, most: int, now: float) -> bytes:
        """As the function of this name.

        Raises:
            CallError: As there, or there was too much to inflate lately.
        """
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now
        free = _FREE_RATIO * len(data)
        room = free + int(self._left)
        try:
            out = decompress(encoding, data, min(most, room))
        except CallError as error:
            # Broken or too large: it may have cost as much as if it had been taken.
            self._left = max(0.0, self._left - max(0, min(most, room) - free))
            if isinstance(error, TooLarge) and room < most:
                told = "too much was to be inflated: send less of it, or plain"
                raise TooLarge(told) from None
            raise
        self._left -= max(0, len(out) - free)
        return out
