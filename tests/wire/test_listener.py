"""The asyncio skin on real sockets: Unix sockets, age, TLS, bounds on connections, the end."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from chinwag_server.wire import Limits, Server, Tls
from tests.server.rpc import certificates
from tests.wire.compat.gen import compat_pb2 as pb
from tests.wire.compat.gen import compat_pb2_grpc
from tests.wire.compat.servicer import Compat

HOST = "127.0.0.1"
TIMEOUT_S = 10.0


def served(**limits: Any) -> Server:
    """A server of the service, which has yet to listen."""
    server = Server(limits=Limits(**limits))
    add = compat_pb2_grpc.add_CompatServicer_to_server
    add(Compat(), server)  # type: ignore[arg-type]
    return server


async def echo(channel: aio.Channel) -> None:
    stub: Any = compat_pb2_grpc.CompatStub(channel)
    answer = await stub.Echo(pb.EchoRequest(payload=b"hello"), timeout=TIMEOUT_S)
    assert answer.payload == b"hello"


@pytest.fixture
async def running() -> AsyncIterator[list[Server]]:
    servers: list[Server] = []
    yield servers
    for server in servers:
        await server.stop(0)


async def test_a_unix_socket(tmp_path: Path, running: list[Server]) -> None:
    server = served()
    running.append(server)
    await server.listen_unix(tmp_path / "socket")
    async with aio.insecure_channel(f"unix:{tmp_path / 'socket'}") as channel:
        await echo(channel)


async def test_an_old_connection_is_asked_to_go_and_its_calls_end_well(
    running: list[Server],
) -> None:
    server = served(age_s=0.5, age_grace_s=TIMEOUT_S)
    running.append(server)
    port = await server.listen(HOST)
    async with aio.insecure_channel(f"{HOST}:{port}") as channel:
        stub: Any = compat_pb2_grpc.CompatStub(channel)
        chat = stub.Chat(timeout=TIMEOUT_S)
        await chat.write(pb.EchoRequest(payload=b"before"))
        assert (await chat.read()).payload == b"before"
        await asyncio.sleep(2.5)  # its age, and a tick
        await chat.write(pb.EchoRequest(payload=b"after"))
        assert (await chat.read()).payload == b"after"
        await echo(channel)  # on a new connection
        await chat.done_writing()
        assert (await chat.read()).end
        assert await chat.code() is grpc.StatusCode.OK


async def test_an_old_connection_that_does_not_go_is_ended(running: list[Server]) -> None:
    server = served(age_s=0.2, age_grace_s=0.2)
    running.append(server)
    port = await server.listen(HOST)
    async with aio.insecure_channel(f"{HOST}:{port}") as channel:
        stub: Any = compat_pb2_grpc.CompatStub(channel)
        chat = stub.Chat(timeout=TIMEOUT_S)
        await chat.write(pb.EchoRequest())
        await chat.read()
        with pytest.raises(aio.AioRpcError) as ended:
            await chat.read()
        assert ended.value.code() is not grpc.StatusCode.DEADLINE_EXCEEDED


async def test_more_connections_than_there_may_be(running: list[Server]) -> None:
    server = served(connections=2)
    running.append(server)
    port = await server.listen(HOST)
    writers = []
    for _ in range(2):
        _, writer = await asyncio.open_connection(HOST, port)
        writers.append(writer)
    await asyncio.sleep(0.1)
    reader, third = await asyncio.open_connection(HOST, port)
    assert await asyncio.wait_for(reader.read(), TIMEOUT_S) == b""
    for writer in (*writers, third):
        writer.close()


async def test_tls_without_http2_is_no_connection(
    wire_certificate: certificates.Files, running: list[Server]
) -> None:
    server = served()
    running.append(server)
    port = await server.listen(HOST, tls=Tls(wire_certificate.cert, wire_certificate.key))
    context = ssl.create_default_context(cafile=wire_certificate.cert)
    context.set_alpn_protocols(["http/1.1"])
    with contextlib.suppress(ConnectionError):  # it may be reset before it is set up
        reader, writer = await asyncio.open_connection(HOST, port, ssl=context)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await asyncio.wait_for(reader.read(), TIMEOUT_S) == b""
        writer.close()


async def test_stop_lets_calls_end_and_then_ends_them(running: list[Server]) -> None:
    server = served()
    port = await server.listen(HOST)
    async with aio.insecure_channel(f"{HOST}:{port}") as channel:
        stub: Any = compat_pb2_grpc.CompatStub(channel)
        quick = stub.Echo(pb.EchoRequest(delay_ms=300), timeout=TIMEOUT_S)
        slow = stub.Sleep(pb.SleepRequest(key="slow", ms=60_000), timeout=TIMEOUT_S)
        await stub.Fate(pb.FateRequest(key="slow", wait_ms=5000), timeout=TIMEOUT_S)
        await server.stop(1.0)
        assert await quick.code() is grpc.StatusCode.OK
        assert await slow.code() is grpc.StatusCode.UNAVAILABLE
