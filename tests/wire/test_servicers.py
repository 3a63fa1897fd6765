"""What a servicer's method may do on the wire as on grpc.aio, and how a call begins and ends."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import h2.connection
import h2.events
import pytest
from grpc import aio

from chinwag_server.wire import Server
from chinwag_server.wire.call import Call
from chinwag_server.wire.running import Running
from tests.wire.compat.gen import compat_pb2 as pb
from tests.wire.compat.gen import compat_pb2_grpc
from tests.wire.compat.servicer import Compat

HOST = "127.0.0.1"
TIMEOUT_S = 10.0
ECHO = "/compat.v1.Compat/Echo"

Behaviour = Callable[[Any, Any], Any]


class Servicer(compat_pb2_grpc.CompatServicer):
    """One method, as a test wants it."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour

    async def Echo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._behaviour(request, context)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Behaviour], Any]]:
    servers: list[Server] = []

    async def start(behaviour: Behaviour) -> int:
        server = Server()
        add = compat_pb2_grpc.add_CompatServicer_to_server
        add(Servicer(behaviour), server)  # type: ignore[abstract, arg-type]
        servers.append(server)
        return await server.listen(HOST)

    yield start
    for server in servers:
        await server.stop(0)


async def status_of(port: int, **options: Any) -> tuple[grpc.StatusCode, str]:
    async with aio.insecure_channel(f"{HOST}:{port}") as channel:
        stub: Any = compat_pb2_grpc.CompatStub(channel)
        call = stub.Echo(pb.EchoRequest(payload=b"hello"), **{"timeout": TIMEOUT_S, **options})
        return await call.code(), await call.details()


async def test_a_code_without_an_answer(serve: Callable[[Behaviour], Any]) -> None:
    async def behaviour(_request: Any, context: Any) -> None:
        context.set_code(grpc.StatusCode.NOT_FOUND)
        context.set_details("there is none")

    port = await serve(behaviour)
    assert await status_of(port) == (grpc.StatusCode.NOT_FOUND, "there is none")


async def test_a_method_that_awaits_what_was_cancelled_has_failed(
    serve: Callable[[Behaviour], Any],
) -> None:
    async def behaviour(_request: Any, _context: Any) -> None:
        task = asyncio.ensure_future(asyncio.sleep(10))
        await asyncio.sleep(0)
        task.cancel()
        await task

    port = await serve(behaviour)
    assert await status_of(port) == (grpc.StatusCode.INTERNAL, "the server failed")


async def test_without_tls_nobody_is_identified(serve: Callable[[Behaviour], Any]) -> None:
    async def behaviour(_request: Any, context: Any) -> pb.EchoResponse:
        assert context.auth_context() == {}
        assert context.peer_identity_key() is None
        assert context.peer_identities() is None
        return pb.EchoResponse(payload=b"nobody")

    assert (await status_of(await serve(behaviour)))[0] is grpc.StatusCode.OK


async def test_handlers_of_older_generators() -> None:
    server = Server()
    echo = grpc.unary_unary_rpc_method_handler(
        Compat().Echo, pb.EchoRequest.FromString, pb.EchoResponse.SerializeToString
    )
    generic = grpc.method_handlers_generic_handler("compat.v1.Compat", {"Echo": echo})
    server.add_generic_rpc_handlers((generic,))
    port = await server.listen(HOST)
    try:
        assert (await status_of(port))[0] is grpc.StatusCode.OK
        async with aio.insecure_channel(f"{HOST}:{port}") as channel:
            unknown: Any = channel.unary_unary("/compat.v1.Compat/Nothing")
            with pytest.raises(aio.AioRpcError) as refused:
                await unknown(b"", timeout=TIMEOUT_S)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    finally:
        await server.stop(0)


class RawClient:
    """One call by hand: its head, then what a test sends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.http = h2.connection.H2Connection()
        self.http.initiate_connection()
        self.trailers: dict[bytes, bytes] = {}

    async def call(self, port: int, *fields: tuple[str, str]) -> None:
        head = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", f"{HOST}:{port}"),
            (":path", ECHO),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *fields,
        ]
        self.http.send_headers(1, head)
        await self.flush()

    async def flush(self) -> None:
        self._writer.write(self.http.data_to_send())
        await self._writer.drain()

    async def status(self) -> str:
        """Waits for the call's end."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                for event in self.http.receive_data(await self._reader.read(65536)):
                    fields = getattr(event, "headers", None) or ()
                    for name, value in fields:
                        if name == b"grpc-status":
                            return str(value.decode())
                await self.flush()

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
async def raw() -> AsyncIterator[Callable[[int], Any]]:
    clients: list[RawClient] = []

    async def connect(port: int) -> RawClient:
        client = RawClient(*await asyncio.open_connection(HOST, port))
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


def framed(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return b"\0" + len(data).to_bytes(4, "big") + data


async def echo(request: Any, _context: Any) -> pb.EchoResponse:
    return pb.EchoResponse(payload=request.payload)


async def test_one_request_is_answered_when_it_is_there(
    serve: Callable[[Behaviour], Any], raw: Callable[[int], Any]
) -> None:
    port = await serve(echo)
    client = await raw(port)
    await client.call(port)
    client.http.send_data(1, framed(pb.EchoRequest(payload=b"x")))  # and no END_STREAM
    await client.flush()
    assert await client.status() == "0"


async def test_the_deadline_runs_before_there_is_a_request(
    serve: Callable[[Behaviour], Any], raw: Callable[[int], Any]
) -> None:
    port = await serve(echo)
    client = await raw(port)
    started = asyncio.get_running_loop().time()
    await client.call(port, ("grpc-timeout", "300m"))
    assert await client.status() == str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
    assert 0.2 < asyncio.get_running_loop().time() - started < 5


async def test_what_is_over_does_not_wait_for_the_collector(
    serve: Callable[[Behaviour], Any],
) -> None:
    port = await serve(echo)
    gc.collect()
    gc.disable()
    try:
        assert (await status_of(port))[0] is grpc.StatusCode.OK
        await asyncio.sleep(0.05)
        kept = [thing for thing in gc.get_objects() if type(thing) in (Call, Running)]
        assert kept == []
    finally:
        gc.enable()
