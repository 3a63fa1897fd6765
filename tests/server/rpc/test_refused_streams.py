"""A stream that is not let in, seen by clients that write before they know."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import grpc
import pytest
from grpc import StatusCode, aio

from chinwag.chat.v1 import chat_service_pb2_grpc, connect_pb2
from tests.server.serving import Served, bearer

HELLO = connect_pb2.ConnectRequest(hello=connect_pb2.Hello(protocol_version=1))


def connect(server: Served) -> Any:
    stub: Any = server.stub(chat_service_pb2_grpc.ChatServiceStub)
    return stub.Connect(metadata=bearer("forged"), timeout=10)


# With grpc.aio on both sides it is seldom, but no server of ours can see to it.
@pytest.mark.parametrize("adapter", ["wire"], indirect=True)
async def test_who_writes_at_once_still_learns_why(bare_server: Served) -> None:
    """grpc.aio's client takes a write into a call that has just ended for the end of it."""
    codes = []
    for _ in range(50):
        call = connect(bare_server)
        with contextlib.suppress(aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(HELLO)
        codes.append(await call.code())
    assert codes == [StatusCode.UNAUTHENTICATED] * 50


async def test_who_ends_their_side_is_told_at_once(bare_server: Served) -> None:
    call = connect(bare_server)
    await call.done_writing()
    assert await call.code() is StatusCode.UNAUTHENTICATED


async def test_who_says_nothing_is_told_soon(bare_server: Served) -> None:
    started = time.monotonic()
    call = connect(bare_server)
    assert await call.code() is StatusCode.UNAUTHENTICATED
    assert time.monotonic() - started < 2


async def test_so_is_a_client_with_threads(bare_server: Served) -> None:
    def refused() -> grpc.StatusCode:
        with grpc.insecure_channel(bare_server.target) as channel:
            stub: Any = chat_service_pb2_grpc.ChatServiceStub(channel)
            try:
                list(stub.Connect(iter([HELLO]), metadata=bearer("forged"), timeout=10))
            except grpc.RpcError as error:
                code: grpc.StatusCode = error.code()
                return code
        return StatusCode.OK

    assert await asyncio.to_thread(refused) is StatusCode.UNAUTHENTICATED
