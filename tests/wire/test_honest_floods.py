"""What honest grpc.aio clients may do much of: the bounds on floods are not for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import aio

from chinwag_server.wire import Limits, Server

HOST = "127.0.0.1"
TIMEOUT_S = 20.0
TIMES = 1000
AT_ONCE = 50
# Enough for the settings of a client, and nothing comes of waiting.
LIMITS = Limits(
    burst=600, per_second=0, resets_burst=0, resets_per_second=0, concurrent_streams=301
)


async def empty(_request: bytes, _context: Any) -> bytes:
    return b""


async def nothing(_request: bytes, context: Any) -> bytes:
    await context.abort(grpc.StatusCode.NOT_FOUND, "there is none")
    return b""


async def back(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def first(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request
        return


async def many(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
    for _ in range(5 * TIMES):
        yield b""


HANDLERS: Any = {
    "Empty": grpc.unary_unary_rpc_method_handler(empty),
    "Nothing": grpc.unary_unary_rpc_method_handler(nothing),
    "Back": grpc.stream_stream_rpc_method_handler(back),
    "First": grpc.stream_stream_rpc_method_handler(first),
    "Many": grpc.unary_stream_rpc_method_handler(many),
}


@pytest.fixture
async def channel() -> AsyncIterator[aio.Channel]:
    """Of a server that ends whoever sends a little too much."""
    server = Server(limits=LIMITS)
    server.add_registered_method_handlers("test.Small", HANDLERS)
    port = await server.listen(HOST)
    async with aio.insecure_channel(f"{HOST}:{port}") as channel:
        yield channel
    await server.stop()


async def codes_of(channel: aio.Channel, name: str) -> set[grpc.StatusCode]:
    """How many calls end that carry nothing, many of them at a time."""
    method: Any = channel.unary_unary(f"/test.Small/{name}")
    codes = set()
    for _ in range(TIMES // AT_ONCE):
        calls = [method(b"", timeout=TIMEOUT_S) for _ in range(AT_ONCE)]
        codes |= set(await asyncio.gather(*(call.code() for call in calls)))
    return codes


async def test_empty_calls(channel: aio.Channel) -> None:
    assert await codes_of(channel, "Empty") == {grpc.StatusCode.OK}


async def test_calls_that_fail(channel: aio.Channel) -> None:
    assert await codes_of(channel, "Nothing") == {grpc.StatusCode.NOT_FOUND}


async def test_a_ping_pong_of_empty_messages(channel: aio.Channel) -> None:
    method: Any = channel.stream_stream("/test.Small/Back")
    call = method(timeout=TIMEOUT_S)
    for _ in range(TIMES):
        await call.write(b"")
        assert await call.read() == b""
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.OK


async def test_empty_messages_one_after_the_other(channel: aio.Channel) -> None:
    method: Any = channel.stream_stream("/test.Small/Back")
    requests = (b"" for _ in range(3 * TIMES))
    assert len([answer async for answer in method(requests, timeout=TIMEOUT_S)]) == 3 * TIMES


async def test_many_empty_answers(channel: aio.Channel) -> None:
    method: Any = channel.unary_stream("/test.Small/Many")
    answers = [answer async for answer in method(b"", timeout=TIMEOUT_S)]
    assert len(answers) == 5 * TIMES


async def test_streams_that_the_server_ends(channel: aio.Channel) -> None:
    method: Any = channel.stream_stream("/test.Small/First")
    for _ in range(TIMES // 5):
        call = method(timeout=TIMEOUT_S)
        await call.write(b"")
        assert await call.read() == b""
        assert await call.code() is grpc.StatusCode.OK


async def test_all_calls_cancelled_at_once(channel: aio.Channel) -> None:
    method: Any = channel.stream_stream("/test.Small/Back")
    calls = [method(timeout=TIMEOUT_S) for _ in range(LIMITS.concurrent_streams)]
    for call in calls:
        await call.write(b"a")
    for call in calls:
        assert await call.read() == b"a"
    other = calls.pop()
    for call in calls:
        call.cancel()
    await asyncio.sleep(0.2)
    await other.write(b"b")
    assert await other.read() == b"b"
