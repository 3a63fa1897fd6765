"""A servicer that does what each call tells it, and says what it saw; on either core.

The script is the call's metadata "script-bin", so that requests may be of any size, or broken.
"""

from __future__ import annotations

import ast
import asyncio
import hashlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import BytesValue
from grpc import aio

from chinwag_server.wire import Limits, Server

HOST = "127.0.0.1"
SERVICE = "differential.Scripted"
LIMIT = 4 << 20  # of a message
METADATA_LIMIT = 16 << 10
SCRIPT, CALL = "script-bin", "call"
CODES = {code.value[0]: code for code in grpc.StatusCode}
HANG_S = 60.0
# Without a deadline grpc.aio says that a call has very long, the wire says None.
NO_DEADLINE_S = 3600.0

Pairs = tuple[tuple[str, str | bytes], ...]
# What a script does, step by step: a verb and its arguments. See `_perform`.
Step = tuple[Any, ...]
Read = Callable[[], Awaitable[Any]]
# A message as it is compared: its size and its hash.
Print = tuple[int, str]


def print_of(data: bytes) -> Print:
    """Tells messages apart."""
    return len(data), hashlib.sha256(data).hexdigest()[:12]


@lru_cache(64)
def payload(size: int, number: int) -> bytes:
    """A message's bytes: every second one is of zeros, the others cannot be compressed."""
    return bytes(size) if number % 2 else random.Random(number).randbytes(size)


@dataclass
class Seen:
    """What a handler saw of its call.

    Attributes:
        received: The requests that it took.
        eof: It was told that the client has sent all.
        ending: "returned", "raised" (by the script), "aborted" or "cancelled".
        write_failed: A write raised, which the client's leaving does on one core.
    """

    received: list[Print] = field(default_factory=list)
    metadata: Pairs = ()
    deadline: bool = False
    eof: bool = False
    ending: str = ""
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Journal:
    """What the handlers of one server saw, by call."""

    def __init__(self) -> None:
        self._calls: dict[str, Seen] = {}

    def of(self, call: str) -> Seen:
        """Made by whoever asks first."""
        return self._calls.setdefault(call, Seen())

    def forget(self, call: str) -> None:
        """The call was compared."""
        self._calls.pop(call, None)


class ScriptedError(Exception):
    """The script said so."""


class Scripted:
    """The four kinds of methods; streams of responses once as generators, once by context.write,
    streams of requests once by iterating, once by context.read."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def _perform(
        self, context: Any, read: Read, requests: tuple[Any, ...] = ()
    ) -> AsyncGenerator[BytesValue, None]:
        metadata = dict(context.invocation_metadata())
        seen = self._journal.of(metadata[CALL])
        seen.metadata = tuple((str(key), value) for key, value in context.invocation_metadata())
        remaining = context.time_remaining()
        seen.deadline = remaining is not None and remaining < NO_DEADLINE_S
        seen.received.extend(print_of(request.value) for request in requests)
        number = 0
        try:
            for verb, *arguments in ast.literal_eval(metadata[SCRIPT].decode()):
                if verb == "head":
                    await context.send_initial_metadata(arguments[0])
                elif verb == "trailers":
                    context.set_trailing_metadata(arguments[0])
                elif verb == "gzip":
                    context.set_compression(grpc.Compression.Gzip)
                elif verb == "write":
                    for _ in range(arguments[1]):
                        yield BytesValue(value=payload(arguments[0], number))
                        number += 1
                elif verb in ("read", "echo"):
                    left = arguments[0]
                    while left and (request := await read()) is not None:
                        left -= 1
                        seen.received.append(print_of(request.value))
                        if verb == "echo":
                            yield request
                    seen.eof = seen.eof or left != 0
                elif verb == "pause":
                    await asyncio.sleep(arguments[0])
                elif verb == "hang":
                    await asyncio.sleep(HANG_S)
                elif verb == "set":
                    context.set_code(CODES[arguments[0]])
                    context.set_details(arguments[1])
                elif verb == "abort":
                    seen.ending = "aborted"
                    await context.abort(CODES[arguments[0]], *arguments[1:])
                elif verb == "raise":
                    seen.ending = "raised"
                    raise ScriptedError(arguments[0])
                else:
                    raise AssertionError(verb)
            seen.ending = "returned"
        except (asyncio.CancelledError, GeneratorExit):
            # GeneratorExit: cancelled while its core wrote what it gave.
            seen.ending = "cancelled"
            raise
        finally:
            seen.ending = seen.ending or "failed"
            seen.over.set()

    async def _last(self, answers: AsyncGenerator[BytesValue, None]) -> BytesValue:
        last = BytesValue(value=b"nothing written")
        async with aclosing(answers):
            async for answer in answers:
                last = answer
        return last

    async def _written(self, answers: AsyncGenerator[BytesValue, None], context: Any) -> None:
        async with aclosing(answers):
            async for answer in answers:
                await context.write(answer)

    async def unary(self, request: BytesValue, context: Any) -> BytesValue:
        return await self._last(self._perform(context, _nothing, (request,)))

    async def stream_out(self, request: BytesValue, context: Any) -> AsyncIterator[BytesValue]:
        async with aclosing(self._perform(context, _nothing, (request,))) as answers:
            async for answer in answers:
                yield answer

    async def write_out(self, request: BytesValue, context: Any) -> None:
        await self._written(self._perform(context, _nothing, (request,)), context)

    async def stream_in(self, requests: AsyncIterator[BytesValue], context: Any) -> BytesValue:
        return await self._last(self._perform(context, _iterating(requests)))

    async def read_in(self, _requests: AsyncIterator[BytesValue], context: Any) -> BytesValue:
        return await self._last(self._perform(context, _reading(context)))

    async def both(
        self, requests: AsyncIterator[BytesValue], context: Any
    ) -> AsyncIterator[BytesValue]:
        async with aclosing(self._perform(context, _iterating(requests))) as answers:
            async for answer in answers:
                yield answer

    async def write_both(self, _requests: AsyncIterator[BytesValue], context: Any) -> None:
        await self._written(self._perform(context, _reading(context)), context)


async def _nothing() -> None:
    return None


def _iterating(requests: AsyncIterator[BytesValue]) -> Read:
    async def read() -> BytesValue | None:
        return await anext(requests, None)

    return read


def _reading(context: Any) -> Read:
    async def read() -> Any:
        # The wire says None where grpc.aio says EOF.
        request: Any = await context.read()
        return None if request is aio.EOF else request

    return read


# Of each method: whether its requests, and its responses, are streams.
METHODS = {
    "Unary": (False, False),
    "StreamOut": (False, True),
    "WriteOut": (False, True),
    "StreamIn": (True, False),
    "ReadIn": (True, False),
    "Both": (True, True),
    "WriteBoth": (True, True),
}


def register(journal: Journal, server: Any) -> None:
    """What generated code would do."""
    scripted = Scripted(journal)
    codec = (BytesValue.FromString, BytesValue.SerializeToString)
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(scripted.unary, *codec),
        "StreamOut": grpc.unary_stream_rpc_method_handler(scripted.stream_out, *codec),
        "WriteOut": grpc.unary_stream_rpc_method_handler(scripted.write_out, *codec),
        "StreamIn": grpc.stream_unary_rpc_method_handler(scripted.stream_in, *codec),
        "ReadIn": grpc.stream_unary_rpc_method_handler(scripted.read_in, *codec),
        "Both": grpc.stream_stream_rpc_method_handler(scripted.both, *codec),
        "WriteBoth": grpc.stream_stream_rpc_method_handler(scripted.write_both, *codec),
    }
    generic = grpc.method_handlers_generic_handler(SERVICE, handlers)
    server.add_generic_rpc_handlers((generic,))
    server.add_registered_method_handlers(SERVICE, handlers)


@dataclass
class Side:
    """One of the two servers, and connections to it.

    Attributes:
        threaded: A channel of grpc's older client.
        forgotten: How often grpc.aio's client forgot what came; see `outcomes`.
    """

    core: str
    journal: Journal
    channel: aio.Channel
    threaded: grpc.Channel
    forgotten: int = 0


@asynccontextmanager
async def both_sides() -> AsyncIterator[tuple[Side, Side]]:
    """The wire and grpc.aio, with the same limits."""
    # The hostile suite is about floods; here one client makes thousands of calls that it resets.
    plenty = 1 << 40
    limits = Limits(
        message_bytes=LIMIT,
        resets_burst=plenty,
        burst=plenty,
        inflated_burst=plenty,
    )
    wire = Server(limits=limits)
    reference = aio.server(
        options=(
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", LIMIT),
            ("grpc.max_metadata_size", METADATA_LIMIT),
            ("grpc.absolute_max_metadata_size", METADATA_LIMIT),
        )
    )
    journals = Journal(), Journal()
    register(journals[0], wire)
    register(journals[1], reference)
    ports = await wire.listen(HOST, 0), reference.add_insecure_port(f"{HOST}:0")
    await reference.start()
    options = (
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        # Beyond the servers', so that what they send is seen.
        ("grpc.max_metadata_size", 8 * METADATA_LIMIT),
        ("grpc.absolute_max_metadata_size", 8 * METADATA_LIMIT),
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(reference.stop, 0)
        stack.push_async_callback(wire.stop, 0)
        sides = []
        for core, journal, port in zip(("wire", "grpcio"), journals, ports, strict=True):
            target = f"{HOST}:{port}"
            channel = aio.insecure_channel(target, options=options)
            await stack.enter_async_context(channel)
            threaded = stack.enter_context(grpc.insecure_channel(target, options=options))
            sides.append(Side(core, journal, channel, threaded))
        yield sides[0], sides[1]
