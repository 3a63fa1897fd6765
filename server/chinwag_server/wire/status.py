"""How a gRPC call ends: grpc-status, grpc-message (percent-encoded), grpc-status-details-bin.

The gRPC protocol document, "Responses": a call ends with trailers, or with nothing but them.
"""

from __future__ import annotations

from enum import IntEnum
from urllib.parse import unquote_to_bytes

from chinwag_server.wire.errors import ErrorCode


class Code(IntEnum):
    """Status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class CallError(Exception):
    """Ends a call with a status; raised by handlers, and by what a call refuses by itself."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


_PLAIN = frozenset(range(0x20, 0x7F)) - {0x25}


def percent_encode(message: str) -> bytes:
    """A status message as a header value."""
    data = message.encode("utf-8", "replace")
    if _PLAIN.issuperset(data):
        return data
    return b"".join(b"%c" % byte if byte in _PLAIN else b"%%%02X" % byte for byte in data)


def percent_decode(value: bytes) -> str:
    """What `percent_encode` made; broken escapes stay as they are."""
    return unquote_to_bytes(value).decode("utf-8", "replace")


_UNITS = {
    ord("H"): 3600.0,
    ord("M"): 60.0,
    ord("S"): 1.0,
    ord("m"): 1e-3,
    ord("u"): 1e-6,
    ord("n"): 1e-9,
}


def read_timeout(value: bytes) -> float:
    """The seconds of a grpc-timeout.

    Raises:
        CallError: It is none.
    """
    digits, unit = value[:-1], _UNITS.get(value[-1]) if value else None
    if unit is None or not digits.isdigit() or len(digits) > 8:
        raise CallError(Code.INTERNAL, "grpc-timeout is up to 8 digits and one of H M S m u n")
    return int(digits) * unit


def code_of_reset(code: ErrorCode) -> Code:
    """The status of a call whose stream was reset ("Errors" in the protocol document)."""
    return _OF_RESETS.get(code, Code.INTERNAL)


_OF_RESETS = {
    ErrorCode.CANCEL: Code.CANCELLED,
    ErrorCode.NO_ERROR: Code.CANCELLED,
    ErrorCode.REFUSED_STREAM: Code.UNAVAILABLE,
    ErrorCode.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
}
