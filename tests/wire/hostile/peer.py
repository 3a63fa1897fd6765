"""A client's end of an HTTP/2 connection, made by hand: it sends whatever it is told to.

Nothing in here is the server's: frames are put together and taken apart once more (RFC 9113,
RFC 7541), so that a mistake of the core cannot hide behind the same mistake in its tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, cast

from hpack import Decoder

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HOST: Final = "127.0.0.1"
CONNECT_TIMEOUT_S: Final = 10.0
# Between two pieces of a flood. With none, a megabyte is on its way before a GOAWAY is seen.
PUSH_S: Final = 0.001

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8

INITIAL_WINDOW_SIZE: Final = 4
LARGEST_WINDOW: Final = 2**31 - 1
DEFAULT_WINDOW: Final = 65_535

CODES: Final = (
    *("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT"),
    *("STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR"),
    *("CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"),
)


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame."""
    size = len(payload)
    return struct.pack(">BHBBI", size >> 16, size & 0xFFFF, kind, flags, stream_id) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def window_update(stream_id: int, size: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream_id, struct.pack(">I", size))


def reset(stream_id: int, code: int = 8) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream_id, struct.pack(">I", code))


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """An integer with a prefix of so many bits."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out = bytearray([first | most])
    value -= most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def literal(name: str, value: str, first: int = 0x00) -> bytes:
    """A field as a literal; `first` 0x40 puts it into the table."""
    raw = name.encode(), value.encode()
    return bytes([first]) + b"".join(integer(len(part), 7) + part for part in raw)


def block(fields: Iterable[tuple[str, str]]) -> bytes:
    """A header block of literals."""
    return b"".join(literal(*field) for field in fields)


def call_fields(method: str, token: str = "") -> list[tuple[str, str]]:
    """The head of a gRPC call."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", HOST),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]
    return [*fields, ("authorization", f"Bearer {token}")] if token else fields


def call_head(stream_id: int, method: str, token: str = "", flags: int = END_HEADERS) -> bytes:
    """HEADERS of a gRPC call."""
    return frame(HEADERS, flags, stream_id, block(call_fields(method, token)))


def message(stream_id: int, data: bytes, *, end: bool = False) -> bytes:
    """A gRPC message in a DATA frame."""
    payload = struct.pack(">BI", 0, len(data)) + data
    return frame(DATA, END_STREAM if end else 0, stream_id, payload)


class Peer(asyncio.Protocol):
    """A connection. It reads and answers what an honest one would, unless it is told not to.

    Args:
        on_data: Called with (stream id, payload) of each DATA frame.

    Attributes:
        goaway: The code of the last GOAWAY that came, by its name; empty: none came.
        resets: Codes of the RST_STREAM frames, by stream.
        trailers: The last header block of each stream.
        counts: Frames that came, by kind.
        bytes_of: DATA bytes that came, by stream.
        ended: Streams that the server has ended with END_STREAM.
        mute: SETTINGS and PING are not acknowledged: for those in the middle of a frame or block.
        over: The server has ended the connection.
    """

    def __init__(self, on_data: Callable[[int, bytes], None] | None = None) -> None:
        self.goaway = ""
        self.resets: dict[int, str] = {}
        self.trailers: dict[int, dict[str, str]] = {}
        self.counts: Counter[int] = Counter()
        self.bytes_of: Counter[int] = Counter()
        self.ended: set[int] = set()
        self.over = asyncio.Event()
        self.mute = False
        self._moved = asyncio.Event()
        self._on_data = on_data
        self._buffer = bytearray()
        self._decoder = Decoder(max_header_list_size=1 << 20)
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(
        cls,
        port: int,
        *,
        first: bytes | None = None,
        on_data: Callable[[int, bytes], None] | None = None,
        receive_buffer: int = 0,
    ) -> Peer:
        """Connects and sends the preface with empty SETTINGS, or what is given instead.

        Args:
            receive_buffer: SO_RCVBUF of the socket; 0: as the system has it.
        """
        connection = socket.socket()
        try:
            if receive_buffer:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            connection.setblocking(False)
            loop = asyncio.get_running_loop()
            await asyncio.wait_for(loop.sock_connect(connection, (HOST, port)), CONNECT_TIMEOUT_S)
            _, peer = await loop.create_connection(lambda: cls(on_data), sock=connection)
        except BaseException:
            connection.close()
            raise
        peer.write(PREFACE + settings() if first is None else first)
        return peer

    # --- of the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()
        self._writable.set()
        self._moved.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= 9:
            high, low, kind, flags, stream_id = struct.unpack_from(">BHBBI", buffer, at)
            end = at + 9 + (high << 16 | low)
            if len(buffer) < end:
                break
            self._frame(kind, flags, stream_id, bytes(buffer[at + 9 : end]))
            at = end
        del buffer[:at]
        self._moved.set()

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        self.counts[kind] += 1
        if kind == DATA:
            self.bytes_of[stream_id] += len(payload)
            if self._on_data is not None:
                self._on_data(stream_id, payload)
        elif kind == HEADERS:
            self.trailers[stream_id] = {
                str(name): str(value) for name, value in self._decoder.decode(payload)
            }
        elif kind == RST_STREAM:
            self.resets[stream_id] = CODES[int.from_bytes(payload, "big")]
        elif kind == GOAWAY:
            self.goaway = CODES[int.from_bytes(payload[4:8], "big")]
        elif kind == SETTINGS and not flags & ACK and not self.mute:
            self.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK and not self.mute:
            self.write(frame(PING, ACK, 0, payload))
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self.ended.add(stream_id)

    # --- of whoever attacks ---

    def write(self, data: bytes) -> None:
        """Sends bytes, whatever they are."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def push(self, data: bytes) -> None:
        """Sends bytes about as fast as the server takes them, and lets its answers in."""
        self.write(data)
        await self._writable.wait()
        await asyncio.sleep(PUSH_S)

    def stop_reading(self) -> None:
        """Takes nothing from the socket any more."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def read_again(self) -> None:
        """Takes all that has come."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    async def until(self, true: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until something has come; whether it has in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not true() and not self.over.is_set():
                    self._moved.clear()
                    await self._moved.wait()
        return true()

    @property
    def done(self) -> bool:
        """Whether the server has ended the connection, or said that it will."""
        return bool(self.goaway) or self.over.is_set()

    @property
    def ending(self) -> str:
        """How the server has ended the connection."""
        return self.goaway or ("closed" if self.over.is_set() else "open")

    def close(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None and not self.over.is_set():
            self._transport.abort()
