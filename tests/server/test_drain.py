"""The end of a node: guidance to all streams, running calls finish, new ones are refused."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode, aio

from chinwag.chat.v1 import chat_service_pb2 as pb
from chinwag.chat.v1 import chat_service_pb2_grpc, connect_pb2
from chinwag.common.v1 import close_pb2
from tests.server.fixtures import StartNode
from tests.server.serving import Served, bearer, refusal
from tests.server.standin import StandInAccount
from tests.server.test_node import get


def chat(server: Served) -> Any:
    return server.stub(chat_service_pb2_grpc.ChatServiceStub)


async def connected(server: Served, user_id: str) -> Any:
    """A device's stream that is caught up."""
    stream = chat(server).Connect(metadata=bearer(f"{user_id}/1"))
    await stream.write(connect_pb2.ConnectRequest(hello=connect_pb2.Hello(protocol_version=1)))
    while not (await stream.read()).HasField("caught_up"):
        pass
    return stream


async def test_streams_are_closed_with_guidance(bare_server: Served) -> None:
    streams = [await connected(bare_server, f"user{n}") for n in range(5)]
    started = time.monotonic()
    await bare_server.node.drain()
    assert time.monotonic() - started < 1
    for stream in streams:
        close = (await stream.read()).close
        assert close.reason == close_pb2.CLOSE_REASON_DRAINING
        assert close.reconnect
        assert close.jitter.ToSeconds() > 0
        assert await stream.read() is aio.EOF
        assert await stream.code() is StatusCode.OK


async def test_new_calls_are_refused(bare_server: Served) -> None:
    stub = chat(bare_server)
    await bare_server.node.drain()
    draining = (StatusCode.UNAVAILABLE, "DRAINING")
    metadata = bearer("ann/1")
    call = stub.GetChannel(pb.GetChannelRequest(channel_id="c"), metadata=metadata)
    assert await refusal(call) == draining
    assert await refusal(stub.Connect(metadata=metadata).read()) == draining
    status, _, body = await get(bare_server.node.http_port, "/healthz")
    assert (status, body) == (503, b'{"status": "draining"}')


async def test_running_calls_finish(bare_server: Served) -> None:
    stub = chat(bare_server)
    metadata = bearer("ann/1")
    waiting = asyncio.ensure_future(
        stub.Sync(pb.SyncRequest(wait=Duration(seconds=1)), metadata=metadata)
    )
    await asyncio.sleep(0.2)
    started = time.monotonic()
    await bare_server.node.drain()
    assert time.monotonic() - started > 0.3
    await waiting


async def test_what_does_not_end_is_ended(start_node: StartNode) -> None:
    server = await start_node(open_account=StandInAccount, deadlines__drain_ms=600)
    stub = chat(server)
    waiting = asyncio.ensure_future(
        stub.Sync(pb.SyncRequest(wait=Duration(seconds=60)), metadata=bearer("ann/1"))
    )
    await asyncio.sleep(0.2)
    started = time.monotonic()
    await server.node.stop()
    assert time.monotonic() - started < 2
    code, _ = await refusal(waiting)
    assert code in (StatusCode.UNAVAILABLE, StatusCode.CANCELLED)


async def test_a_reader_that_does_not_read_does_not_hold_up_the_end(
    start_node: StartNode,
) -> None:
    server = await start_node(open_account=StandInAccount, deadlines__drain_ms=1000)
    await connected(server, "ann")
    started = time.monotonic()
    await server.node.stop()
    assert time.monotonic() - started < 2
