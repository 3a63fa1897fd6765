"""Ids: channels, and what a client_message_id tells."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

RandomBytes = Callable[[int], bytes]


# Draws of an id until one is of a shard that this node owns: with one shard of 1,024, half of all
# nodes need 700.
MAX_DRAWS = 20_000


def new_channel_id(
    random_bytes: RandomBytes, accepts: Callable[[str], bool] = lambda _channel_id: True
) -> str:
    """A fresh id of a group or broadcast channel: "c" and 128 random bits in base32.

    Raises:
        LookupError: None was accepted.
    """
    for _ in range(MAX_DRAWS):
        channel_id = "c" + _base32(random_bytes(16))
        if accepts(channel_id):
            return channel_id
    raise LookupError("no id was accepted")


def requested_channel_id(user_id: str, request_id: str) -> str:
    """The id of a group or broadcast channel that a user makes under a request_id: a hash, so that
    a repeat finds the same channel, whatever became of the first call and wherever it ran."""
    name = f"{len(user_id)}:{user_id}:{request_id}".encode()
    return "c" + _base32(hashlib.sha256(name).digest()[:16])


def direct_channel_id(user_a: str, user_b: str) -> str:
    """The id of a pair's direct channel: a hash of the ordered pair, so that two who make it at
    the same time make the same one."""
    first, second = sorted((user_a, user_b))
    # The length keeps ("ab", "c") and ("a", "bc") apart.
    pair = f"{len(first)}:{first}:{second}".encode()
    return "d" + _base32(hashlib.sha256(pair).digest()[:20])


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()


def client_message_id_bytes(text: str) -> bytes:
    """The 16 bytes of a UUID in canonical text form.

    Raises:
        ValueError: Not a UUID.
    """
    raw = bytes.fromhex(text.replace("-", ""))
    if len(raw) != 16:
        raise ValueError(f"expected a UUID, got {text!r}")
    return raw


def uuid7_time_ms(raw: bytes) -> int:
    """When a UUIDv7 was made, milliseconds since 1970 (RFC 9562, section 5.7)."""
    return int.from_bytes(raw[:6], "big")
