"""Unary calls: the token, a deadline, retries that do nothing twice, and typed errors."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import Message
from grpc import aio

from chinwag.backoff import Backoff
from chinwag.errors import ChinwagError, Unauthenticated, Unavailable, from_rpc_error
from chinwag.failover import has_changed_nothing, is_repeatable

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Metadata = tuple[tuple[str, str], ...]

TIMEOUT_S = 15.0
ON_BEHALF_OF = "chinwag-on-behalf-of"


class Credential(Protocol):
    """What proves who calls."""

    async def token(self) -> str:
        """What stands after "Bearer "; refreshed first if it is about to end.

        Raises:
            ChinwagError: It has ended and cannot be refreshed.
        """

    async def rejected(self, token: str) -> None:
        """The server says that a token has expired: the next `token` is another one.

        Raises:
            ChinwagError: There is no other one.
        """


class ApiKey:
    """A `Credential` of a team's backend."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    async def token(self) -> str:
        return self._secret

    async def rejected(self, token: str) -> None:
        raise Unauthenticated("the API key has ended or was revoked", reason="TOKEN_EXPIRED")


def with_request_id(request: Request) -> Request:
    """Gives a request that changes something its request_id, so that a retry stores once."""
    if "request_id" in request.DESCRIPTOR.fields_by_name and not request.request_id:  # type: ignore[attr-defined]
        request.request_id = uuid.uuid4().hex  # type: ignore[attr-defined]
    return request


def is_worth_a_retry(error: ChinwagError, request: Message, left_s: float) -> bool:
    """Whether the same call should be made again within the time that is left."""
    if error.retry_after is not None and error.retry_after > left_s:
        return False
    if not (isinstance(error, Unavailable) or error.is_temporary):
        return False
    return is_repeatable(request) or has_changed_nothing(error)


class Calls:
    """Makes the unary calls of one client.

    A call that the server refuses for a moment, or that does not reach it, is made again until its
    time is over: with the same request_id, so it takes effect once.

    Args:
        credential: None: anonymous calls.
        timeout_s: For a call with all its retries.
        rng: For back-off.
    """

    def __init__(
        self,
        credential: Credential | None,
        *,
        timeout_s: float = TIMEOUT_S,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.credential = credential
        self._timeout_s = timeout_s
        self._rng = rng or random.Random()
        self.sleep = sleep
        self._monotonic = monotonic

    def backoff(self, *, base_s: float = 0.2, cap_s: float = 5.0) -> Backoff:
        """Waits between attempts."""
        return Backoff(self._rng, base_s=base_s, cap_s=cap_s)

    async def metadata(self, on_behalf_of: str = "") -> Metadata:
        """The metadata of a call."""
        pairs: list[tuple[str, str]] = []
        if self.credential is not None:
            pairs.append(("authorization", f"Bearer {await self.credential.token()}"))
        if on_behalf_of:
            pairs.append((ON_BEHALF_OF, on_behalf_of))
        return tuple(pairs)

    async def __call__(
        self,
        method: aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout_s: float | None = None,
        on_behalf_of: str = "",
    ) -> Response:
        """Makes a call.

        Args:
            method: Of a generated stub.
            timeout_s: For all attempts together; None: the client's.
            on_behalf_of: With an API key, the user for whom the call is made.

        Raises:
            ChinwagError: It was refused, or could not be made in time.
        """
        with_request_id(request)
        end = self._monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        backoff = self.backoff()
        renewed = False
        while True:
            metadata = await self.metadata(on_behalf_of)
            left = end - self._monotonic()
            try:
                return await method(request, timeout=max(left, 0.001), metadata=metadata)
            except grpc.RpcError as failure:
                error = from_rpc_error(failure)
            if error.reason == "TOKEN_EXPIRED" and self.credential is not None and not renewed:
                renewed = True
                await self.credential.rejected(metadata[0][1].removeprefix("Bearer "))
                continue
            left = end - self._monotonic()
            wait = max(backoff.next(), error.retry_after or 0.0)
            if wait >= left or not is_worth_a_retry(error, request, left):
                raise error
            await self.sleep(wait)


def set_fields(request: Any, mask: Any, **fields: Any) -> None:
    """Sets those fields of a request that are not None, and names them in its update mask."""
    for name, value in fields.items():
        if value is None:
            continue
        target = getattr(request, name)
        if isinstance(value, dict):
            target.clear()
            target.update(value)
        elif isinstance(value, Message):
            target.CopyFrom(value)
        else:
            setattr(request, name, value)
        mask.paths.append(name)
