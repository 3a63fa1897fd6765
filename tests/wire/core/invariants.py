"""What always holds of a connection, whatever its peer and its application have done."""

from __future__ import annotations

from chinwag_server.wire import frames
from chinwag_server.wire.call import Call
from chinwag_server.wire.connection import Connection
from chinwag_server.wire.stream import Stream
from tests.wire.core.peer import Frame

# Of bytes that lie ready for the socket: what a turn may add to what makes responses wait.
MAX_OUT = 400_000
_LARGEST_FRAME = frames.HEAD_BYTES + frames.DEFAULT_FRAME_SIZE


def check(connection: Connection) -> None:
    """What the connection keeps is bounded, and each byte of a window is somewhere.

    Raises:
        AssertionError: Something does not hold.
    """
    limits = connection.limits
    if connection.closed:
        assert not connection.streams or connection.fault is None
        return
    if not connection.more:
        assert len(connection._buffer) <= _LARGEST_FRAME, "more than a frame waits"
    block = sum(map(len, connection._block or ()))
    assert block <= 4 * limits.header_list_bytes + frames.DEFAULT_FRAME_SIZE
    assert len(connection.streams) <= limits.concurrent_streams
    assert len(connection._reset_ids or ()) <= limits.concurrent_streams
    assert connection.send_window <= frames.MAX_WINDOW
    assert connection.recv_window >= 0
    kept = sum(map(_kept, connection.streams.values()))
    assert connection.recv_left + kept == limits.connection_window, "a window leaks"
    waiting = sum(stream.pending_bytes for stream in connection.streams.values())
    assert connection.pending_bytes == waiting
    # One message may go above the bound, and is the last.
    assert waiting <= limits.pending_bytes + 2 * len(connection.streams) * limits.message_bytes
    for stream in connection.streams.values():
        _check_stream(stream)
    for stream in connection.blocked:
        assert connection.streams.get(stream.id) is stream, "a stream waits that is not open"
    assert connection.queue.keys() <= connection.blocked.keys()


def _check_stream(stream: Stream) -> None:
    connection = stream.connection
    assert not (stream.remote_closed and stream.local_closed), "a stream that has ended is kept"
    assert stream.send_window <= frames.MAX_WINDOW
    assert stream.recv_window >= 0
    assert stream.pending_bytes == sum(map(len, stream._pending or ()))
    if stream._pending:
        assert stream in connection.blocked, "nobody will send what waits"
    if stream in connection.blocked and stream.send_window > 0:
        assert stream in connection.queue, "nobody will ask it to send"
    handler = stream.handler
    if stream.remote_closed:
        return
    closed = _unopened(stream)
    total = stream.recv_window + stream._returned + closed
    assert total <= connection.limits.stream_window, "a stream's window grows"
    if isinstance(handler, Call) and handler.over:
        return  # what it kept is gone, and nobody waits for more
    assert total == connection.limits.stream_window, "a stream's window leaks"
    if not closed or (isinstance(handler, Call) and not handler._held):
        assert stream.recv_window > 0, "the client may send nothing, and is not held"


def _kept(stream: Stream) -> int:
    """Received bytes that the call keeps."""
    call = stream.handler
    if not isinstance(call, Call):
        return 0
    return len(call._partial or b"")


def _unopened(stream: Stream) -> int:
    """Those of them for which the stream's window is closed."""
    call = stream.handler
    if not isinstance(call, Call):
        return 0
    return len(call._partial or b"") - (call._opened if call._partial else 0)


class Output:
    """What a client sees of a server that keeps the rules of RFC 9113."""

    def __init__(self) -> None:
        self._first = True
        self._block: int | None = None
        self._ended: set[int] = set()
        self._begun: set[int] = set()
        self._last_allowed = frames.MAX_STREAM_ID
        self.gone = False

    def check(self, sent: list[Frame]) -> None:
        """Takes in the next frames.

        Raises:
            AssertionError: One may not be there.
        """
        for frame in sent:
            self._check(frame)

    def _check(self, frame: Frame) -> None:
        kind, stream_id, size = frame.kind, frame.stream_id, len(frame.payload)
        assert not self._first or kind == frames.SETTINGS, "the first frame is SETTINGS"
        self._first = False
        assert size <= 4 * frames.DEFAULT_FRAME_SIZE
        if self._block is not None:
            assert (kind, stream_id) == (frames.CONTINUATION, self._block)
        if kind in (frames.DATA, frames.HEADERS):
            assert stream_id & 1, "a stream of a client has an odd id"
            assert stream_id not in self._ended, "more after the end of a stream"
            assert kind == frames.HEADERS or stream_id in self._begun, "DATA before HEADERS"
            self._begun.add(stream_id)
            if frame.flags & frames.END_STREAM:
                self._ended.add(stream_id)
        elif kind == frames.RST_STREAM:
            assert size == 4
            assert stream_id
            self._ended.add(stream_id)
        elif kind == frames.WINDOW_UPDATE:
            assert size == 4
            assert 0 < frame.number <= frames.MAX_WINDOW
        elif kind == frames.GOAWAY:
            last = int.from_bytes(frame.payload[:4], "big")
            assert last <= self._last_allowed, "the last stream of GOAWAY may only sink"
            self._last_allowed = last
        elif kind == frames.PING:
            assert size == 8
        else:
            assert kind in (frames.SETTINGS, frames.CONTINUATION), f"no server sends {kind}"
        if kind in (frames.HEADERS, frames.CONTINUATION):
            self._block = None if frame.flags & frames.END_HEADERS else stream_id
