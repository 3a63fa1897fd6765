"""One HTTP/2 stream of a server: what is left of its windows, and what waits for them.

RFC 9113, sections 5.1 (states) and 5.2 (flow control). A stream is made when its request comes,
so of the states there are open, half-closed on either side, and closed; of a closed stream
nothing is kept.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from chinwag_server.wire import frames
from chinwag_server.wire.errors import ErrorCode

if TYPE_CHECKING:
    from chinwag_server.wire.connection import Connection


class StreamHandler(Protocol):
    """What a stream's events go to. None of them may raise or wait."""

    def data(self, data: bytes) -> None:
        """Bytes of the body. Whoever takes them calls `Stream.consume`, now or later."""

    def ended(self) -> None:
        """The peer has sent all."""

    def reset(self, code: ErrorCode) -> None:
        """The stream is over, by the peer or for what it did; nothing more comes."""

    def writable(self) -> None:
        """All that waited has been sent, and there is room again."""

    def tick(self, now: float) -> None:
        """About a second has passed."""


class _Gone:
    """The handler of a stream that is over."""

    def data(self, data: bytes) -> None:
        pass

    def ended(self) -> None:
        pass

    def reset(self, code: ErrorCode) -> None:
        pass

    def writable(self) -> None:
        pass

    def tick(self, now: float) -> None:
        pass


_GONE = _Gone()


class Stream:
    """A request and its response.

    Attributes:
        handler: Set by the application when it is given the request.
        send_window: Bytes that the peer takes now; negative after it made its windows smaller.
        pending_bytes: Bytes that wait for a window.
        remote_closed: The peer has sent all; local_closed: we have.
    """

    __slots__ = (
        "_end",
        "_pending",
        "_progress_at",
        "_returned",
        "body_left",
        "connection",
        "handler",
        "id",
        "local_closed",
        "pending_bytes",
        "recv_window",
        "remote_closed",
        "send_window",
    )

    handler: StreamHandler

    def __init__(self, connection: Connection, stream_id: int, body_left: int) -> None:
        self.connection = connection
        self.id = stream_id
        self.send_window = connection.initial_window
        self.recv_window = connection.limits.stream_window
        # What is left of the announced content-length; -1: it was not announced.
        self.body_left = body_left
        self.remote_closed = False
        self.local_closed = False
        self.pending_bytes = 0
        self._returned = 0
        self._pending: deque[bytes | memoryview] | None = None
        # How to end after what waits: None not, b"" with the last DATA, else with these trailers.
        self._end: bytes | None = None
        self._progress_at = 0.0

    # --- sending ---

    def room(self) -> int:
        """Bytes that can go at once; 0: none can, and `StreamHandler.writable` is called when
        that has changed."""
        connection = self.connection
        if self._pending or self._end is not None or self.local_closed:
            return 0
        window = min(self.send_window, connection.send_window)
        if window > 0 and not connection.full:
            return window
        self._block()
        return 0

    def _block(self) -> None:
        connection = self.connection
        if self not in connection.blocked:
            connection.blocked[self] = None
            self._progress_at = connection.now()
        if self.send_window > 0:
            connection.queue[self] = None

    def send_headers(self, block: bytes, *, end: bool = False) -> None:
        """Sends a response's header block, or its trailers with `end`, after what waits."""
        if self.local_closed or self._end is not None:
            return
        if end and self._pending:
            self._end = block
            return
        self.connection.send_headers(self.id, block, end=end)
        if end:
            self._finished()

    def try_send(self, data: bytes) -> bool:
        """Sends bytes of the body if all of them can go at once; whether they have."""
        connection = self.connection
        size = len(data)
        if (
            size > self.send_window
            or size > connection.send_window
            or size > connection.max_frame_size
            or connection.full
            or self._pending
            or self._end is not None
        ):
            return False
        self.send_window -= size
        connection.send_data(self.id, data, size, False)
        return True

    def send_data(self, data: bytes, *, end: bool = False) -> None:
        """Sends bytes of the body, or keeps them until there is a window for them."""
        connection = self.connection
        size = len(data)
        if (
            size <= self.send_window
            and size <= connection.send_window
            and size <= connection.max_frame_size
            and not connection.full
            and not self._pending
            and self._end is None
            and not self.local_closed
        ):
            self.send_window -= size
            connection.send_data(self.id, data, size, end)
            if end:
                self._finished()
            return
        if self.local_closed or self._end is not None:
            return
        if self._pending is None:
            self._pending = deque()
        self._pending.append(data)
        self.pending_bytes += size
        connection.pending_bytes += size
        if end:
            self._end = b""
        self._block()
        while self.send_some():
            pass

    def send_some(self) -> bool:
        """Sends one frame of what waits; whether it could."""
        pending, connection = self._pending, self.connection
        if not pending or connection.full:
            return False
        data = pending[0]
        most = min(self.send_window, connection.send_window, connection.max_frame_size)
        if most <= 0 and len(data):
            return False
        cut = len(data) > most
        if cut:
            view = memoryview(data)
            part, rest = view[:most], view[most:]
            # A view keeps all of its bytes: a small rest is better copied.
            whole = len(view.obj)  # type: ignore[arg-type]
            pending[0] = bytes(rest) if 2 * len(rest) < whole else rest
        else:
            part = pending.popleft()  # type: ignore[assignment]
        size = len(part)
        self.send_window -= size
        self.pending_bytes -= size
        connection.pending_bytes -= size
        self._progress_at = connection.now()
        last = not pending and self._end == b""
        connection.send_data(self.id, bytes(part), size, last, part=cut)
        if not pending:
            self._pending = None
            if self._end is None:
                self.unblock()
            elif self._end:
                connection.send_headers(self.id, self._end, end=True)
            if self._end is not None:
                self._finished()
        return True

    def unblock(self) -> bool:
        """Takes the stream off those that wait, if it has room; whether it has."""
        connection = self.connection
        if self._pending or connection.full or self.local_closed:
            return False
        if min(self.send_window, connection.send_window) <= 0:
            return False
        connection.blocked.pop(self, None)
        connection.queue.pop(self, None)
        return True

    def reset(self, code: ErrorCode) -> None:
        """Ends the stream at once and drops what waits. Tells the handler nothing."""
        if not (self.local_closed and self.remote_closed):
            self.connection.send_reset(self.id, code)
        self.close()

    def _finished(self) -> None:
        self.local_closed = True
        if not self.remote_closed:
            # The response is whole: the rest of the request is not needed (8.1).
            self.connection.send_reset(self.id, ErrorCode.NO_ERROR)
        self.close()

    def close(self) -> None:
        """Forgets all that waits, and has the connection forget the stream."""
        self.local_closed = self.remote_closed = True
        self._pending = None
        self.connection.pending_bytes -= self.pending_bytes
        self.pending_bytes = 0
        self.connection.forget(self)
        # What it was for may go now, and does not have to wait for the collector of cycles.
        self.handler = _GONE

    def lose(self, code: ErrorCode) -> None:
        """It is over, and not by us: tells the handler."""
        handler = self.handler
        self.close()
        handler.reset(code)

    def stalled(self, now: float, limit_s: float) -> bool:
        """Whether it has waited to send for so long, without any progress. On a proxy's
        connection one whose own window is open waits for the others, and is not to blame."""
        if self.connection.trusted and self.send_window > 0:
            return False
        return now - self._progress_at > limit_s

    # --- receiving ---

    def consume(self, size: int, *, open_already: int = 0) -> None:
        """So many bytes of the body were taken: the peer may send as many more.

        Args:
            open_already: For so many of them `open_window` was called.
        """
        self.open_window(size - open_already)
        self.connection.consume(size)

    def open_window(self, size: int) -> None:
        """Opens the stream's window alone: for bytes that are kept, and need the rest of them."""
        if self.remote_closed:
            return
        self._returned += size
        if self._returned * 2 >= self.connection.limits.stream_window:
            self.recv_window += self._returned
            self.connection.write(frames.window_update(self.id, self._returned))
            self._returned = 0
