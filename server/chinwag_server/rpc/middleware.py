"""What every call goes through, once, whatever serves it.

In this order: draining, room for one more call, metadata size, the client's address, the token,
the method's access rule, rate limits, and for each message its size, form and rules; then the
servicer, under a deadline. Whatever it raises becomes a status here: a `Refusal` as it is,
anything else INTERNAL without its text, which the log has under the request's id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import Message
from google.rpc import status_pb2

from chinwag_server.clock import Clock, SystemClock
from chinwag_server.observe.logs import describe, set_log_fields
from chinwag_server.rpc import pushed
from chinwag_server.rpc.auth import Authenticator, ClientAddress, authenticate, with_address
from chinwag_server.rpc.call import Aborted, CallFailed, Context, Head, PeerGone
from chinwag_server.rpc.caller import Caller, set_caller
from chinwag_server.rpc.errors import Code, Refusal, Unavailable
from chinwag_server.rpc.ratelimit import Limiter
from chinwag_server.rpc.registry import Method
from chinwag_server.rpc.validation import parse

log = logging.getLogger(__name__)

Read = Callable[[], Awaitable[bytes | None]]
Write = Callable[[bytes], Awaitable[None]]

DRAIN_RETRY_S = 1.0
OVERLOAD_RETRY_S = 1.0
UNAVAILABLE_RETRY_S = 1.0


@dataclass(slots=True, frozen=True)
class CallLimits:
    """Bounds of calls.

    Attributes:
        message_bytes: Of one request message.
        metadata_bytes: Of a call's metadata, as HTTP/2 counts.
        unary_deadline_s: How long a unary call may run, whatever its client allows.
        running_calls, running_streams: At one time, in the whole process.
    """

    message_bytes: int = 4 << 20
    metadata_bytes: int = 16 << 10
    unary_deadline_s: float = 75.0
    running_calls: int = 10_000
    running_streams: int = 100_000


class CallObserver(Protocol):
    """Told of every call."""

    def call_started(self, method: Method) -> None: ...

    def call_finished(self, method: Method, code: int, seconds: float) -> None: ...


class Middleware:
    """Runs calls of registered methods.

    Args:
        calls: Limits calls by user and address.
        anonymous: Limits calls without a token by address.

    Attributes:
        draining: New calls are refused with DRAINING; running ones go on.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        *,
        limits: CallLimits,
        addresses: ClientAddress,
        calls: Limiter,
        anonymous: Limiter,
        observer: CallObserver,
        clock: Clock | None = None,
    ) -> None:
        self.draining = False
        self._authenticator = authenticator
        self._limits = limits
        self._addresses = addresses
        self._rates = {False: calls, True: anonymous}
        self.observer = observer
        self.monotonic = (clock or SystemClock()).monotonic
        self._running_calls = 0
        self._running_streams = 0

    @property
    def running_calls(self) -> int:
        """Unary calls in work."""
        return self._running_calls

    @property
    def running_streams(self) -> int:
        """Open streams of all kinds, but for health watches and reflection."""
        return self._running_streams

    async def unary(self, method: Method, head: Head, read: Read) -> bytes:
        """Runs a unary call.

        Args:
            read: Gives the serialised request once the call is let in; None: there was none.

        Returns:
            The serialised response.

        Raises:
            CallFailed: The status with which the call ends.
        """
        limit_s = self._limits.unary_deadline_s
        if head.time_left_s is not None:
            limit_s = min(limit_s, head.time_left_s)
        self._running_calls += 1
        try:
            result: bytes = await self._run(method, head, limit_s, self._unary(method, head, read))
        finally:
            self._running_calls -= 1
        return result

    async def stream(
        self, method: Method, head: Head, incoming: AsyncIterator[bytes], write: Write
    ) -> None:
        """Runs a call with a stream in either direction or both.

        Args:
            incoming: Serialised requests; for a unary request the one.
            write: Sends a serialised response; raises PeerGone.

        Raises:
            CallFailed: The status with which the call ends, if it is not OK.
        """
        self.stream_opened(method)
        try:
            await self._run(
                method, head, head.time_left_s, self._stream(method, head, incoming, write)
            )
        finally:
            self.stream_closed(method)

    def open(self, method: Method, head: Head) -> OpenedStream:
        """Begins a call of a pushed method (see `pushed`): the core admits it, and says when it
        is over."""
        return OpenedStream(self, method, head.request_id)

    # --- the frame of a call ---

    async def _run(
        self, method: Method, head: Head, limit_s: float | None, work: Awaitable[Any]
    ) -> Any:
        set_log_fields(request_id=head.request_id, method=method.path)
        self.observer.call_started(method)
        started = self.monotonic()
        code = int(Code.OK)
        deadline = asyncio.timeout(limit_s)
        try:
            async with deadline:
                return await work
        except asyncio.CancelledError:
            code = int(Code.CANCELLED)
            raise
        except Exception as error:
            if isinstance(error, TimeoutError) and deadline.expired():
                error = Refusal("DEADLINE_EXCEEDED", "the call took longer than it may")
            status = self.status_of(error, method, head.request_id)
            code = status.code
            raise CallFailed(status, head.request_id) from error
        finally:
            self.observer.call_finished(method, code, self.monotonic() - started)

    def status_of(self, error: BaseException, method: Method, request_id: str) -> status_pb2.Status:
        """How a call ends that raised an error. What is no refusal is logged, and not told."""
        if isinstance(error, Refusal):
            refusal = error
        elif isinstance(error, Aborted):
            return status_pb2.Status(code=error.code, message=error.message)
        elif isinstance(error, PeerGone):
            return status_pb2.Status(code=int(Code.CANCELLED), message="the client is gone")
        elif isinstance(error, Unavailable):
            log.warning("%s has to wait: %s", method.path, error)
            return Refusal(
                "STORAGE_UNAVAILABLE",
                "the store cannot be reached now: retry with the same id",
                retry_after=UNAVAILABLE_RETRY_S,
            ).status()
        else:
            log.error("%s failed: %s", method.path, describe(error))
            return Refusal(
                "INTERNAL", f"the server failed; its log has it under the request id {request_id}"
            ).status()
        log.debug("%s refused: %s", method.path, refusal.reason)
        return refusal.status()

    def stream_opened(self, method: Method) -> None:
        """Counts a stream."""
        if not method.infrastructure:
            self._running_streams += 1

    def stream_closed(self, method: Method) -> None:
        """It is over."""
        if not method.infrastructure:
            self._running_streams -= 1

    # --- before the servicer ---

    async def admit(self, method: Method, head: Head) -> Callable[..., Any]:
        """Lets a call in, as its caller.

        Raises:
            Refusal: The call is not let in.
        """
        limits = self._limits
        if method.infrastructure and method.behaviour is not None:
            return method.behaviour
        if self.draining:
            raise Refusal(
                "DRAINING",
                "this server is shutting down: call another one, or this one later",
                retry_after=DRAIN_RETRY_S,
            )
        if (
            self._running_calls > limits.running_calls
            or self._running_streams > limits.running_streams
        ):
            raise Refusal(
                "OVERLOADED", "the server has too many calls in work", retry_after=OVERLOAD_RETRY_S
            )
        if head.metadata_bytes > limits.metadata_bytes:
            raise Refusal(
                "TOO_LARGE",
                f"metadata has at most {limits.metadata_bytes} bytes, got {head.metadata_bytes}",
            )
        if method.behaviour is None:
            raise Refusal("NOT_IMPLEMENTED", f"{method.path} is not offered by this server yet")
        address = self._addresses.of(head.peer, head.metadata)
        caller = await authenticate(self._authenticator, method.access, head.metadata)
        caller = with_address(caller, address)
        self._take(caller, method)
        set_caller(caller)
        set_log_fields(
            request_id=head.request_id,
            method=method.path,
            user_id=caller.user_id,
            api_key_id=caller.api_key_id,
        )
        return method.behaviour

    def _take(self, caller: Caller, method: Method) -> None:
        wait_s = self._rates[method.access.anonymous].take(caller)
        if wait_s:
            raise Refusal(
                "RATE_LIMITED",
                "too many calls: slow down and try again",
                retry_after=max(wait_s, 0.001),
            )

    def _parse(self, method: Method, data: bytes) -> Message:
        if len(data) > self._limits.message_bytes:
            raise Refusal(
                "TOO_LARGE",
                f"a message has at most {self._limits.message_bytes} bytes, got {len(data)}",
            )
        return parse(method.input_type, data)

    # --- the servicer ---

    async def _unary(self, method: Method, head: Head, read: Read) -> bytes:
        behaviour = await self.admit(method, head)
        data = await read()
        if data is None:
            raise Refusal("MALFORMED", "the call ended without a request")
        request = self._parse(method, data)
        del data  # it may be large, and the answer may take long
        response: Message = await behaviour(request, Context(head))
        return response.SerializeToString()

    async def _stream(
        self, method: Method, head: Head, incoming: AsyncIterator[bytes], write: Write
    ) -> None:
        behaviour = await self.admit(method, head)
        if method.raw:
            await behaviour(incoming, write)
            return
        if method.pushed:
            await pushed.serve(behaviour, incoming, write)
            return

        async def write_message(message: Message) -> None:
            await write(message.SerializeToString())

        context = Context(head, write_message)
        messages = self._messages(method, incoming)
        async with aclosing(messages):
            request: Any = messages if method.request_streaming else await anext(messages, None)
            if request is None:
                raise Refusal("MALFORMED", "the call ended without a request")
            answer = behaviour(request, context)
            if hasattr(answer, "__aiter__"):
                async with aclosing(answer):
                    async for message in answer:
                        await write_message(message)
            elif (message := await answer) is not None:  # or it has used context.write
                await write_message(message)

    async def _messages(
        self, method: Method, incoming: AsyncIterator[bytes]
    ) -> AsyncGenerator[Message, None]:
        async for data in incoming:
            yield self._parse(method, data)


class OpenedStream:
    """A call of a pushed method, while it is open: counted and observed like any other."""

    __slots__ = ("_method", "_middleware", "_over", "_request_id", "_started")

    def __init__(self, middleware: Middleware, method: Method, request_id: str) -> None:
        self._middleware = middleware
        self._method = method
        self._request_id = request_id
        self._started = middleware.monotonic()
        self._over = False
        middleware.stream_opened(method)
        middleware.observer.call_started(method)

    async def admit(self, head: Head, sink: pushed.Sink) -> pushed.PushedStream:
        """Opens the stream in its room.

        Raises:
            Refusal: It is not let in.
        """
        set_log_fields(request_id=head.request_id, method=self._method.path)
        behaviour: pushed.OpenStream = await self._middleware.admit(self._method, head)
        return behaviour(sink)

    def failed(self, error: BaseException) -> CallFailed:
        """The status of a call that ends with an error."""
        status = self._middleware.status_of(error, self._method, self._request_id)
        return CallFailed(status, self._request_id)

    def over(self, code: int) -> None:
        """The call has ended; said once or more."""
        if self._over:
            return
        self._over = True
        middleware = self._middleware
        middleware.stream_closed(self._method)
        seconds = middleware.monotonic() - self._started
        middleware.observer.call_finished(self._method, code, seconds)
