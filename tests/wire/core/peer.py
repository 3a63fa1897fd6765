"""A client's side for tests of the core: frames made by hand, and the server's read back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hpack import Decoder, Encoder

from chinwag_server.wire import frames
from chinwag_server.wire.call import Call
from chinwag_server.wire.connection import Connection
from chinwag_server.wire.dispatch import Dispatch
from chinwag_server.wire.limits import Limits
from chinwag_server.wire.status import CallError, Code

HEAD = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/test.Echo/Call"),
    (":authority", "test"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)


@dataclass(frozen=True)
class Frame:
    """A frame that the server sent."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def number(self) -> int:
        """The payload of RST_STREAM and WINDOW_UPDATE; of GOAWAY the code."""
        return int.from_bytes(self.payload[4:8] or self.payload, "big")


def read_frames(data: bytes) -> list[Frame]:
    """Whole frames, and nothing after them."""
    found, at = [], 0
    while at < len(data):
        assert len(data) - at >= frames.HEAD_BYTES, "a torn frame"
        high, low, kind, flags, stream_id = frames.unpack_head(data, at)
        at += frames.HEAD_BYTES
        size = high << 8 | low
        assert len(data) - at >= size, "a torn frame"
        found.append(Frame(kind, flags, stream_id, data[at : at + size]))
        at += size
    return found


def message(data: bytes, flag: int = 0) -> bytes:
    """A gRPC message with its prefix."""
    return bytes((flag,)) + len(data).to_bytes(4, "big") + data


@dataclass
class Recorder:
    """A receiver that keeps what it is told."""

    call: Call
    messages: list[bytes] = field(default_factory=list)
    ended: bool = False
    gone_by: Code | None = None
    errors: list[CallError] = field(default_factory=list)
    writables: int = 0

    def message(self, data: bytes) -> None:
        self.messages.append(data)

    def half_closed(self) -> None:
        self.ended = True

    def gone(self, code: Code) -> None:
        assert self.gone_by is None, "gone twice"
        self.gone_by = code

    def refused(self, error: CallError) -> None:
        self.errors.append(error)
        self.call.finish(error.code, error.message)

    def writable(self) -> None:
        self.writables += 1


class Peer:
    """A client of one connection of the core, with a clock that stands still.

    Attributes:
        calls: What the server was asked for, in order.
        frames: What it has sent, but for what `take` has taken.
    """

    def __init__(self, limits: Limits | None = None, *, trusted: bool = False) -> None:
        self.now = 1000.0
        self.calls: list[Recorder] = []
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.frames: list[Frame] = []
        self.opened: Callable[[Recorder], None] = lambda _recorder: None
        self.connection = Connection(
            Dispatch(self._open), limits or Limits(), lambda: self.now, trusted=trusted
        )

    def _open(self, call: Call) -> None:
        recorder = Recorder(call)
        call.receiver = recorder
        self.calls.append(recorder)
        self.opened(recorder)

    def is_open(self) -> bool:
        """Whether the server still reads."""
        return not self.connection.closed

    def send(self, data: bytes) -> Peer:
        """Bytes to the server."""
        self.connection.receive(data)
        while self.connection.more:
            self.connection.receive(b"")
        self.frames += read_frames(self.connection.take_output())
        return self

    def greet(self, **settings: int) -> Peer:
        """The preface; settings by name, such as INITIAL_WINDOW_SIZE."""
        values = {getattr(frames, name): value for name, value in settings.items()}
        return self.send(frames.PREFACE + frames.settings(values))

    def frame(self, kind: int, flags: int, stream_id: int, payload: bytes = b"") -> Peer:
        """A frame."""
        return self.send(frames.head(len(payload), kind, flags, stream_id) + payload)

    def request(
        self,
        stream_id: int,
        *more: tuple[str, str],
        end: bool = False,
        head: Sequence[tuple[str, str]] = HEAD,
    ) -> Peer:
        """HEADERS of a call."""
        block = self.encoder.encode([*head, *more])
        flags = frames.END_HEADERS | (frames.END_STREAM if end else 0)
        return self.frame(frames.HEADERS, flags, stream_id, block)

    def data(self, stream_id: int, data: bytes, *, end: bool = False) -> Peer:
        """DATA."""
        return self.frame(frames.DATA, frames.END_STREAM if end else 0, stream_id, data)

    def pass_time(self, seconds: float) -> Peer:
        """Lets time go by, a second at a time."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 1)
            self.connection.tick()
        self.frames += read_frames(self.connection.take_output())
        return self

    def take(self) -> list[Frame]:
        """What the server has sent since the last time."""
        self.frames += read_frames(self.connection.take_output())
        taken, self.frames = self.frames, []
        return taken

    def took(self, kind: int) -> list[Frame]:
        """Frames of a kind out of `take`."""
        return [frame for frame in self.take() if frame.kind == kind]

    def headers(self, frame: Frame) -> dict[str, str]:
        """The fields of a HEADERS frame."""
        return {str(key): str(value) for key, value in self.decoder.decode(frame.payload)}
