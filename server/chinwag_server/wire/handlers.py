"""Methods as generated code registers them, run as coroutines.

`add_...Servicer_to_server(servicer, server)` gives for each method an object with its kind, its
behaviour, and how its messages become bytes (`grpc.RpcMethodHandler`; grpc itself is not
imported). A method's failure becomes the status that statuscodes.md of the gRPC project has for it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from chinwag_server.wire.call import Call
from chinwag_server.wire.context import Context
from chinwag_server.wire.running import CallOver, Running
from chinwag_server.wire.status import CallError, Code

log = logging.getLogger(__name__)

Proceed = Callable[[], Awaitable[None]]
# Wraps the running of each call: awaits `proceed` once, or raises CallError to refuse the call.
Middleware = Callable[[Call, Proceed], Awaitable[None]]


class MethodHandler(Protocol):
    """What generated code makes of a servicer's method."""

    request_streaming: bool
    response_streaming: bool
    request_deserializer: Any
    response_serializer: Any
    unary_unary: Any
    unary_stream: Any
    stream_unary: Any
    stream_stream: Any


class Method:
    """A method that can be called."""

    def __init__(self, path: str, handler: MethodHandler) -> None:
        self.path = path
        self.request_streaming = handler.request_streaming
        self.response_streaming = handler.response_streaming
        self._parse = handler.request_deserializer or (lambda data: data)
        self._serialize = handler.response_serializer or (lambda message: message)
        self._behaviour = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )

    def open(self, call: Call, middleware: Sequence[Middleware]) -> None:
        """Runs a call in a task of its own."""
        running = Running(call)
        if not self.request_streaming:
            call.await_message()
        if call.timeout_s is not None:
            running.end_after(call.timeout_s)
        running.start(self._serve(running, middleware))

    async def _serve(self, running: Running, middleware: Sequence[Middleware]) -> None:
        context = Context(running, self._parse_request, self._serialize)

        async def run() -> None:
            await self._run(running, context)

        proceed: Proceed = run
        for wrap in reversed(middleware):
            proceed = _wrapped(wrap, running.call, proceed)
        try:
            await proceed()
            context.finish()
        except asyncio.CancelledError:
            if not running.cancelled:  # the method awaited something that was
                log.exception("%s failed", self.path)
                context.finish(Code.INTERNAL, "the server failed")
            elif running.ended_by is None:  # the server ends its tasks
                context.finish(Code.UNAVAILABLE, "the server is shutting down")
                raise
        except CallError as error:
            context.finish(error.code, error.message)
        except CallOver:
            pass
        except NotImplementedError:
            # What generated base servicers raise, after they have set the code.
            context.finish(context.code() or Code.UNIMPLEMENTED, context.details())
        except Exception:
            log.exception("%s failed", self.path)
            context.finish(context.code() or Code.INTERNAL, "the server failed")
        finally:
            running.call.cancel()  # only if it could not be finished
            context.tell_done()

    def _parse_request(self, data: bytes) -> Any:
        try:
            return self._parse(data)
        except Exception as error:
            raise CallError(Code.INTERNAL, "a message cannot be parsed") from error

    async def _run(self, running: Running, context: Context) -> None:
        if self.request_streaming:
            requests = self._requests(running)
            async with aclosing(requests):
                await self._answer(requests, context)
        else:
            data = await running.read()
            if data is None:
                raise CallError(Code.INTERNAL, "the call ended without a request")
            # Nothing is waited for any more: what else comes is not read.
            await self._answer(self._parse_request(data), context)

    async def _requests(self, running: Running) -> Any:
        while (data := await running.read()) is not None:
            yield self._parse_request(data)

    async def _answer(self, request: Any, context: Context) -> None:
        behaviour = self._behaviour
        if inspect.isasyncgenfunction(behaviour):
            answer = behaviour(request, context)
        elif inspect.iscoroutinefunction(behaviour):
            answer = await behaviour(request, context)
        else:
            if self.request_streaming:
                request = _NotInThreads()
            answer = await asyncio.to_thread(behaviour, request, context)
            if inspect.isawaitable(answer):
                answer = await answer
        if not self.response_streaming:
            # With a code that is not OK there may be no answer.
            if answer is not None or not context.code():
                await context.write(answer)
        elif isinstance(answer, AsyncIterator):
            await _write_all(answer, context)
        elif isinstance(answer, Iterator):
            while (message := await asyncio.to_thread(next, answer, None)) is not None:
                await context.write(message)
        # or it has used context.write


async def _write_all(messages: AsyncIterator[Any], context: Context) -> None:
    try:
        async for message in messages:
            await context.write(message)
    finally:
        if isinstance(messages, AsyncGenerator):
            await messages.aclose()


def _wrapped(wrap: Middleware, call: Call, proceed: Proceed) -> Proceed:
    async def wrapped() -> None:
        await wrap(call, proceed)

    return wrapped


class _NotInThreads:
    """Requests of a plain function that would have to block for them."""

    def __iter__(self) -> Iterator[Any]:
        raise CallError(Code.UNIMPLEMENTED, "streams of requests need an async method")
