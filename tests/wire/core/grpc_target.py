"""Fuzzing above the frames: conversations that are sound HTTP/2, with any fields and messages.

The input is a program: each step is an operation and its arguments. What the receivers are told
is compared with a reader of messages that is as simple as can be.
"""

from __future__ import annotations

import gzip
import itertools
import zlib

from chinwag_server.wire import frames
from chinwag_server.wire.limits import Limits
from tests.wire.core import invariants
from tests.wire.core.peer import Peer, Recorder, message, read_frames

LIMITS = Limits(
    concurrent_streams=6,
    stream_window=1_500,
    connection_window=70_000,
    message_bytes=3_000,
    header_list_bytes=2_000,
    pending_bytes=20_000,
    burst=100_000,
    resets_burst=10_000,
)
NAMES = (
    *(b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding", b"grpc-status", b"te"),
    *(b"a-bin", b"a", b"content-length", b"content-type", b"cookie", b"grpc-message", b"x-bin"),
    *(b"host", b":path", b"connection", b""),
)
VALUES = (
    *(b"gzip", b"deflate", b"identity", b"1S", b"99999999H", b"0n", b"trailers", b"AAE"),
    *(b"AAE,AAE=", b"application/grpc", b"10", b"", b",", b"gzip,deflate", b"%", b"5"),
)
STEPS = 120
CUTS = 3


class Program:
    """Arguments out of bytes; zeros when there are no more."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        """Whether there are bytes left."""
        return self._at < len(self._data)

    def number(self, below: int) -> int:
        """A number."""
        value = self._data[self._at] if self.more else 0
        self._at += 1
        return value % below

    def some(self) -> bytes:
        """Bytes, up to 255."""
        size = self.number(256)
        found = self._data[self._at : self._at + size]
        self._at += size
        return found


class Side:
    """The client's side of a call.

    Attributes:
        sent: Bytes of the body that have left; rest: those that wait for a window.
        ended: The client has sent its end, or has reset the stream.
        closing: It ends behind what waits.
    """

    def __init__(self, stream_id: int, encoding: bytes, recorder: Recorder) -> None:
        self.id = stream_id
        self.encoding = encoding
        self.recorder = recorder
        self.sent = bytearray()
        self.rest = bytearray()
        self.ended = False
        self.closing = False


def expected(encoding: bytes, body: bytes) -> tuple[list[bytes], bool]:
    """The messages of a body, and whether that is all there is: no torn or bad one follows."""
    found: list[bytes] = []
    while body:
        if len(body) >= 5 and (body[0] > 1 or int.from_bytes(body[1:5], "big") > 3_000):
            return found, False
        size = int.from_bytes(body[1:5], "big")
        if len(body) < 5 + size:
            return found, False
        data = body[5 : 5 + size]
        if body[0]:
            try:
                data = {b"gzip": _gunzip, b"deflate": _inflate}[encoding](data)
            except (KeyError, ValueError, EOFError, OSError, zlib.error):
                return found, False
            if len(data) > 3_000:
                return found, False
        found.append(data)
        body = body[5 + size :]
    return found, True


def _gunzip(data: bytes) -> bytes:
    inflater = zlib.decompressobj(31)
    out = inflater.decompress(data)
    if not inflater.eof or inflater.unused_data:
        raise ValueError
    return out


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    out = inflater.decompress(data)
    if not inflater.eof or inflater.unused_data:
        raise ValueError
    return out


class Conversation:
    """One input as it runs."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.output = invariants.Output()
        self.sides: list[Side] = []
        self.next_id = 1
        self.left = False
        # How bodies are cut into frames: sizes, in turn; the odd ones are padded.
        self.cuts = itertools.cycle([program.number(256) for _ in range(CUTS)])
        how = program.number(8)
        self.peer = Peer(LIMITS, trusted=bool(how & 1))
        self.peer.greet(INITIAL_WINDOW_SIZE=(0, 100, 65_535, 1 << 20)[how >> 1])

    def run(self) -> None:
        """All of it."""
        steps = (
            self._open,
            self._message,
            self._message,
            self._raw,
            self._end,
            self._reset,
            self._window,
            self._act,
            self._act,
            self._pass_time,
            self._trailers,
            self._socket,
        )
        for _ in range(STEPS):
            if not self.program.more or not self.peer.is_open():
                break
            steps[self.program.number(len(steps))]()
            for side in self.sides:
                self._send(side)
            self._check()
        connection = self.peer.connection
        connection.lost()
        assert not connection.streams
        assert not connection.pending_bytes
        assert all(recorder.call.over for recorder in self.peer.calls)

    # --- the client ---

    def _open(self) -> None:
        program = self.program
        block = [*_HEAD]
        for _ in range(program.number(5)):
            name = NAMES[program.number(len(NAMES))] or program.some()[:30].lower()
            kind = program.number(len(VALUES) + 4)
            block.append((name, VALUES[kind] if kind < len(VALUES) else program.some()))
        if program.number(8) == 0:
            block += [(b"pad", b"x" * 200)] * program.number(16)
        before = len(self.peer.calls)
        stream_id, self.next_id = self.next_id, self.next_id + 2
        end = program.number(4) == 0
        flags = frames.END_HEADERS | (frames.END_STREAM if end else 0)
        encoded = self.peer.encoder.encode(block)
        self.peer.frame(frames.HEADERS, flags, stream_id, encoded)
        if len(self.peer.calls) > before:
            fields = dict(block)
            encoding = fields.get(b"grpc-encoding", b"identity")
            side = Side(stream_id, encoding, self.peer.calls[-1])
            side.ended = end
            self.sides.append(side)
            if program.number(2):
                self.peer.calls[-1].call.await_message()

    def _side(self) -> Side | None:
        number = self.program.number(8)
        return self.sides[-1 - number % len(self.sides)] if self.sides else None

    def _message(self) -> None:
        side, kind, some = self._side(), self.program.number(10), self.program.some()
        if side is None or side.closing:
            return
        flag = 0
        match kind:
            case 0:
                some, flag = gzip.compress(some, mtime=0), 1
            case 1:
                some, flag = zlib.compress(some), 1
            case 2:
                some, flag = gzip.compress(bytes(100_000), mtime=0), 1
            case 3:
                some, flag = gzip.compress(some, mtime=0)[:-1], 1
            case 4:
                flag = 1
            case 5:
                some = (some + b".") * 11
            case 6:
                some = b""
            case _:
                pass
        side.rest += message(some, flag)

    def _raw(self) -> None:
        side, some = self._side(), self.program.some()
        if side is not None and not side.closing:
            side.rest += some

    def _end(self) -> None:
        side = self._side()
        if side is not None:
            side.closing = True

    def _send(self, side: Side) -> None:
        """As much as the windows allow, in a few frames."""
        for _ in range(4):
            stream = self.peer.connection.streams.get(side.id)
            if stream is None or side.ended or not (side.rest or side.closing):
                return
            most = min(stream.recv_window, self.peer.connection.recv_window, 1 << 14)
            size = next(self.cuts)
            cut = min(most, len(side.rest), 1 + 7 * size)
            part = bytes(side.rest[:cut])
            if not part and side.rest:
                return
            del side.rest[:cut]
            side.sent += part
            side.ended = side.closing and not side.rest
            flags = frames.END_STREAM if side.ended else 0
            if size & 1 and cut + 9 <= most:
                self.peer.frame(
                    frames.DATA, flags | frames.PADDED, side.id, b"\x08" + part + bytes(8)
                )
            else:
                self.peer.frame(frames.DATA, flags, side.id, part)

    def _reset(self) -> None:
        side, code = self._side(), self.program.number(16)
        if side is not None and side.id in self.peer.connection.streams:
            self.peer.send(frames.rst_stream(side.id, code))
            side.ended = True

    def _window(self) -> None:
        side, size = self._side(), 1 + self.program.number(256) * 20
        match self.program.number(3):
            case 0:
                self.peer.send(frames.window_update(0, size))
            case 1 if side is not None:
                self.peer.send(frames.window_update(side.id, size))
            case _:
                self.peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: size - 1}))

    def _trailers(self) -> None:
        side, some = self._side(), self.program.some()[:20]
        if side is None or side.rest or side.ended:
            return
        if side.id not in self.peer.connection.streams:
            return
        side.ended = True
        block = self.peer.encoder.encode([(b"a", some), (b"b", b"c")])
        self.peer.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, side.id, block)

    # --- the application, and its host ---

    def _act(self) -> None:
        side, choice = self._side(), self.program.number(14)
        if side is None:
            return
        call = side.recorder.call
        match choice:
            case 0:
                call.send(self.program.some())
            case 1:
                call.send(bytes(2_000))
            case 2:
                call.finish(self.program.number(17), _text(self.program.some()))
            case 3:
                call.cancel()
            case 4:
                call.send_headers((("a-bin", self.program.some()), ("b", "c")))
            case 5:
                call.compress(("gzip", "deflate", "identity", "br", "")[self.program.number(5)])
            case 6:
                call.room()
            case 7:
                call.offer(self.program.some())
            case 8 | 9 | 10:
                call.hold()
            case _:
                call.release()

    def _pass_time(self) -> None:
        # Whoever is silent for long is asked, and answers.
        self.peer.now += (1, 5, 9, 40)[self.program.number(4)]
        self.peer.connection.tick()
        self.peer.frame(frames.PING, frames.ACK, 0, b"farewell")

    def _socket(self) -> None:
        connection = self.peer.connection
        match self.program.number(4):
            case 0:
                connection.pause()
            case 1:
                connection.shutdown()
                self.left = True
            case _:
                connection.resume()

    # --- what must hold ---

    def _check(self) -> None:
        connection = self.peer.connection
        sent = self.peer.take()
        for _ in range(3):
            connection.drain()
            sent += read_frames(connection.take_output())
        self.output.check(sent)
        invariants.check(connection)
        assert connection.fault is None, f"a sound client was cut off: {connection.fault}"
        assert self.left or not connection.closed
        for side in self.sides:
            self._compare(side)

    def _compare(self, side: Side) -> None:
        recorder = side.recorder
        found, sound = expected(side.encoding, bytes(side.sent))
        got = recorder.messages
        assert got == found[: len(got)], "a message that nobody has sent"
        call = recorder.call
        if call.over or call._held:
            return
        assert got == found, "a message was not given"
        assert sound or len(call._partial or b"") > 0, "a bad message was not refused"
        if side.ended:
            assert recorder.ended or recorder.errors or recorder.gone_by is not None
        if recorder.ended:
            assert side.ended
            assert sound, "the end came within a message"


_HEAD: list[tuple[bytes, bytes]] = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/test.Echo/Call"),
    (b"content-type", b"application/grpc"),
]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def run(data: bytes) -> None:
    """One program.

    Raises:
        AssertionError: Something that must hold does not; any other error is one of the core's.
    """
    Conversation(Program(data)).run()
