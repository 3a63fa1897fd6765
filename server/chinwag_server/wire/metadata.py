"""Custom metadata of a call: ASCII values, and bytes in names that end in "-bin" (base64).

The gRPC protocol document, "Custom-Metadata".
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Sequence

from chinwag_server.wire.headers import Field
from chinwag_server.wire.status import CallError, Code

Metadata = tuple[tuple[str, str | bytes], ...]

_NAME = re.compile(r"[0-9a-z_.\-]+").fullmatch
_VALUE = re.compile(rb"[\x20-\x7e]*").fullmatch
# What gRPC and HTTP say themselves: no metadata in either direction.
_RESERVED = frozenset(
    {b"content-type", b"te", b"content-length", b"grpc-timeout", b"grpc-encoding"}
    | {b"grpc-accept-encoding", b"grpc-status", b"grpc-message", b"grpc-message-type"}
)


def decode(fields: Sequence[Field]) -> Metadata:
    """A request's metadata.

    Raises:
        CallError: A value is not what its name promises.
    """
    pairs: list[tuple[str, str | bytes]] = []
    for name, value in fields:
        if name in _RESERVED:
            continue
        key = name.decode("ascii")
        if key.endswith("-bin"):
            # Several values may come joined by commas.
            pairs.extend((key, _from_base64(key, part)) for part in value.split(b","))
        elif _VALUE(value) is None:
            raise CallError(Code.INTERNAL, f"the metadata {key} has a value that is not ASCII")
        else:
            pairs.append((key, value.decode("ascii")))
    return tuple(pairs)


def _from_base64(key: str, value: bytes) -> bytes:
    value = value.strip()
    try:
        return binascii.a2b_base64(value + b"=" * (-len(value) % 4), strict_mode=True)
    except binascii.Error as error:
        raise CallError(Code.INTERNAL, f"the metadata {key} is not base64") from error


def encode(pairs: Iterable[tuple[str, str | bytes]]) -> list[Field]:
    """Metadata as fields to send.

    Raises:
        ValueError: A name or a value that cannot be sent.
    """
    fields: list[Field] = []
    for key, value in pairs:
        name = key.lower()
        if _NAME(name) is None:
            raise ValueError(f"metadata names have letters, digits and _ . -; got {key!r}")
        field_name = name.encode("ascii")
        if field_name in _RESERVED:
            raise ValueError(f"the metadata {key!r} is gRPC's own")
        if name.endswith("-bin"):
            data = value.encode() if isinstance(value, str) else value
            fields.append((field_name, binascii.b2a_base64(data, newline=False).rstrip(b"=")))
            continue
        data = value.encode("ascii", "replace") if isinstance(value, str) else value
        if _VALUE(data) is None:
            raise ValueError(f"the metadata {key!r} has characters that are not printable ASCII")
        fields.append((field_name, data))
    return fields
