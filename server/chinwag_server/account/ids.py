"""Ids and secrets of accounts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

from chinwag_server.rpc.auth import API_KEY_PREFIX

RandomBytes = Callable[[int], bytes]

SECRET_BYTES = 32


def base32(raw: bytes) -> str:
    """Lower case, without padding."""
    return base64.b32encode(raw).decode().rstrip("=").lower()


def base64url(raw: bytes) -> str:
    """RFC 4648, section 5, without padding."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def from_base64url(text: str) -> bytes:
    """The bytes of `base64url`.

    Raises:
        ValueError: It is none.
    """
    # The lenient decoder passes over foreign characters: two texts would mean the same.
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64url(raw) != text:
        raise ValueError("not base64url")
    return raw


def new_user_id(random_bytes: RandomBytes) -> str:
    """ "u" and 128 random bits."""
    return "u" + base32(random_bytes(16))


def new_device_id(random_bytes: RandomBytes) -> str:
    """ "d" and 128 random bits."""
    return "d" + base32(random_bytes(16))


def new_api_key(random_bytes: RandomBytes) -> tuple[str, str]:
    """(id, secret) of a new API key; the secret holds the id."""
    key_id = "k" + base32(random_bytes(10))
    return key_id, f"{API_KEY_PREFIX}{key_id}_{base64url(random_bytes(SECRET_BYTES))}"


def api_key_id(secret: str) -> str:
    """The id inside an API key's secret; "" if it is none."""
    key_id, found, rest = secret.removeprefix(API_KEY_PREFIX).partition("_")
    return key_id if found and rest and len(key_id) <= 64 else ""


def secret_hash(secret: str) -> bytes:
    """What is kept of a secret. It has 256 random bits: no salt and no slow hash is needed."""
    return hashlib.sha256(secret.encode()).digest()
