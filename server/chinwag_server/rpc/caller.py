"""Who is calling: set by the middleware before a servicer runs."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True, frozen=True)
class Caller:
    """An authenticated caller.

    Attributes:
        user_id: The user for whom the call runs; empty for an API key's own call.
        device_id: The user's device (= session); empty for API keys.
        expire_time_us: When the access token ends, microseconds since 1970; 0: never.
        api_key_id: The API key that calls, also on behalf of a user; else empty.
        scopes: The API key's scopes.
        address: The client's address (of the peer, or as a trusted proxy says).
    """

    user_id: str = ""
    device_id: str = ""
    expire_time_us: int = 0
    api_key_id: str = ""
    scopes: frozenset[str] = field(default=frozenset())
    address: str = ""


ANONYMOUS = Caller()

_current: ContextVar[Caller] = ContextVar("caller", default=ANONYMOUS)


def current_caller() -> Caller:
    """The caller of the running call; `ANONYMOUS` where none was needed."""
    return _current.get()


def set_caller(caller: Caller) -> None:
    """Called by the middleware, and by tests of servicers."""
    _current.set(caller)
