"""Connections within their TLS handshake: counted, bounded, timed, and ended with the server."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from chinwag_server.wire import Limits, Server, Tls, frames
from tests.server.rpc.certificates import Files
from tests.wire.core.peer import read_frames

HOST = "127.0.0.1"
TIMEOUT_S = 10.0
HELLO = frames.PREFACE + frames.settings({})


class Client:
    """A client's socket, with TLS by hand: what is sent together arrives together."""

    def __init__(self, port: int, certificate: Files) -> None:
        context = ssl.create_default_context(cafile=certificate.cert)
        context.set_alpn_protocols(["h2"])
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=HOST)
        self.socket = socket.create_connection((HOST, port), TIMEOUT_S)

    def greet(self, hello: bytes) -> None:
        """Shakes hands, and sends the first bytes with the last ones of the handshake."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.socket.sendall(self._out.read())
                data = self.socket.recv(1 << 16)
                if not data:
                    raise ConnectionError("closed within the handshake") from None
                self._in.write(data)
        if hello:
            self._tls.write(hello)
        self.socket.sendall(self._out.read())

    def read(self) -> bytes:
        """Something that the server sends; nothing if it has closed the connection."""
        while True:
            try:
                return self._tls.read(1 << 16)
            except ssl.SSLWantReadError:
                data = self.socket.recv(1 << 16)
                if not data:
                    return b""
                self._in.write(data)
            except ssl.SSLZeroReturnError:
                return b""

    def close(self) -> None:
        self.socket.close()


async def served(certificate: Files, **limits: Any) -> tuple[Server, int]:
    """A server without methods, and its port."""
    server = Server(limits=Limits(**limits))
    port = await server.listen(HOST, tls=Tls(certificate.cert, certificate.key))
    return server, port


async def silent(port: int) -> socket.socket:
    """A connection that says nothing, which the server has seen."""
    connected = await asyncio.to_thread(socket.create_connection, (HOST, port), TIMEOUT_S)
    await asyncio.sleep(0.05)
    return connected


async def greeted(port: int, certificate: Files) -> Client:
    """A client to whom the server has sent its settings."""
    client = Client(port, certificate)
    await asyncio.to_thread(client.greet, HELLO)
    first = read_frames(await asyncio.to_thread(client.read))
    assert first[0].kind == frames.SETTINGS
    return client


async def is_refused(connected: socket.socket) -> bool:
    """Whether the server closes a connection now."""
    try:
        return await asyncio.to_thread(connected.recv, 1) == b""
    except ConnectionError:
        return True


async def first_bytes_come_with_the_handshake(certificate: Files) -> None:
    server, port = await served(certificate)
    (await greeted(port, certificate)).close()
    await server.stop()


async def silent_ones_count(certificate: Files) -> None:
    server, port = await served(certificate, connections=2)
    opened = [await silent(port) for _ in range(3)]
    assert await is_refused(opened[2])
    opened[0].close()
    await asyncio.sleep(0.1)
    client = await greeted(port, certificate)  # in its place
    opened.append(await silent(port))
    assert await is_refused(opened[-1])
    client.close()
    for one in opened:
        one.close()
    await server.stop()


async def the_oldest_gives_way_when_it_has_had_its_time(certificate: Files) -> None:
    server, port = await served(certificate, handshakes=2)
    first, second, third = [await silent(port) for _ in range(3)]
    assert await is_refused(third)
    await asyncio.sleep(1.1)
    client = await greeted(port, certificate)
    assert await is_refused(first)
    second.setblocking(False)
    with pytest.raises(BlockingIOError):
        second.recv(1)
    for one in (first, second, third, client):
        one.close()
    await server.stop()


async def the_preface_has_what_tls_has_left(certificate: Files) -> None:
    server, port = await served(certificate, handshake_s=1.5)
    client = Client(port, certificate)
    started = asyncio.get_running_loop().time()
    await asyncio.sleep(1.2)
    await asyncio.to_thread(client.greet, b"")
    assert b"no HTTP/2 handshake in time" in await asyncio.to_thread(client.read)
    assert asyncio.get_running_loop().time() - started < 2.6  # with a tick
    client.close()
    await server.stop()


async def a_handshake_takes_its_time_at_most(certificate: Files) -> None:
    server, port = await served(certificate, handshake_s=0.3)
    connected = await silent(port)
    connected.sendall(b"\x16\x03\x01\x02\x00\x01")
    assert await is_refused(connected)
    connected.close()
    await server.stop()


async def what_is_no_tls_is_closed(certificate: Files) -> None:
    server, port = await served(certificate)
    connected = await silent(port)
    connected.sendall(b"GET / HTTP/1.1\r\n\r\n")
    while not await is_refused(connected):
        pass  # an alert
    connected.close()
    gone = await silent(port)
    gone.close()
    await asyncio.sleep(0.1)
    (await greeted(port, certificate)).close()
    await server.stop()


async def the_server_ends_them(certificate: Files) -> None:
    server, port = await served(certificate)
    connected = await silent(port)
    async with asyncio.timeout(1.0):
        await server.stop(5.0)
    assert await is_refused(connected)
    connected.close()


LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])


@LOOPS
@pytest.mark.parametrize(
    "story",
    [
        first_bytes_come_with_the_handshake,
        silent_ones_count,
        the_oldest_gives_way_when_it_has_had_its_time,
        the_preface_has_what_tls_has_left,
        a_handshake_takes_its_time_at_most,
        what_is_no_tls_is_closed,
        the_server_ends_them,
    ],
)
def test_handshakes(
    story: Callable[[Files], Coroutine[Any, Any, None]],
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    wire_certificate: Files,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(story(wire_certificate), TIMEOUT_S))
    worst = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not worst, worst[0].getMessage()


async def files_run_out(certificate: Files) -> None:
    server, port = await served(certificate)
    client = Client(port, certificate)  # in the backlog, until the loop has its turn
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(client.socket.fileno())
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        await asyncio.sleep(0.1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    await asyncio.to_thread(client.greet, HELLO)
    client.close()
    await server.stop()


@LOOPS
def test_a_process_that_may_open_no_more_files_accepts_later(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    wire_certificate: Files,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(files_run_out(wire_certificate), TIMEOUT_S))
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "ulimit -n" in record.getMessage()
