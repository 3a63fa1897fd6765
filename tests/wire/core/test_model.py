"""The core against a small model of HTTP/2: stream states, windows, and every byte in order.

The client's side is made here once more, frames and all, so that a mistake of the core cannot
hide behind the same mistake in the model.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from hpack import Encoder
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chinwag_server.wire.call import Call
from chinwag_server.wire.connection import Connection
from chinwag_server.wire.dispatch import Dispatch
from chinwag_server.wire.errors import ErrorCode
from chinwag_server.wire.limits import Limits
from chinwag_server.wire.status import Code
from tests.wire.core import invariants
from tests.wire.core.peer import Recorder, message
from tests.wire.hostile import peer as h2

# Small windows, so that they are what decides.
LIMITS = Limits(
    stream_window=400,
    connection_window=70_000,
    concurrent_streams=4,
    message_bytes=2000,
    burst=10_000_000,
    resets_burst=10_000_000,
)
HEAD = [
    *((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/test.Echo/Call")),
    (b"content-type", b"application/grpc"),
]
LAST_ID = 2**31 - 1
ENDS_HERE = h2.END_HEADERS | h2.END_STREAM
PRIORITY_FLAG = 0x20

Frame = tuple[int, int, int, bytes]

kinds = st.sampled_from(["echo", "sink", "hold"])
# Each of a size, and no two alike.
bodies = st.builds(
    lambda size, first: bytes((first + at * at) % 251 for at in range(size)),
    st.one_of(st.just(0), st.integers(0, 60), st.integers(100, 700)),
    st.integers(0, 250),
)


def parse(data: bytes) -> list[Frame]:
    """Whole frames: kind, flags, stream and payload."""
    found = []
    while data:
        high, low, kind, flags, stream_id = struct.unpack(">BHBBI", data[:9])
        size = high << 16 | low
        assert len(data) >= 9 + size, "a torn frame"
        found.append((kind, flags, stream_id, data[9 : 9 + size]))
        data = data[9 + size :]
    return found


class App(Recorder):
    """What serves a call: it echoes, takes all, or takes a message when it is told to."""

    def __init__(self, call: Call, kind: str) -> None:
        super().__init__(call)
        self.kind = kind
        self.promised = b""
        self.finished = False

    def message(self, data: bytes) -> None:
        super().message(data)
        if self.kind == "hold":
            self.call.hold()
        elif self.kind == "echo":
            self.answer(data)

    def half_closed(self) -> None:
        super().half_closed()
        if self.kind == "echo":
            self.finish()

    def answer(self, data: bytes) -> None:
        """A message to the client."""
        self.promised += message(data)
        if not self.call.offer(data):
            self.call.send(data)

    def finish(self) -> None:
        """The call's end, behind all answers."""
        self.finished = True
        self.call.finish()


@dataclass
class Stream:
    """What the model knows of a stream.

    Attributes:
        window: Bytes that the client may still send; given: those that came back to it.
        credit: Bytes that the server may still send; got: those that came.
        sent: Messages that have begun; torn: the rest of the last, if it is not whole.
        body: Bytes of them that were sent; padding: of frames around them.
        taken, wants: How many messages an application that holds has, and whether it takes one.
        begun: The response's head has come.
        ended: The client has sent all.
    """

    id: int
    app: App
    window: int
    credit: int
    given: int = 0
    got: bytes = b""
    sent: list[bytes] = field(default_factory=list)
    torn: bytes = b""
    body: int = 0
    padding: int = 0
    taken: int = 0
    wants: bool = True
    begun: bool = False
    ended: bool = False

    def whole(self) -> list[bytes]:
        """Messages that were sent whole."""
        return self.sent[:-1] if self.torn else self.sent

    def kept(self) -> int:
        """Bytes that were sent and that the application has not taken."""
        if self.app.call.over:
            return 0
        return self.body - sum(5 + len(taken) for taken in self.app.messages)

    def settle(self) -> None:
        """What the application must have got by now."""
        whole = self.whole()
        if self.app.kind == "hold":
            if self.wants and self.taken < len(whole):
                self.taken, self.wants = self.taken + 1, False
        else:
            self.taken = len(whole)
        if not self.app.finished:
            assert self.app.messages == whole[: self.taken]
        held = self.app.kind == "hold" and not self.wants
        if not held and not self.app.call.over:
            assert self.app.ended is self.ended


class Machine(RuleBasedStateMachine):
    """Random clients and applications; after each step both sides agree."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.apps: list[App] = []
        self.kind = "sink"
        self.connection = Connection(Dispatch(self.opened), LIMITS, lambda: self.now)
        self.encoder = Encoder()
        self.streams: dict[int, Stream] = {}
        # Streams that both sides have ended, and those whose rest the server does not want.
        self.closed: list[int] = []
        self.unwanted: list[int] = []
        self.untold: set[int] = set()
        # All that the server has reset; it remembers the last of them.
        self.told: list[int] = []
        self.next_id = 1
        self.highest = 0
        self.last_allowed = LAST_ID
        self.initial_credit = self.credit = h2.DEFAULT_WINDOW
        self.window = LIMITS.connection_window
        self.given = self.received = 0
        self.paused = False
        self.leaving = False
        self.over = False
        # What has come and was not expected yet.
        self.resets: dict[int, int] = {}
        self.goaways: list[tuple[int, int]] = []
        self.acks = 0
        self.pings: list[tuple[int, bytes]] = []

    def opened(self, call: Call) -> None:
        app = App(call, self.kind)
        call.receiver = app
        self.apps.append(app)

    @initialize(window=st.integers(0, 300), kinds=st.lists(kinds, max_size=3), small=st.booleans())
    def greet(self, window: int, kinds: list[str], small: bool) -> None:
        self.initial_credit = window
        self.give(h2.PREFACE + h2.settings((h2.INITIAL_WINDOW_SIZE, window)))
        first, update, ack = parse(self.connection.take_output())
        assert first[:3] == (h2.SETTINGS, 0, 0)
        assert update == (h2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 70_000 - 65_535))
        assert ack == (h2.SETTINGS, h2.ACK, 0, b"")
        for kind in kinds:
            self.open_one(kind, b"", False, [], 0)
        if small and kinds:
            # What is left of the connection's window is about a message.
            stream = next(iter(self.streams.values()))
            stream.credit += 70_000
            self.give(h2.window_update(stream.id, 70_000))
            stream.app.answer(bytes(65_000))
            self.read()

    # --- both ways ---

    def give(self, data: bytes) -> None:
        """Bytes to the server, as many turns as they take."""
        self.connection.receive(data)
        while self.connection.more:
            self.connection.receive(b"")

    def exchange(self, data: bytes) -> None:
        """Bytes to the server, and what it says to them."""
        self.give(data)
        self.read()

    def read(self) -> None:
        for kind, flags, stream_id, payload in parse(self.connection.take_output()):
            number = int.from_bytes(payload[:4], "big")
            stream = self.streams.get(stream_id)
            if kind == h2.DATA:
                self.read_data(stream, flags, payload)
            elif kind == h2.HEADERS:
                assert stream is not None, "HEADERS on a stream that has ended"
                assert flags & h2.END_HEADERS
                stream.begun = True
                if flags & h2.END_STREAM:
                    self.read_end(stream)
            elif kind == h2.WINDOW_UPDATE:
                assert number > 0
                if stream_id == 0:
                    self.window += number
                    self.given += number
                elif stream is not None:
                    # But for padding around the last byte.
                    assert not stream.ended or stream.padding, "a window for who has sent all"
                    stream.window += number
                    stream.given += number
            elif kind == h2.RST_STREAM:
                self.told.append(stream_id)
                if number == ErrorCode.NO_ERROR:
                    assert stream_id in self.unwanted
                    self.untold.remove(stream_id)
                else:
                    self.resets[stream_id] = number
                    self.streams.pop(stream_id, None)
            elif kind == h2.GOAWAY:
                self.goaways.append((number, int.from_bytes(payload[4:8], "big")))
            elif kind == h2.PING:
                self.pings.append((flags, payload))
            else:
                assert (kind, flags, payload) == (h2.SETTINGS, h2.ACK, b"")
                self.acks += 1

    def read_data(self, stream: Stream | None, flags: int, payload: bytes) -> None:
        assert stream is not None, "DATA on a stream that has ended"
        assert stream.begun, "DATA before HEADERS"
        assert not flags
        assert not self.paused, "DATA for a socket that is full"
        self.credit -= len(payload)
        stream.credit -= len(payload)
        assert self.credit >= 0, "more than the connection's window"
        assert stream.credit >= 0 or not payload, "more than the stream's window"
        stream.got += payload
        assert stream.app.promised.startswith(stream.got), "not the bytes that were sent"

    def read_end(self, stream: Stream) -> None:
        assert stream.app.finished
        assert stream.got == stream.app.promised, "the status came before all messages"
        (self.closed if stream.ended else self.unwanted).append(stream.id)
        if not stream.ended:
            self.untold.add(stream.id)
        del self.streams[stream.id]

    def draw(self, data: st.DataObject, of: Callable[[Stream], bool]) -> Stream | None:
        found = [stream for stream in self.streams.values() if of(stream)]
        return data.draw(st.sampled_from(found)) if found else None

    # --- the client ---

    @precondition(lambda self: not self.over)
    @rule(
        kind=kinds,
        value=st.binary(max_size=20),
        end=st.integers(0, 3).map(lambda luck: luck == 2),
        cuts=st.lists(st.integers(0, 60), max_size=3),
        flags=st.sampled_from([0, h2.PADDED, PRIORITY_FLAG, h2.PADDED | PRIORITY_FLAG]),
    )
    def open(self, kind: str, value: bytes, end: bool, cuts: list[int], flags: int) -> None:
        self.open_one(kind, value, end, cuts, flags)

    def open_one(self, kind: str, value: bytes, end: bool, cuts: list[int], flags: int) -> None:
        stream_id, self.next_id = self.next_id, self.next_id + 2
        block = self.encoder.encode([*HEAD, (b"kept-bin", b"AAE"), (b"a", value.hex().encode())])
        cuts = sorted(cuts)
        parts = [block[a:b] for a, b in zip([0, *cuts], [*cuts, len(block)], strict=True)]
        first = (bytes(5) if flags & PRIORITY_FLAG else b"") + parts[0]
        if flags & h2.PADDED:
            first = b"\4" + first + bytes(4)
        flags |= (h2.END_STREAM if end else 0) | (0 if cuts else h2.END_HEADERS)
        whole = h2.frame(h2.HEADERS, flags, stream_id, first)
        for part in parts[1:-1]:
            whole += h2.frame(h2.CONTINUATION, 0, stream_id, part)
        if cuts:
            whole += h2.frame(h2.CONTINUATION, h2.END_HEADERS, stream_id, parts[-1])
        self.kind = kind
        before, full = len(self.apps), len(self.streams) >= LIMITS.concurrent_streams
        too_late = stream_id > self.last_allowed
        if not too_late:
            self.highest = stream_id
        if not full and not too_late:
            # It may answer at once: the model knows the stream before the server does.
            self.give(whole)
            assert len(self.apps) == before + 1
            app = self.apps[-1]
            assert app.call.metadata == (("kept-bin", b"\0\1"), ("a", value.hex()))
            stream = Stream(stream_id, app, LIMITS.stream_window, self.initial_credit, ended=end)
            self.streams[stream_id] = stream
            self.read()
            return
        self.exchange(whole)
        assert len(self.apps) == before
        if full and not too_late:
            assert self.resets.pop(stream_id) == ErrorCode.REFUSED_STREAM

    @precondition(lambda self: not self.over)
    @rule(
        data=st.data(),
        several=st.lists(bodies, min_size=1, max_size=4),
        most=st.integers(0, 500),
        padding=st.integers(-1, 20),
        end=st.integers(0, 9).map(lambda luck: luck == 7),
    )
    def send(
        self, data: st.DataObject, several: list[bytes], most: int, padding: int, end: bool
    ) -> None:
        """As much of messages as the windows allow, and the end only after a whole one."""
        stream = self.draw(data, lambda stream: not stream.ended)
        if stream is None:
            return
        for left, body in zip(range(len(several) - 1, -1, -1), several, strict=True):
            rest = stream.torn or message(body)
            if not stream.torn:
                stream.sent.append(body)
            self.send_some(stream, rest, most, padding, end and not left)
            if stream.id not in self.streams:
                break

    def send_some(self, stream: Stream, rest: bytes, most: int, padding: int, end: bool) -> None:
        room = min(stream.window, self.window) - padding - 1
        if room < 0:
            padding, room = -1, min(stream.window, self.window)
        cut = min(len(rest), room, most)
        part, stream.torn = rest[:cut], rest[cut:]
        end = end and not stream.torn
        flags = h2.END_STREAM if end else 0
        if padding >= 0:
            flags |= h2.PADDED
            part = bytes((padding,)) + part + bytes(padding)
        stream.window -= len(part)
        self.window -= len(part)
        self.received += len(part)
        stream.body += cut
        stream.padding += padding + 1
        self.give(h2.frame(h2.DATA, flags, stream.id, part))
        # What comes back was on its way before the end, or is the connection's.
        stream.ended = end
        self.read()

    @precondition(lambda self: not self.over)
    @rule(data=st.data(), luck=st.integers(0, 4))
    def trailers(self, data: st.DataObject, luck: int) -> None:
        stream = self.draw(data, lambda stream: not stream.ended and not stream.torn)
        if stream is not None and luck == 3:
            stream.ended = True
            block = self.encoder.encode([(b"checksum", b"1")])
            self.exchange(h2.frame(h2.HEADERS, ENDS_HERE, stream.id, block))

    @precondition(lambda self: not self.over)
    @rule(data=st.data(), code=st.sampled_from([0, 2, 8, 99]), luck=st.integers(0, 4))
    def reset(self, data: st.DataObject, code: int, luck: int) -> None:
        stream = self.draw(data, lambda _: True)
        if stream is None or luck != 3:
            return
        del self.streams[stream.id]
        self.closed.append(stream.id)
        self.exchange(h2.reset(stream.id, code))
        wanted = Code.CANCELLED if code in (0, 8) else Code.INTERNAL
        assert stream.app.gone_by == (None if stream.app.finished else wanted)

    @precondition(lambda self: not self.over)
    @rule(data=st.data(), size=st.integers(1, 500))
    def give_window(self, data: st.DataObject, size: int) -> None:
        stream_id = data.draw(st.sampled_from([0, *self.streams]))
        if stream_id:
            self.streams[stream_id].credit += size
        else:
            self.credit += size
        self.exchange(h2.window_update(stream_id, size))

    @precondition(lambda self: not self.over)
    @rule(windows=st.lists(st.integers(0, 300), min_size=1, max_size=2))
    def change_initial_window(self, windows: list[int]) -> None:
        for stream in self.streams.values():
            stream.credit += windows[-1] - self.initial_credit
        self.initial_credit = windows[-1]
        self.exchange(h2.settings(*((h2.INITIAL_WINDOW_SIZE, window) for window in windows)))
        assert self.acks == 1
        self.acks = 0

    @precondition(lambda self: not self.over)
    @rule(payload=st.binary(min_size=8, max_size=8))
    def ping(self, payload: bytes) -> None:
        self.exchange(h2.frame(h2.PING, 0, 0, payload))
        assert self.pings.pop() == (h2.ACK, payload)

    @precondition(lambda self: not self.over)
    @rule(data=st.data(), kind=st.integers(10, 255), flags=st.integers(0, 255))
    def say_what_nobody_knows(self, data: st.DataObject, kind: int, flags: int) -> None:
        stream_id = data.draw(st.sampled_from([0, *self.streams, self.next_id, 2]))
        self.exchange(h2.frame(kind, flags, stream_id, b"new"))

    @precondition(lambda self: not self.over and (self.closed or self.unwanted))
    @rule(data=st.data(), update=st.booleans())
    def speak_of_what_has_ended(self, data: st.DataObject, update: bool) -> None:
        """These may have been on their way."""
        stream_id = data.draw(st.sampled_from(self.closed + self.unwanted))
        self.exchange(h2.window_update(stream_id, 9) if update else h2.reset(stream_id))

    def remembered(self) -> list[int]:
        last = self.told[-LIMITS.concurrent_streams :]
        return [stream_id for stream_id in self.unwanted if stream_id in last]

    @precondition(lambda self: not self.over and self.remembered())
    @rule(data=st.data(), size=st.integers(0, 300), end=st.booleans())
    def send_what_is_not_wanted(self, data: st.DataObject, size: int, end: bool) -> None:
        stream_id = data.draw(st.sampled_from(self.remembered()))
        size = min(size, self.window)
        self.window -= size
        self.received += size
        self.exchange(h2.frame(h2.DATA, h2.END_STREAM * end, stream_id, bytes(size)))

    # --- what costs one stream ---

    @precondition(lambda self: not self.over)
    @rule(data=st.data(), luck=st.integers(0, 19))
    def overflow(self, data: st.DataObject, luck: int) -> None:
        """More than the stream's window: that stream ends, and no other."""
        stream = self.draw(data, lambda stream: not stream.ended)
        if luck != 7 or stream is None or stream.window >= min(self.window, 16_000):
            return
        size = stream.window + 1
        self.window -= size
        self.received += size
        self.fail(stream, h2.frame(h2.DATA, 0, stream.id, bytes(size)), 3)

    @precondition(lambda self: not self.over)
    @rule(data=st.data(), luck=st.integers(0, 19), which=st.integers(0, 7))
    def break_a_rule_of_a_stream(self, data: st.DataObject, luck: int, which: int) -> None:
        stream = self.draw(data, lambda stream: which > 1 or not stream.ended)
        if luck != 7 or stream is None or self.window < 1:
            return
        number, (frame, code) = stream.id, (b"", ErrorCode.PROTOCOL_ERROR)
        if which == 0:
            frame = h2.frame(h2.HEADERS, h2.END_HEADERS, number, b"\0\1a\0")
        elif which == 1:
            frame = h2.frame(h2.HEADERS, ENDS_HERE, number, b"\x82")
        elif which == 2:
            frame = h2.frame(h2.WINDOW_UPDATE, 0, number, bytes(4))
        elif which == 3:
            frame, code = h2.window_update(number, LAST_ID), ErrorCode.FLOW_CONTROL_ERROR
            if stream.credit <= 0:
                return
        elif which == 4:
            frame = h2.frame(h2.PRIORITY, 0, number, struct.pack(">IB", number, 0))
        elif which == 5:
            frame = h2.frame(h2.PRIORITY, 0, number, bytes(6))
            code = ErrorCode.FRAME_SIZE_ERROR
        elif stream.ended and number not in self.unwanted:
            code = ErrorCode.STREAM_CLOSED
            if which == 6:
                self.window -= 1
                self.received += 1
                frame = h2.frame(h2.DATA, 0, number, b"x")
            else:
                frame = h2.frame(h2.HEADERS, ENDS_HERE, number, b"\0\1a\0")
        else:
            return
        self.fail(stream, frame, code)

    def fail(self, stream: Stream, frame: bytes, code: int) -> None:
        finished = stream.app.finished
        self.exchange(frame)
        assert self.resets.pop(stream.id) == code
        assert stream.id not in self.streams
        assert (stream.app.gone_by is None) is finished

    # --- what costs the connection ---

    @precondition(lambda self: not self.over)
    @rule(data=st.data(), luck=st.integers(0, 99))
    def break_a_rule(self, data: st.DataObject, luck: int) -> None:
        if luck != 37:  # it is the end
            return
        protocol, size, flow = 1, 6, 3
        bad = [
            (h2.frame(h2.DATA, 0, 0), protocol),
            (h2.frame(h2.DATA, 0, 0, bytes(16_385)), size),
            (h2.frame(h2.HEADERS, ENDS_HERE, 0, b"\x82"), protocol),
            (h2.frame(h2.HEADERS, ENDS_HERE, 2, b"\x82"), protocol),
            (h2.frame(h2.HEADERS, ENDS_HERE, 99_999, b"\xff"), ErrorCode.COMPRESSION_ERROR),
            (h2.frame(h2.HEADERS, 0, 99_999, b"") + h2.frame(h2.PING, 0, 0, bytes(8)), protocol),
            (h2.frame(h2.PRIORITY, 0, 0, bytes(5)), protocol),
            (h2.frame(h2.RST_STREAM, 0, 0, bytes(4)), protocol),
            (h2.frame(h2.RST_STREAM, 0, 1, bytes(5)), size),
            (h2.frame(h2.SETTINGS, 0, 1), protocol),
            (h2.frame(h2.SETTINGS, h2.ACK, 0, bytes(6)), size),
            (h2.frame(h2.SETTINGS, 0, 0, bytes(7)), size),
            (h2.settings((h2.INITIAL_WINDOW_SIZE, 2**31)), flow),
            (h2.settings((2, 2)), protocol),
            (h2.settings((5, 16_383)), protocol),
            (h2.frame(5, h2.END_HEADERS, 1, bytes(4)), protocol),
            (h2.frame(h2.PING, 0, 0, bytes(3)), size),
            (h2.frame(h2.PING, 0, 1, bytes(8)), protocol),
            (h2.frame(h2.GOAWAY, 0, 1, bytes(8)), protocol),
            (h2.frame(h2.WINDOW_UPDATE, 0, 0, bytes(4)), protocol),
            (h2.frame(h2.WINDOW_UPDATE, 0, 0, bytes(3)), size),
            (h2.frame(h2.CONTINUATION, h2.END_HEADERS, 1), protocol),
        ]
        if self.credit > 0:
            bad.append((h2.window_update(0, LAST_ID), flow))
        if self.last_allowed == LAST_ID:
            bad += [
                (h2.frame(h2.DATA, 0, self.next_id, b""), protocol),
                (h2.reset(self.next_id), protocol),
                (h2.window_update(self.next_id, 1), protocol),
            ]
        for stream_id in self.closed:
            bad.append((h2.frame(h2.DATA, 0, stream_id), ErrorCode.STREAM_CLOSED))
            bad.append((h2.frame(h2.HEADERS, ENDS_HERE, stream_id), ErrorCode.STREAM_CLOSED))
        frame, code = data.draw(st.sampled_from(bad))
        self.exchange(frame)
        ((last, given),) = self.goaways
        self.goaways.clear()
        assert given == code
        assert last == self.highest
        assert self.connection.closed
        self.streams.clear()
        self.over = True

    @precondition(lambda self: self.over)
    @rule()
    def nothing_more_is_said(self) -> None:
        self.give(h2.frame(h2.PING, 0, 0, bytes(8)))
        self.connection.tick()
        assert not self.connection.take_output()

    # --- the application, and its host ---

    @precondition(lambda self: not self.over)
    @rule(data=st.data())
    def take_one(self, data: st.DataObject) -> None:
        stream = self.draw(data, lambda stream: stream.app.kind == "hold")
        if stream is not None:
            stream.wants = True
            stream.app.call.release()
            self.read()

    @precondition(lambda self: not self.over)
    @rule(data=st.data(), body=bodies)
    def answer(self, data: st.DataObject, body: bytes) -> None:
        stream = self.draw(data, lambda stream: not stream.app.finished)
        if stream is not None:
            stream.app.answer(body)
            self.read()

    @precondition(lambda self: not self.over)
    @rule(data=st.data(), luck=st.integers(0, 9))
    def finish(self, data: st.DataObject, luck: int) -> None:
        stream = self.draw(data, lambda stream: not stream.app.finished)
        cancel = luck == 5
        if stream is None or luck not in (5, 7, 8):
            return
        if not cancel:
            stream.app.finish()
            self.read()
            return
        stream.app.call.cancel()
        self.read()
        assert self.resets.pop(stream.id) == ErrorCode.CANCEL

    @precondition(lambda self: not self.over)
    @rule()
    def pause_or_resume(self) -> None:
        self.paused = not self.paused
        if self.paused:
            self.connection.pause()
        else:
            self.connection.resume()
        self.read()

    @precondition(lambda self: not self.over)
    @rule(luck=st.integers(0, 99))
    def shutdown(self, luck: int) -> None:
        if luck not in (37, 38, 39):
            return
        self.connection.shutdown()
        self.read()
        if not self.leaving:
            assert self.goaways == [(LAST_ID, 0)]
            assert self.pings.pop() == (0, b"farewell")
            self.goaways.clear()
        self.leaving = True

    @precondition(lambda self: not self.over and self.leaving)
    @rule()
    def read_the_goaway(self) -> None:
        self.exchange(h2.frame(h2.PING, h2.ACK, 0, b"farewell"))
        if self.last_allowed == LAST_ID:
            assert self.goaways == [(self.highest, 0)]
            self.goaways.clear()
            self.last_allowed = self.highest

    # --- what must hold ---

    @invariant()
    def agree(self) -> None:
        connection = self.connection
        assert not self.resets, "a stream was reset"
        assert not self.untold, "the client was not told that its rest is not wanted"
        assert not self.goaways
        assert not self.acks
        assert not self.pings
        assert set(connection.streams) == set(self.streams)
        invariants.check(connection)
        if self.last_allowed != LAST_ID and not self.streams:
            assert connection.closed
            self.over = True
        assert connection.closed is self.over
        if self.over:
            assert all(app.call.over for app in self.apps)
            return
        assert connection.send_window == self.credit
        assert connection.recv_window == self.window <= LIMITS.connection_window
        kept = sum(stream.kept() for stream in self.streams.values())
        assert self.given <= self.received - kept, "a window for what was not taken"
        for stream in self.streams.values():
            self.agree_on(stream)

    def agree_on(self, stream: Stream) -> None:
        real, app = self.connection.streams[stream.id], stream.app
        assert real.remote_closed is stream.ended
        assert real.send_window == stream.credit
        if not stream.ended:
            assert real.recv_window == stream.window
        stream.settle()
        assert not app.errors
        # An unfinished message's rest must be able to come, so its window is open.
        whole = sum(5 + len(body) for body in stream.whole())
        torn = stream.body - whole
        taken = sum(5 + len(body) for body in app.messages)
        if not app.call.over:
            assert stream.given <= taken + torn + stream.padding
        waiting = len(app.promised) - len(stream.got)
        assert real.pending_bytes == waiting
        if waiting:
            blocked = self.paused or min(stream.credit, self.credit) <= 0
            assert blocked, "it could have been sent"

    def teardown(self) -> None:
        """Whoever is given all windows gets all bytes, and nothing is left."""
        if self.over:
            return
        self.connection.resume()
        self.paused = False
        for stream in list(self.streams.values()):
            size = max(1, 200_000 - stream.credit)
            stream.credit += size
            self.give(h2.window_update(stream.id, size))
            if not stream.app.finished:
                stream.app.finish()
        size = 10_000_000
        self.credit += size
        self.exchange(h2.window_update(0, size))
        for _ in range(1000):
            if not self.connection.streams:
                break
            self.connection.drain()
            self.read()
        assert not self.streams
        assert not self.connection.streams
        assert not self.connection.blocked
        assert not self.connection.pending_bytes
        assert self.connection.recv_left == LIMITS.connection_window


# `make soak` gives it half an hour; see test_fuzz.
Machine.TestCase.settings = settings(
    max_examples=int(os.environ.get("WIRE_EXAMPLES", "400")),
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestModel = Machine.TestCase
