"""A client of etcd over grpc.aio: several endpoints, TLS, users.

It knows how to reach a member and what errors mean; what is asked is in `coordination` and
`watching`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc
from grpc.aio import AioRpcError

from chinwag_server.clock import Clock, SystemClock
from chinwag_server.mesh.coordination import (
    CoordinationRefused,
    CoordinationUnavailable,
    LeaseGone,
)
from chinwag_server.mesh.etcd.pb import rpc_pb2, rpc_pb2_grpc

TIMEOUT_S = 6.0
PAUSE_S = 0.1  # after a failed attempt
MAX_MESSAGE_BYTES = 32 * 1024 * 1024

Metadata = tuple[tuple[str, str], ...]

# A member that has lost its leader refuses at once, where it would otherwise hang.
_LEADER: Metadata = (("hasleader", "true"),)
_OPTIONS = (
    # A member that hangs is noticed by a watch after 9 s. etcd hangs up on pings within 5 s.
    ("grpc.keepalive_time_ms", 6000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.http2.ping_timeout_ms", 3000),  # without it grpcio 1.85 waits for a minute
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
)
_REFUSALS = (
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
)

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


@dataclass(slots=True, frozen=True)
class EtcdTls:
    """PEM files.

    Attributes:
        ca: What signed the servers' certificates; None: what this machine trusts.
        cert: Ours, with `key`, where etcd asks clients for one.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files.

        Raises:
            OSError: One cannot be read.
        """
        return grpc.ssl_channel_credentials(
            root_certificates=self.ca.read_bytes() if self.ca else None,
            private_key=self.key.read_bytes() if self.key else None,
            certificate_chain=self.cert.read_bytes() if self.cert else None,
        )


class RevisionAway(CoordinationUnavailable):
    """The revision that was asked for is compacted, or lies in the future."""


class Member:
    """One endpoint: a connection that is made when needed, and stubs on it."""

    def __init__(self, endpoint: str, credentials: grpc.ChannelCredentials | None) -> None:
        self.endpoint = endpoint
        self.channel = (
            grpc.aio.secure_channel(endpoint, credentials, options=_OPTIONS)
            if credentials
            else grpc.aio.insecure_channel(endpoint, options=_OPTIONS)
        )
        self.kv = rpc_pb2_grpc.KVStub(self.channel)
        self.lease = rpc_pb2_grpc.LeaseStub(self.channel)
        self.watch = rpc_pb2_grpc.WatchStub(self.channel)
        self.auth = rpc_pb2_grpc.AuthStub(self.channel)


class EtcdClient:
    """Make it on the event loop.

    Args:
        endpoints: HOST:PORT of one or more members of one cluster.
        user: With `password`, where etcd has users; "": none.
        timeout_s: In which a call ends, whatever happens.

    Raises:
        OSError: A file of `tls` cannot be read.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        tls: EtcdTls | None = None,
        user: str = "",
        password: str = "",
        timeout_s: float = TIMEOUT_S,
        clock: Clock | None = None,
    ) -> None:
        if not endpoints:
            raise ValueError("expected one or more etcd endpoints as HOST:PORT, got none")
        credentials = tls.credentials() if tls else None
        self._members = [Member(endpoint, credentials) for endpoint in endpoints]
        self._current = random.randrange(len(endpoints))
        self._user = user
        self._password = password
        self._token = ""
        self._logging_in = asyncio.Lock()
        self._timeout_s = timeout_s
        self.clock = clock or SystemClock()
        self.closed = False
        # One that hangs must leave time for another, or for a second try.
        self.attempt_s = timeout_s / max(2, len(endpoints))

    async def call(
        self,
        method: Callable[[Member], grpc.aio.UnaryUnaryMultiCallable[_Request, _Response]],
        request: _Request,
    ) -> _Response:
        """A unary call to whichever member answers.

        Raises:
            CoordinationUnavailable: None does, within the deadline.
            CoordinationRefused: It will not have us, or not this.
            LeaseGone: The lease that was named is not there.
        """

        async def attempt(member: Member, metadata: Metadata) -> _Response:
            return await method(member)(request, metadata=metadata)

        return await self.reach(attempt)

    async def reach(self, attempt: Callable[[Member, Metadata], Awaitable[_T]]) -> _T:
        """Tries members in turn until an attempt succeeds. Errors are those of `call`."""
        until = self.clock.monotonic() + self._timeout_s
        failures: dict[str, str] = {}
        while not self.closed:
            left = until - self.clock.monotonic()
            if left <= 0:
                break
            member, token = self.member(), self._token
            try:
                async with asyncio.timeout(min(left, self.attempt_s)):
                    return await attempt(member, await self.metadata(member))
            except TimeoutError:
                failures[member.endpoint] = "no answer"
                if token == self._token:
                    self.forget_token()
            except AioRpcError as error:
                failures[member.endpoint] = self.judge(error)
            self.failed(member)
            await asyncio.sleep(min(PAUSE_S, left))
        if self.closed:
            raise CoordinationUnavailable("this etcd client is closed")
        told = "; ".join(f"{endpoint}: {what}" for endpoint, what in failures.items())
        raise CoordinationUnavailable(
            f"etcd did not answer within {self._timeout_s:g} s: {told}. "
            "Check that it runs, the addresses, and whether it wants TLS"
        )

    def member(self) -> Member:
        """The one to try next."""
        return self._members[self._current]

    def failed(self, member: Member) -> None:
        """The next one is tried from now on."""
        if self.member() is member:
            self._current = (self._current + 1) % len(self._members)

    async def metadata(self, member: Member) -> Metadata:
        """What goes with every call; logs in if needed.

        Raises:
            AioRpcError: The login failed.
        """
        if not self._user:
            return _LEADER
        async with self._logging_in:
            if not self._token:
                request = rpc_pb2.AuthenticateRequest(name=self._user, password=self._password)
                reply = await member.auth.Authenticate(request, metadata=_LEADER)
                self._token = reply.token
        return (*_LEADER, ("token", self._token))

    def forget_token(self) -> None:
        """The next call logs in again. Also where there was no answer: etcd's tokens have an index
        in them, and a member that was restored from an older copy waits until it has come to it
        before it says a word."""
        self._token = ""

    def judge(self, error: AioRpcError) -> str:
        """What to say of an error after which another attempt makes sense.

        Raises:
            CoordinationRefused, LeaseGone, RevisionAway: It does not.
        """
        code, details = error.code(), error.details() or ""
        if code is grpc.StatusCode.NOT_FOUND:
            raise LeaseGone(details) from error
        if code is grpc.StatusCode.OUT_OF_RANGE:
            raise RevisionAway(details) from error
        # Tokens end with a member's restart, with time, and with any change of users.
        if "invalid auth token" in details or "revision of auth store is old" in details:
            self.forget_token()
        elif code in _REFUSALS:
            who = f"user {self._user!r}" if self._user else "a client without a user"
            raise CoordinationRefused(
                f"etcd refuses {who}: {details or code.name}. Check the user, the password, and "
                "what the user's role may read and write"
            ) from error
        return f"{code.name} {details}".strip()

    async def close(self) -> None:
        """Ends all connections, and what runs on them."""
        self.closed = True
        for member in self._members:
            await member.channel.close()
