"""Unary calls and logins without asyncio: see `chinwag.calls` and `chinwag.session`."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import grpc

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import account_service_pb2_grpc
from chinwag.addresses import Addresses, parse_addresses
from chinwag.backoff import Backoff
from chinwag.blocking.routes import open_routes
from chinwag.calls import (
    ON_BEHALF_OF,
    TIMEOUT_S,
    Request,
    Response,
    is_worth_a_retry,
    with_request_id,
)
from chinwag.errors import Unauthenticated, from_rpc_error
from chinwag.session import REFRESH_BEFORE_S, TRUST_S, Session, device_info
from chinwag.transport import Security, Tls


class SessionCredential:
    """Keeps a session's tokens fresh, one refresh at a time over all threads."""

    def __init__(self, session: Session, stub: account_service_pb2_grpc.AccountServiceStub) -> None:
        self.session = session
        self._stub = stub
        self._lock = threading.Lock()
        self._refreshed_at: float | None = None

    def token(self) -> str:
        """What stands after "Bearer "."""
        with self._lock:
            session, at = self.session, self._refreshed_at
            is_new = at is not None and time.monotonic() - at < TRUST_S
            left_s = session.access_expire_time_s - time.time()
            if session.access_expire_time_s and not is_new and left_s < REFRESH_BEFORE_S:
                self._refresh()
            return session.access_token

    def rejected(self, token: str) -> None:
        """The server says that a token has expired."""
        with self._lock:
            if token == self.session.access_token:
                self._refresh()

    def _refresh(self) -> None:
        session = self.session
        if not session.refresh_token:
            raise Unauthenticated(
                "the access token has ended and there is no refresh token: log in again",
                reason="TOKEN_EXPIRED",
            )
        request = pb.RefreshTokenRequest(
            refresh_token=session.refresh_token, device_id=session.device_id
        )
        session.take(Calls(None)(self._stub.RefreshToken, request).tokens)
        self._refreshed_at = time.monotonic()


class ApiKey:
    """An API key as a credential."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def token(self) -> str:
        return self._secret

    def rejected(self, token: str) -> None:
        raise Unauthenticated("the API key has ended or was revoked", reason="TOKEN_EXPIRED")


class Credential(Protocol):
    """What proves who calls."""

    def token(self) -> str: ...

    def rejected(self, token: str) -> None: ...


class Calls:
    """`Calls` without asyncio."""

    def __init__(
        self,
        credential: Credential | None,
        *,
        timeout_s: float = TIMEOUT_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._credential = credential
        self._timeout_s = timeout_s
        self.sleep = sleep
        self._rng = random.Random()

    def metadata(self, on_behalf_of: str = "") -> tuple[tuple[str, str], ...]:
        """The metadata of a call."""
        pairs: list[tuple[str, str]] = []
        if self._credential is not None:
            pairs.append(("authorization", f"Bearer {self._credential.token()}"))
        if on_behalf_of:
            pairs.append((ON_BEHALF_OF, on_behalf_of))
        return tuple(pairs)

    def backoff(self) -> Backoff:
        """Waits between attempts."""
        return Backoff(self._rng, base_s=0.2, cap_s=5.0)

    def __call__(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout_s: float | None = None,
        on_behalf_of: str = "",
    ) -> Response:
        """Makes a call; retries store once. See `Calls`."""
        with_request_id(request)
        end = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        backoff = self.backoff()
        renewed = False
        while True:
            metadata = self.metadata(on_behalf_of)
            left = max(end - time.monotonic(), 0.001)
            try:
                return method(request, timeout=left, metadata=metadata)
            except grpc.RpcError as failure:
                error = from_rpc_error(failure)
            if error.reason == "TOKEN_EXPIRED" and self._credential is not None and not renewed:
                renewed = True
                self._credential.rejected(metadata[0][1].removeprefix("Bearer "))
                continue
            left = end - time.monotonic()
            wait = max(backoff.next(), error.retry_after or 0.0)
            if wait >= left or not is_worth_a_retry(error, request, left):
                raise error
            self.sleep(wait)


def _anonymous(addresses: Addresses, security: Security, method: str, request: Any) -> Any:
    with open_routes(addresses, security) as channel:
        stub = account_service_pb2_grpc.AccountServiceStub(channel)
        return Calls(None)(getattr(stub, method), request)


def sign_up(
    address: Addresses,
    username: str,
    password: str,
    *,
    device_name: str = "",
    tls: Tls = None,
    insecure: bool = False,
) -> Session:
    """Makes an account and logs this program in: see `chinwag.sign_up`."""
    request = pb.SignUpRequest(
        username=username, password=password, device=device_info(device_name)
    )
    answer = _anonymous(address, Security(tls, insecure), "SignUp", request)
    return Session.of(answer.tokens, username=username, address=",".join(parse_addresses(address)))


def log_in(
    address: Addresses,
    username: str,
    password: str,
    *,
    device_name: str = "",
    tls: Tls = None,
    insecure: bool = False,
) -> Session:
    """Opens a session for this program: see `chinwag.log_in`."""
    request = pb.LogInRequest(username=username, password=password, device=device_info(device_name))
    answer = _anonymous(address, Security(tls, insecure), "LogIn", request)
    return Session.of(answer.tokens, username=username, address=",".join(parse_addresses(address)))
