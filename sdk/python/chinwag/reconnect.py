"""What to do after a stream has ended: when to connect again, where, with a new token, or never."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf import duration_pb2

from chinwag.backoff import Backoff
from chinwag.common.v1 import close_pb2
from chinwag.endpoints import Endpoints
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

# The node gives the stream away: with no address, any other node will do.
_GO_AWAY = (close_pb2.CLOSE_REASON_DRAINING, close_pb2.CLOSE_REASON_MOVED)
# A node that ends so many streams in a row, each before it was caught up, is left for another.
CLOSES = 3
# A server's wish to stay away is granted up to this; beyond it something is wrong with the server.
MAX_GUIDED_S = 3600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The next attempt.

    Attributes:
        delay_s: How long to wait first.
        address: Where; one of the client's own, or for this attempt alone another one.
        new_token: Refresh the access token first.
        error: Why the last stream ended, if something was wrong.
    """

    delay_s: float
    address: str = ""
    new_token: bool = False
    error: ChinwagError | None = None


class Reconnect:
    """Decides by the server's guidance, or else by the status and with full jitter.

    Args:
        may_follow: Whether to go to an address that the server names: see `redirect`.
    """

    def __init__(
        self,
        rng: random.Random,
        endpoints: Endpoints,
        may_follow: Callable[[str], bool] | None = None,
    ) -> None:
        self._rng = rng
        self._endpoints = endpoints
        self._may_follow = may_follow or endpoints.__contains__
        self._backoff = Backoff(rng)
        self._token_is_new = False
        self._closes = 0
        # Where the last stream is, or was tried.
        self._address = endpoints.current

    def first(self) -> Plan:
        """The first attempt."""
        return Plan(0.0, self._address)

    def resumed(self) -> Plan:
        """The client itself ended the stream, to resume: at once, where it was."""
        return Plan(0.0, self._stay())

    def welcomed(self) -> None:
        """The server took the token."""
        self._token_is_new = False

    def caught_up(self) -> None:
        """The connection is good: the next break starts from the shortest waits."""
        self._backoff.reset()
        self._closes = 0
        self._endpoints.works(self._address)

    def guided(self, close: close_pb2.Close) -> Plan | ChinwagError:
        """The server said why the stream ends: the next attempt, or the error for good."""
        error = closed_error(close)
        if not close.reconnect:
            return error
        self._closes += 1
        delay_s, jitter_s = _seconds(close.min_delay), _seconds(close.jitter)
        if not jitter_s:
            delay_s += self._backoff.next()
        else:
            delay_s += self._rng.uniform(0, jitter_s)
            if self._closes > 1:
                # Two nodes that send a client to each other must not be a loop without waits.
                delay_s = max(delay_s, self._backoff.next())
        self._address = self._guided_to(close)
        new_token = close.reason == close_pb2.CLOSE_REASON_TOKEN_EXPIRED
        wrong = error if close.status.code else None
        return Plan(delay_s, self._address, new_token, wrong)

    def _guided_to(self, close: close_pb2.Close) -> str:
        endpoints = self._endpoints
        if close.address and self._may_follow(close.address):
            if close.address in endpoints:
                endpoints.use(close.address)
            return close.address
        if close.reason in _GO_AWAY or self._closes % CLOSES == 0:
            endpoints.failed(self._address)
            return endpoints.next()[0]
        return self._stay()

    def _stay(self) -> str:
        """The same address again, but for one that the server gave for one attempt."""
        if self._address not in self._endpoints:
            self._address = self._endpoints.current
        return self._address

    def broken(self, error: ChinwagError | None) -> Plan | ChinwagError:
        """The stream ended, or could not be opened, without guidance."""
        if isinstance(error, Unauthenticated):
            # A token that was just refreshed and is refused again will not get better.
            if self._token_is_new:
                return error
            self._token_is_new = True
            return Plan(self._backoff.next(), self._stay(), new_token=True, error=error)
        if error is not None and (isinstance(error, _FOR_GOOD) or error.code == _UNIMPLEMENTED):
            return error
        at_once = self._endpoints.ended(self._address, error)
        self._address = self._endpoints.current
        if at_once:
            return Plan(0.0, self._address, error=error)
        wait_s = (error.retry_after if error is not None else None) or 0.0
        return Plan(max(self._backoff.next(), wait_s), self._address, error=error)


def _seconds(duration: duration_pb2.Duration) -> float:
    return min(max(duration.ToNanoseconds() / 1e9, 0.0), MAX_GUIDED_S)


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
