"""The core against a small model of HTTP/2: stream states, windows, and every byte in order."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chinwag_server.wire import frames
from chinwag_server.wire.errors import ErrorCode
from chinwag_server.wire.limits import Limits
from chinwag_server.wire.status import Code
from tests.wire.core.peer import Peer, Recorder, message

# Small windows, so that they are what decides.
LIMITS = Limits(
    stream_window=400,
    connection_window=70_000,
    concurrent_streams=4,
    message_bytes=2000,
    burst=10_000_000,
    resets_burst=10_000_000,
)


@dataclass
class Stream:
    """What the model knows of a stream.

    Attributes:
        sent: Messages that the client has sent whole; torn: the rest of one that is not.
        window: Bytes that the client may still send.
        promised: Bytes of messages that the server was told to send, with their prefixes.
        got: Bytes of them that came.
        credit: Bytes that the server may still send.
    """

    id: int
    recorder: Recorder
    window: int
    credit: int
    sent: list[bytes] = field(default_factory=list)
    torn: bytes = b""
    promised: bytes = b""
    got: bytes = b""
    ended: bool = False
    finished: bool = False


class Machine(RuleBasedStateMachine):
    """Random clients and applications; after each step both sides agree."""

    def __init__(self) -> None:
        super().__init__()
        self.peer = Peer(LIMITS)
        self.streams: dict[int, Stream] = {}
        self.next_id = 1
        self.initial_credit = frames.DEFAULT_WINDOW
        self.credit = frames.DEFAULT_WINDOW
        self.window = LIMITS.connection_window
        self.broken = False

    @initialize(window=st.integers(0, 300))
    def greet(self, window: int) -> None:
        self.peer.greet(INITIAL_WINDOW_SIZE=window)
        self.initial_credit = window
        for frame in self.peer.took(frames.WINDOW_UPDATE):
            assert frame.stream_id == 0

    # --- the client ---

    @precondition(lambda self: not self.broken)
    @rule(end=st.booleans())
    def open(self, end: bool) -> None:
        stream_id, self.next_id = self.next_id, self.next_id + 2
        before = len(self.peer.calls)
        self.peer.request(stream_id, end=end)
        if len(self.streams) >= LIMITS.concurrent_streams:
            self.expect_reset(stream_id, ErrorCode.REFUSED_STREAM)
            return
        assert len(self.peer.calls) == before + 1
        stream = Stream(stream_id, self.peer.calls[-1], LIMITS.stream_window, self.initial_credit)
        stream.ended = end
        self.streams[stream_id] = stream

    def open_streams(self) -> list[Stream]:
        return [stream for stream in self.streams.values() if not stream.ended]

    @precondition(lambda self: not self.broken and self.open_streams())
    @rule(data=st.data(), body=st.binary(max_size=700), end=st.booleans())
    def send(self, data: st.DataObject, body: bytes, end: bool) -> None:
        """As much of a message as the windows allow, and the end only after a whole one."""
        stream = data.draw(st.sampled_from(self.open_streams()))
        rest = stream.torn or message(body)
        if not stream.torn:
            stream.sent.append(body)
        cut = min(len(rest), stream.window, self.window, 300)
        part, stream.torn = rest[:cut], rest[cut:]
        stream.window -= cut
        self.window -= cut
        end = end and not stream.torn
        self.peer.data(stream.id, part, end=end)
        stream.ended = end

    @precondition(lambda self: not self.broken and self.streams)
    @rule(data=st.data())
    def reset(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(list(self.streams.values())))
        self.peer.frame(frames.RST_STREAM, 0, stream.id, (8).to_bytes(4, "big"))
        assert stream.recorder.gone_by == (None if stream.finished else Code.CANCELLED)
        self.read()
        del self.streams[stream.id]

    @precondition(lambda self: not self.broken)
    @rule(data=st.data(), size=st.integers(1, 500))
    def give_window(self, data: st.DataObject, size: int) -> None:
        stream_id = data.draw(st.sampled_from([0, *self.streams]))
        if stream_id:
            self.streams[stream_id].credit += size
        else:
            self.credit += size
        self.peer.send(frames.window_update(stream_id, size))

    @precondition(lambda self: not self.broken)
    @rule(window=st.integers(0, 300))
    def change_initial_window(self, window: int) -> None:
        for stream in self.streams.values():
            stream.credit += window - self.initial_credit
        self.initial_credit = window
        self.peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: window}))

    @precondition(lambda self: not self.broken and self.open_streams())
    @rule(data=st.data())
    def overflow(self, data: st.DataObject) -> None:
        """More than the stream's window: that stream ends, and no other."""
        stream = data.draw(st.sampled_from(self.open_streams()))
        if stream.window + 1 > min(self.window, 16_000):
            return
        self.window -= stream.window + 1
        self.peer.data(stream.id, bytes(stream.window + 1))
        del self.streams[stream.id]
        self.expect_reset(stream.id, ErrorCode.FLOW_CONTROL_ERROR)

    @precondition(lambda self: not self.broken)
    @rule(
        bad=st.sampled_from(
            [
                (frames.head(0, frames.DATA, 0, 0), ErrorCode.PROTOCOL_ERROR),
                (frames.head(3, frames.PING, 0, 0) + bytes(3), ErrorCode.FRAME_SIZE_ERROR),
                (frames.head(0, frames.CONTINUATION, 4, 1), ErrorCode.PROTOCOL_ERROR),
                (frames.head(4, frames.PUSH_PROMISE, 4, 1) + bytes(4), ErrorCode.PROTOCOL_ERROR),
                (frames.window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
                (frames.window_update(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
                (frames.head(1, frames.HEADERS, 4, 99_999) + b"\xff", ErrorCode.COMPRESSION_ERROR),
                (frames.rst_stream(99_999, 0), ErrorCode.PROTOCOL_ERROR),
            ]
        ),
        now=st.integers(0, 9),
    )
    def break_a_rule(self, bad: tuple[bytes, ErrorCode], now: int) -> None:
        if now:  # seldom, since it is the end
            return
        data, code = bad
        self.peer.send(data)
        (goaway,) = [frame for frame in self.peer.frames if frame.kind == frames.GOAWAY]
        assert goaway.number == code
        self.broken = True
        assert self.peer.connection.closed
        assert all(recorder.gone_by or recorder.call.over for recorder in self.peer.calls)

    @precondition(lambda self: self.broken)
    @rule()
    def nothing_more_is_said(self) -> None:
        self.peer.take()
        self.peer.send(frames.ping(bytes(8)))
        assert not self.peer.take()

    # --- the application ---

    @precondition(lambda self: not self.broken and self.streams)
    @rule(data=st.data(), hold=st.booleans())
    def hold_or_release(self, data: st.DataObject, hold: bool) -> None:
        recorder = data.draw(st.sampled_from(list(self.streams.values()))).recorder
        if hold:
            recorder.call.hold()
        else:
            recorder.call.release()

    @precondition(lambda self: not self.broken and self.streams)
    @rule(data=st.data(), body=st.binary(max_size=600))
    def answer(self, data: st.DataObject, body: bytes) -> None:
        stream = data.draw(st.sampled_from(list(self.streams.values())))
        if not stream.finished:
            stream.promised += message(body)
            if not stream.recorder.call.offer(body):
                stream.recorder.call.send(body)

    @precondition(lambda self: not self.broken and self.streams)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(list(self.streams.values())))
        stream.recorder.call.finish()
        stream.finished = True

    # --- what must hold ---

    def expect_reset(self, stream_id: int, code: ErrorCode) -> None:
        found = [
            frame.number
            for frame in self.peer.frames
            if frame.kind == frames.RST_STREAM and frame.stream_id == stream_id
        ]
        assert found == [code]

    def read(self) -> None:
        """Takes in what the server has sent: never more than a window, and in order."""
        for frame in self.peer.take():
            stream = self.streams.get(frame.stream_id)
            if frame.kind == frames.DATA:
                self.credit -= len(frame.payload)
                assert self.credit >= 0, "more than the connection's window"
                assert stream is not None, "DATA on a stream that has ended"
                stream.credit -= len(frame.payload)
                assert stream.credit >= 0 or not frame.payload, "more than the stream's window"
                stream.got += frame.payload
            elif frame.kind == frames.WINDOW_UPDATE:
                if frame.stream_id == 0:
                    self.window += frame.number
                elif stream is not None:
                    stream.window += frame.number
            elif frame.kind == frames.HEADERS and frame.flags & frames.END_STREAM:
                assert stream is not None
                assert stream.finished
                assert stream.got == stream.promised, "the status came before all messages"
                del self.streams[frame.stream_id]

    @invariant()
    def agree(self) -> None:
        if self.broken:
            return
        self.read()
        connection = self.peer.connection
        assert not connection.closed
        assert set(connection.streams) == set(self.streams)
        assert connection.send_window == self.credit
        assert connection.recv_window == self.window <= LIMITS.connection_window
        for stream in self.streams.values():
            real = connection.streams[stream.id]
            assert real.send_window == stream.credit
            assert real.recv_window == stream.window
            assert stream.window <= LIMITS.stream_window or stream.torn
            assert stream.promised.startswith(stream.got)
            waiting = len(stream.promised) - len(stream.got)
            assert real.pending_bytes == waiting
            if waiting:
                assert min(stream.credit, self.credit) <= 0, "it could have been sent"
            got = stream.recorder.messages
            assert got == stream.sent[: len(got)]
            assert not stream.recorder.errors


# `make soak` gives it half an hour; see test_fuzz.
Machine.TestCase.settings = settings(
    max_examples=int(os.environ.get("WIRE_EXAMPLES", "150")),
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestModel = Machine.TestCase
