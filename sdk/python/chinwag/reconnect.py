"""What to do after a stream has ended: when to connect again, where, with a new token, or never."""

from __future__ import annotations

import random
from dataclasses import dataclass

from chinwag.backoff import Backoff
from chinwag.common.v1 import close_pb2
from chinwag.errors import (
    ChinwagError,
    ClientClosed,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Replaced,
    Unauthenticated,
    from_status,
)

_UNIMPLEMENTED = 12
_FOR_GOOD = (PermissionDenied, InvalidArgument, NotFound, FailedPrecondition)


@dataclass(frozen=True, slots=True)
class Plan:
    """The next attempt.

    Attributes:
        delay_s: How long to wait first.
        address: Where, for this attempt alone; empty: as before.
        new_token: Refresh the access token first.
        error: Why the last stream ended, if something was wrong.
    """

    delay_s: float
    address: str = ""
    new_token: bool = False
    error: ChinwagError | None = None


class Reconnect:
    """Decides by the server's guidance, or else by the status and with full jitter."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._backoff = Backoff(rng)
        self._token_is_new = False

    def welcomed(self) -> None:
        """The server took the token."""
        self._token_is_new = False

    def caught_up(self) -> None:
        """The connection is good: the next break starts from the shortest waits."""
        self._backoff.reset()

    def guided(self, close: close_pb2.Close) -> Plan | ChinwagError:
        """The server said why the stream ends: the next attempt, or the error for good."""
        error = closed_error(close)
        if not close.reconnect:
            return error
        delay_s = close.min_delay.ToNanoseconds() / 1e9
        jitter_s = close.jitter.ToNanoseconds() / 1e9
        delay_s += self._rng.uniform(0, jitter_s) if jitter_s else self._backoff.next()
        new_token = close.reason == close_pb2.CLOSE_REASON_TOKEN_EXPIRED
        wrong = error if close.status.code else None
        return Plan(delay_s, close.address, new_token, wrong)

    def broken(self, error: ChinwagError | None) -> Plan | ChinwagError:
        """The stream ended, or could not be opened, without guidance."""
        if error is None:
            return Plan(self._backoff.next())
        if isinstance(error, Unauthenticated):
            # A token that was just refreshed and is refused again will not get better.
            if self._token_is_new:
                return error
            self._token_is_new = True
            return Plan(self._backoff.next(), new_token=True, error=error)
        if isinstance(error, _FOR_GOOD) or error.code == _UNIMPLEMENTED:
            return error
        return Plan(max(self._backoff.next(), error.retry_after or 0.0), error=error)


def closed_error(close: close_pb2.Close) -> ChinwagError:
    """A `Close` as an error."""
    known = close.reason in close_pb2.CloseReason.values()
    name = close_pb2.CloseReason.Name(close.reason) if known else f"CLOSE_REASON_{close.reason}"
    name = name.removeprefix("CLOSE_REASON_")
    if close.reason == close_pb2.CLOSE_REASON_REPLACED:
        return Replaced(
            "another stream of the same device took over: give each program a login of its own",
            reason=name,
        )
    if close.status.code:
        error = from_status(close.status)
        error.metadata.setdefault("close_reason", name)
        return error
    return ClientClosed(close.status.message or "the server closed the stream", reason=name)
