"""Three ways to receive, as clients through Envoy: polling, long polling, the stream.

Each notes when it was shown a message, and counts its requests and bytes above TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from chinwag.chat.v1 import connect_pb2, entry_pb2

CALL_S = 90.0
CONNECT = "/chinwag.chat.v1.ChatService/Connect"
DATA, HEADERS = 0x00, 0x80


@dataclass(slots=True)
class Cost:
    """What one device has taken so far.

    Attributes:
        requests: HTTP requests, or frames that were sent on a stream.
        sent_bytes, received_bytes: Above TLS.
        latencies_s: From the sender's call until the text was here.
    """

    requests: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    latencies_s: list[float] = field(default_factory=list)

    def shown(self, text: str) -> None:
        """A message came: its text is the time at which it was sent (`time.monotonic`)."""
        self.latencies_s.append(time.monotonic() - float(text))


class JsonLink:
    """One HTTP/1.1 connection that is kept alive, for calls in JSON.

    Args:
        port: Of Envoy, on this machine.
        tls: None: plain text.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None, token: str, cost: Cost) -> None:
        self._port = port
        self._tls = tls
        self._token = token
        self._cost = cost
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Calls a method.

        Raises:
            RuntimeError: The answer is no 200.
        """
        async with asyncio.timeout(CALL_S):
            reader, writer = await self._connected()
            data = json.dumps(body, separators=(",", ":")).encode()
            head = (
                f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                f"authorization: Bearer {self._token}\r\ncontent-length: {len(data)}\r\n\r\n"
            ).encode()
            writer.write(head + data)
            self._cost.requests += 1
            self._cost.sent_bytes += len(head) + len(data)
            answer_head = await reader.readuntil(b"\r\n\r\n")
            self._cost.received_bytes += len(answer_head)
            answer = await self._body(reader, answer_head.lower())
        status = answer_head.split(b" ", 2)[1]
        if status != b"200":
            raise RuntimeError(f"{path}: {status.decode()} {answer[:300]!r}")
        found: dict[str, Any] = json.loads(answer)
        return found

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                "127.0.0.1",
                self._port,
                ssl=self._tls,
                server_hostname="localhost" if self._tls else None,
                limit=1 << 20,
            )
        return self._streams

    async def _body(self, reader: asyncio.StreamReader, head: bytes) -> bytes:
        if b"transfer-encoding: chunked" not in head:
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            self._cost.received_bytes += length
            return await reader.readexactly(length)
        whole = b""
        while True:
            line = await reader.readuntil(b"\r\n")
            chunk = await reader.readexactly(int(line, 16) + 2)
            self._cost.received_bytes += len(line) + len(chunk)
            whole += chunk[:-2]
            if len(chunk) == 2:
                return whole

    def close(self) -> None:
        """Ends the connection."""
        if self._streams is not None:
            self._streams[1].close()


class Syncing:
    """A device that polls.

    Args:
        every_s: The pause between two polls; 0: each waits at the server for something new.
    """

    def __init__(self, link: JsonLink, cost: Cost, *, every_s: float, wait_s: float = 30.0) -> None:
        self._link = link
        self._cost = cost
        self._every_s = every_s
        self._wait_s = wait_s
        self._stamp = ""
        self._cursors: dict[str, dict[str, Any]] = {}

    async def run(self, ready: Callable[[], None]) -> None:
        """Receives until it is cancelled.

        Args:
            ready: Called once it has its position.
        """
        while True:
            await self._once()
            ready()
            if self._every_s:
                await asyncio.sleep(self._every_s)

    async def _once(self) -> None:
        request: dict[str, Any] = {"cursors": list(self._cursors.values())}
        if self._stamp:
            request["resumeStamp"] = self._stamp
            if not self._every_s:
                request["wait"] = f"{self._wait_s:.0f}s"
        answer = await self._link.post("/v1/sync", request)
        for event in answer.get("events", ()):
            if (opened := event.get("opened")) is not None:
                channel = opened["channel"]
                self._move(channel["id"], channel["generation"], opened.get("startId", "0"))
            elif (entry := event.get("entry")) is not None:
                self._cursors[entry["channelId"]]["id"] = entry["id"]
                if "messageSent" in entry:
                    self._cost.shown(entry["messageSent"]["content"]["text"])
        self._stamp = answer["stamp"]

    def _move(self, channel_id: str, generation: str, position: str) -> None:
        cursor = {"channelId": channel_id, "generation": generation, "id": position}
        self._cursors[channel_id] = cursor


class Streaming:
    """A device on `Connect`, over a WebSocket that Envoy bridges to gRPC."""

    def __init__(self, port: int, tls: ssl.SSLContext | None, token: str, cost: Cost) -> None:
        self._url = f"ws{'s' if tls else ''}://localhost:{port}{CONNECT}"
        self._tls = tls
        self._token = token
        self._cost = cost
        self._received = b""
        self._ping_id = 0

    async def run(self, ready: Callable[[], None]) -> None:
        """As `Syncing.run`."""
        async with connect(
            self._url,
            ssl=self._tls,
            subprotocols=[Subprotocol("grpc-websockets")],
            ping_interval=None,
            compression=None,
            max_size=1 << 22,
        ) as socket:
            metadata = (
                "content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n"
                f"authorization: Bearer {self._token}\r\n"
            )
            await self._say(socket, metadata.encode())
            hello = connect_pb2.Hello(protocol_version=1, client="bench")
            await self._send(socket, connect_pb2.ConnectRequest(hello=hello))
            pings = asyncio.ensure_future(self._ping(socket))
            try:
                async for data in socket:
                    assert isinstance(data, bytes)
                    self._cost.received_bytes += len(data)
                    self._take(data, ready)
            finally:
                pings.cancel()
                await asyncio.gather(pings, return_exceptions=True)

    async def _ping(self, socket: ClientConnection) -> None:
        while True:
            await asyncio.sleep(30.0)
            self._ping_id += 1
            await self._send(
                socket, connect_pb2.ConnectRequest(ping=connect_pb2.Ping(id=self._ping_id))
            )

    async def _send(self, socket: ClientConnection, frame: connect_pb2.ConnectRequest) -> None:
        data = frame.SerializeToString()
        await self._say(socket, b"\x00" + struct.pack(">BI", 0, len(data)) + data)

    async def _say(self, socket: ClientConnection, data: bytes) -> None:
        self._cost.requests += 1
        self._cost.sent_bytes += len(data)
        await socket.send(data)

    def _take(self, data: bytes, ready: Callable[[], None]) -> None:
        self._received += data
        while len(self._received) >= 5:
            kind, size = struct.unpack_from(">BI", self._received)
            if len(self._received) < 5 + size:
                return
            body, self._received = self._received[5 : 5 + size], self._received[5 + size :]
            if kind & HEADERS:
                if b"grpc-status" in body:
                    raise RuntimeError(f"the stream ended: {body!r}")
                continue
            frame = connect_pb2.ConnectResponse.FromString(body)
            if frame.HasField("caught_up"):
                ready()
            for event in frame.events:
                self._show(event)

    def _show(self, event: entry_pb2.Event) -> None:
        if event.HasField("entry") and event.entry.HasField("message_sent"):
            self._cost.shown(event.entry.message_sent.content.text)


async def cancelled(tasks: list[asyncio.Task[None]]) -> None:
    """Ends receivers; one that failed by itself is raised."""
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
