"""The bridge in the running Envoy: every kind of method, every rule of WebSocket, hostile peers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import struct
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Opcode
from websockets.typing import Origin, Subprotocol

from chinwag.account.v1 import account_service_pb2
from chinwag.chat.v1 import connect_pb2
from tests.envoy.front import CALL_S, FrontProcess, front, wait_until

GET_ME = "/chinwag.account.v1.AccountService/GetMe"
CONNECT = "/chinwag.chat.v1.ChatService/Connect"
GRPC = Subprotocol("grpc-websockets")
FINISH = b"\x01"
PLAIN = "content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n"


@pytest.fixture(scope="module")
def token(running: FrontProcess) -> str:
    return running.sign_up(f"ws{uuid.uuid4().hex[:8]}")


def head(token: str = "", more: str = "") -> bytes:
    authorization = f"authorization: Bearer {token}\r\n" if token else ""
    return f"{PLAIN}{authorization}{more}".encode()


def framed(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return struct.pack(">BBI", 0, 0, len(data)) + data


@contextlib.asynccontextmanager
async def opened(
    running: FrontProcess, path: str, **options: Any
) -> AsyncIterator[ClientConnection]:
    """A WebSocket to a method."""
    options.setdefault("subprotocols", [GRPC])
    async with (
        asyncio.timeout(CALL_S),
        connect(
            f"wss://localhost:{running.port}{path}",
            ssl=running.tls(),
            compression=None,
            **options,
        ) as connection,
    ):
        yield connection


async def rest(connection: ClientConnection) -> tuple[dict[str, str], list[bytes], int]:
    """Everything up to the close: headers and trailers, messages, the close code."""
    received = b""
    with contextlib.suppress(ConnectionClosed):
        while True:
            part = await connection.recv()
            assert isinstance(part, bytes)
            received += part
    heads: dict[str, str] = {}
    messages: list[bytes] = []
    while received:
        flag, size = struct.unpack_from(">BI", received)
        body, received = received[5 : 5 + size], received[5 + size :]
        if flag & 0x80:
            for line in body.decode().split("\r\n"):
                name, colon, value = line.partition(":")
                if colon:
                    heads[name.strip()] = value.strip()
        else:
            messages.append(body)
    assert connection.close_code is not None
    return heads, messages, connection.close_code


async def test_a_unary_call(running: FrontProcess, token: str) -> None:
    async with opened(running, GET_ME) as connection:
        await connection.send(head(token))
        await connection.send(framed(account_service_pb2.GetMeRequest()))
        await connection.send(FINISH)
        heads, messages, code = await rest(connection)
    assert heads["grpc-status"] == "0"
    (message,) = messages
    me = account_service_pb2.GetMeResponse.FromString(message)
    assert me.user.username.startswith("ws")
    assert code == 1000


async def test_a_refusal_has_its_status_and_its_details(running: FrontProcess) -> None:
    async with opened(running, GET_ME) as connection:
        await connection.send(head("nonsense"))
        await connection.send(framed(account_service_pb2.GetMeRequest()))
        await connection.send(FINISH)
        heads, messages, code = await rest(connection)
    assert heads["grpc-status"] == "16"
    assert not messages
    assert code == 1000
    async with opened(running, "/chinwag.account.v1.AccountService/LogIn") as connection:
        await connection.send(head())
        request = account_service_pb2.LogInRequest(username="nobody", password="wrong password")
        await connection.send(framed(request))
        await connection.send(FINISH)
        heads, _, _ = await rest(connection)
    assert heads["grpc-status"] == "16"
    assert b"CREDENTIALS_INVALID" in base64.b64decode(heads["grpc-status-details-bin"] + "==")


def pongs(received: bytes) -> list[int]:
    """The ids of the whole pongs in what came so far."""
    found = []
    while len(received) >= 5 and len(received) >= 5 + int.from_bytes(received[1:5], "big"):
        size = int.from_bytes(received[1:5], "big")
        if not received[0] & 0x80:
            found.append(connect_pb2.ConnectResponse.FromString(received[5 : 5 + size]).pong.id)
        received = received[5 + size :]
    return found


async def test_a_stream_both_ways_and_its_end(running: FrontProcess, token: str) -> None:
    async with opened(running, CONNECT) as connection:
        await connection.send(head(token))
        hello = connect_pb2.ConnectRequest(hello=connect_pb2.Hello(protocol_version=1))
        whole = framed(hello)
        # A message may come in any pieces.
        await connection.send(iter([whole[:1], whole[1:4], whole[4:]]))
        for number in range(1, 20):
            ping = connect_pb2.ConnectRequest(ping=connect_pb2.Ping(id=number))
            await connection.send(framed(ping))
        received = b""
        async with asyncio.timeout(CALL_S):
            while not any(pong == 19 for pong in pongs(received)):
                part = await connection.recv()
                assert isinstance(part, bytes)
                received += part
        await connection.send(FINISH)
        heads, _, code = await rest(connection)
    assert heads["grpc-status"] == "0"
    assert code == 1000


async def test_a_client_that_goes_ends_its_stream(running: FrontProcess, token: str) -> None:
    async def streams() -> int:
        for line in (await running.admin("/stats?filter=upstream_rq_active")).decode().splitlines():
            if line.startswith("cluster.nodes.upstream_rq_active"):
                return int(line.rpartition(" ")[2])
        return -1

    before = await streams()
    async with opened(running, CONNECT) as connection:
        await connection.send(head(token))
        hello = connect_pb2.ConnectRequest(hello=connect_pb2.Hello(protocol_version=1))
        await connection.send(framed(hello))
        await connection.recv()
        assert await streams() > before
    async with asyncio.timeout(CALL_S):
        while await streams() > before:  # noqa: ASYNC110 (Envoy tells nobody)
            await asyncio.sleep(0.05)


async def test_pings_are_answered(running: FrontProcess, token: str) -> None:
    async with opened(running, CONNECT) as connection:
        await connection.send(head(token))
        answered = await connection.ping(b"are you there")
        await answered


# --- what is refused ---


async def test_a_page_of_another_origin(running: FrontProcess) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with opened(running, CONNECT, origin=Origin("https://evil.example")):
            pass
    assert refused.value.response.status_code == 403
    for good in ("https://other.example", f"https://localhost:{running.port}"):
        async with opened(running, CONNECT, origin=Origin(good)) as connection:
            assert connection.subprotocol == GRPC


@pytest.mark.parametrize(
    "line",
    [
        "evil: a\r\n\r\nPOST /chinwag.account.v1.AccountService/LogOut HTTP/1.1\r\n",
        "evil: a\rhost: b\r\n",
        "evil\x00: a\r\n",
        "no colon\r\n",
        " leading: a\r\n",
        "evil : a\r\n",
        "x: \x7f\r\n",
    ],
)
async def test_metadata_that_would_smuggle(running: FrontProcess, token: str, line: str) -> None:
    async with opened(running, GET_ME) as connection:
        await connection.send(head(token, line))
        with contextlib.suppress(ConnectionClosed):
            await connection.send(framed(account_service_pb2.GetMeRequest()))
            await connection.send(FINISH)
        _, messages, code = await rest(connection)
    assert not messages
    assert code in (1002, 1008)


@pytest.mark.parametrize(
    "name",
    [
        "host",
        "te",
        "transfer-encoding",
        "connection",
        "x-forwarded-for",
        "x-envoy-upstream-alt-stat-name",
    ],
)
async def test_metadata_that_is_not_the_clients_to_say(
    running: FrontProcess, token: str, name: str
) -> None:
    """Left out or refused, and never passed on."""
    async with opened(running, GET_ME) as connection:
        await connection.send(head(token, f"{name}: 6.6.6.6\r\n"))
        with contextlib.suppress(ConnectionClosed):
            await connection.send(framed(account_service_pb2.GetMeRequest()))
            await connection.send(FINISH)
        heads, messages, code = await rest(connection)
    assert (heads.get("grpc-status") == "0" and len(messages) == 1) or code in (1002, 1008)
    file = running.data.parent / "access.log"
    assert "6.6.6.6" not in file.read_text(encoding="utf-8")


async def test_a_token_in_a_cookie_does_not_count(running: FrontProcess, token: str) -> None:
    cookie = {"cookie": f"authorization=Bearer {token}; access_token={token}"}
    async with opened(running, GET_ME, additional_headers=cookie) as connection:
        await connection.send(head())
        await connection.send(framed(account_service_pb2.GetMeRequest()))
        await connection.send(FINISH)
        heads, _, _ = await rest(connection)
    assert heads["grpc-status"] == "16"


async def test_text_is_no_message(running: FrontProcess, token: str) -> None:
    async with opened(running, CONNECT) as connection:
        await connection.send(head(token))
        await connection.send("hello")
        _, _, code = await rest(connection)
    assert code == 1003


async def test_a_message_that_is_too_long(running: FrontProcess, token: str) -> None:
    async with opened(running, CONNECT) as connection:
        await connection.send(head(token))
        with contextlib.suppress(ConnectionClosed):
            await connection.send(struct.pack(">BBI", 0, 0, 64 << 20))
            for _ in range(64):
                await connection.send(bytes(1 << 20))
        _, _, code = await rest(connection)
    assert code == 1009


class Raw:
    """A WebSocket by hand, in plain text."""

    def __init__(self, running: FrontProcess, request: str = "") -> None:
        self.socket = socket.create_connection(("127.0.0.1", running.plain_port), CALL_S)
        self.socket.sendall((request or handshake()).encode())

    def received(self) -> bytes:
        """All until the other side ends."""
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while part := self.socket.recv(65536):
                found += part
        self.socket.close()
        return found


def handshake(path: str = CONNECT, **headers: str) -> str:
    key = base64.b64encode(os.urandom(16)).decode()
    fields = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "grpc-websockets",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n"


def frame(opcode: int, data: bytes, *, mask: bool = True, fin: bool = True, rsv: int = 0) -> bytes:
    """A frame, also one that breaks the rules."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    second = 0x80 if mask else 0
    assert len(data) < 126
    key = bytes(4) if mask else b""
    return bytes([first, second | len(data)]) + key + data


def closed_with(answer: bytes) -> int:
    """The code of the close frame at the end of an answer."""
    place = answer.rfind(b"\x88")
    assert place >= 0, answer[-100:]
    return int.from_bytes(answer[place + 2 : place + 4])


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (frame(Opcode.BINARY, b"x", mask=False), 1002),
        (frame(Opcode.BINARY, b"x", rsv=4), 1002),
        (frame(0x3, b"x"), 1002),
        (frame(0xB, b"x"), 1002),
        (frame(Opcode.PING, b"x", fin=False), 1002),
        (frame(Opcode.CONT, b"x"), 1002),
        (frame(Opcode.CLOSE, b"x"), 1002),
        (frame(Opcode.CLOSE, (999).to_bytes(2)), 1002),
        (frame(Opcode.CLOSE, (1000).to_bytes(2) + b"\xff"), 1007),
        (frame(Opcode.CLOSE, (1000).to_bytes(2)), 1000),
    ],
)
def test_frames_that_break_the_rules(running: FrontProcess, bad: bytes, code: int) -> None:
    raw = Raw(running)
    raw.socket.sendall(bad)
    assert closed_with(raw.received()) in (code, 1002)


@pytest.mark.parametrize(
    "request_text",
    [
        handshake(Sec_WebSocket_Version="8"),
        handshake(Sec_WebSocket_Key=""),
        handshake(Sec_WebSocket_Key="short"),
        handshake("/not a path"),
    ],
)
def test_handshakes_that_are_none(running: FrontProcess, request_text: str) -> None:
    raw = Raw(running, request_text)
    raw.socket.shutdown(socket.SHUT_WR)
    assert not raw.received().startswith(b"HTTP/1.1 101")


def memory_kib(running: FrontProcess) -> int:
    status = Path(f"/proc/{running.where['envoy_pid']}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def test_many_that_never_finish(running: FrontProcess, token: str) -> None:
    """Half a handshake, head or frame, fragments without end: all go, and Envoy stays."""
    before = memory_kib(running)
    for _ in range(3):
        raws = [Raw(running, handshake()[: 20 + number % 60]) for number in range(150)]
        raws += [Raw(running) for _ in range(150)]
        for number, raw in enumerate(raws[150:]):
            raw.socket.sendall(frame(Opcode.BINARY, b"content-type", fin=False))
            with contextlib.suppress(OSError):
                for _ in range(number):
                    raw.socket.sendall(frame(Opcode.CONT, b"", fin=False))
        assert running.request("GET", "/v1/account", token=token).status == 200
        for raw in raws:
            raw.socket.close()
    wait_until(lambda: memory_kib(running) < before + 20_000)


# --- what ends ---


@pytest.fixture
def own(tmp_path: Path) -> Iterator[FrontProcess]:
    with front(tmp_path / "data") as process:
        yield process


async def test_a_drain_tells_everybody_to_go(own: FrontProcess) -> None:
    token = own.sign_up("ann")
    async with opened(own, CONNECT) as connection:
        await connection.send(head(token))
        hello = connect_pb2.ConnectRequest(hello=connect_pb2.Hello(protocol_version=1))
        await connection.send(framed(hello))
        await connection.recv()
        await own.admin("/drain_listeners?graceful&skip_exit", "POST")
        _, _, code = await rest(connection)
    assert code == 1001
