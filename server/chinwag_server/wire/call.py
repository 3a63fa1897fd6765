"""One gRPC call on an HTTP/2 stream: messages, metadata and status, without I/O.

The gRPC protocol document (PROTOCOL-HTTP2.md), "Requests" and "Responses". What a call's messages
go to is a `Receiver`, by calls: no task, queue or future per call belongs to this layer.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final, Protocol

from chinwag_server.wire import compression, headers, metadata
from chinwag_server.wire.errors import ErrorCode
from chinwag_server.wire.headers import Request
from chinwag_server.wire.metadata import Metadata
from chinwag_server.wire.status import CallError, Code, code_of_reset, percent_encode, read_timeout
from chinwag_server.wire.stream import Stream

PREFIX_BYTES: Final = 5
_pack_prefix = struct.Struct(">BI").pack
# Below that an encoding makes a message larger, or saves nothing.
_MIN_COMPRESSED: Final = 512
# Unfinished messages of that size are the first to go when they fill a connection's window.
_LARGE: Final = 64 << 10

_CONTENT_TYPE: Final = headers.encode_status(200) + headers.encode(
    [(b"content-type", b"application/grpc")]
)
_HEADERS: Final = _CONTENT_TYPE + headers.encode([(b"grpc-accept-encoding", compression.ACCEPTED)])
_OK: Final = headers.encode([(b"grpc-status", b"0")])


class Receiver(Protocol):
    """What a call's events go to. None of them may raise or wait."""

    def message(self, data: bytes) -> None:
        """The next message. `Call.hold` in here keeps the following ones away."""

    def half_closed(self) -> None:
        """The client has sent all of its messages."""

    def gone(self, code: Code) -> None:
        """The call is over, and not by our `finish`: cancelled, reset or lost."""

    def refused(self, error: CallError) -> None:
        """The client broke a rule of gRPC, or of the limits: whoever is told finishes the call."""

    def writable(self) -> None:
        """All that was sent has left, and there is room for more."""


class Call:
    """A call, from its head to its status.

    Attributes:
        path: "/package.Service/Method".
        metadata: What the client sent; whoever has read it may set it to () to save memory.
        timeout_s: What the client gives the call; None: it said nothing.
        receiver: Set when the call is opened.
        over: Finished or gone: what is sent now goes nowhere.
    """

    __slots__ = (
        "_compress",
        "_encoding",
        "_ended",
        "_headers_sent",
        "_held",
        "_limit",
        "_opened",
        "_partial",
        "_since",
        "accepts",
        "metadata",
        "over",
        "path",
        "receiver",
        "stream",
        "timeout_s",
    )

    receiver: Receiver

    def __init__(self, stream: Stream, request: Request) -> None:
        self.stream = stream
        self.path = request.path.decode("ascii", "replace")
        self.metadata: Metadata = ()
        self.timeout_s: float | None = None
        self.over = False
        self.accepts: frozenset[bytes] = frozenset()
        self._encoding = compression.IDENTITY
        self._compress: bytes | None = None
        self._headers_sent = False
        self._limit = stream.connection.limits.message_bytes
        self._held = False
        self._ended = False
        # What came and was not handed over: of a message that is not whole, or, while the call is
        # held, of many. It is not taken apart before it is wanted, so it counts as it came.
        self._partial: bytearray | None = None
        # Bytes of it for which the stream's window was opened again.
        self._opened = 0
        # Since when a message has been awaited; 0: none is.
        self._since = 0.0

    @property
    def peer(self) -> str:
        """The client's address."""
        return self.stream.connection.peer

    def read_head(self, request: Request) -> None:
        """Takes the request's fields.

        Raises:
            CallError: One of them is not what gRPC allows.
        """
        limits = self.stream.connection.limits
        if request.size > limits.header_list_bytes:
            raise CallError(
                Code.RESOURCE_EXHAUSTED,
                f"metadata has at most {limits.header_list_bytes} bytes, got {request.size}",
            )
        for name, value in request.fields:
            if name == b"grpc-timeout":
                self.timeout_s = read_timeout(value)
            elif name == b"grpc-encoding":
                self._encoding = value
            elif name == b"grpc-accept-encoding":
                self.accepts = _encodings(value)
        self.metadata = metadata.decode(request.fields)
        if not compression.is_known(self._encoding):
            raise CallError(
                Code.UNIMPLEMENTED,
                f"messages may be {compression.ACCEPTED.decode()}, not {self._encoding!r}",
            )

    # --- sending ---

    def room(self) -> int:
        """Bytes that would leave at once, at least 1 if any; 0: a message would wait, and
        `Receiver.writable` is called when it would not."""
        return 0 if self.over else self.stream.room()

    @property
    def unread(self) -> bool:
        """Whether the client lets so much lie of what it was answered that it gets no more."""
        connection = self.stream.connection
        return connection.pending_bytes > connection.limits.pending_bytes

    @staticmethod
    def unread_error() -> CallError:
        """What it is told."""
        return CallError(Code.RESOURCE_EXHAUSTED, "too many answers wait to be read: read them")

    def compress(self, encoding: str | None) -> bool:
        """From now on sends messages in an encoding, if the client takes it; whether it does.
        Before anything was sent."""
        name = encoding.encode() if encoding else compression.IDENTITY
        if name == compression.IDENTITY:
            self._compress = None
            return True
        if self._headers_sent or name not in self.accepts or not compression.is_known(name):
            return False
        self._compress = name
        return True

    def send_headers(self, initial: Metadata = ()) -> None:
        """Sends the response's head; else the first message does.

        Raises:
            ValueError: Metadata that cannot be sent.
        """
        if self.over or self._headers_sent:
            return
        block = _HEADERS
        if self._compress is not None:
            block += headers.encode([(b"grpc-encoding", self._compress)])
        if initial:
            block += headers.encode(metadata.encode(initial))
        self._headers_sent = True
        self.stream.send_headers(block)

    def send(self, data: bytes, *, plain: bool = False) -> None:
        """Sends a message; never waits. Look at `room` first, or wait for `writable`.

        Args:
            plain: Not compressed, whatever `compress` said.
        """
        if self.over:
            return
        if not self._headers_sent:
            self.send_headers()
        if self.unread:
            self.receiver.refused(self.unread_error())
            return
        flag = 0
        if self._compress is not None and not plain and len(data) >= _MIN_COMPRESSED:
            data, flag = compression.compress(self._compress, data), 1
        self.stream.send_data(_pack_prefix(flag, len(data)) + data)

    def offer(self, data: bytes) -> bool:
        """Sends a message if all of it can leave at once; whether it has. The shortest way, for
        a message that goes to many."""
        if self.over or not self._headers_sent or self._compress is not None:
            return False
        return self.stream.try_send(_pack_prefix(0, len(data)) + data)

    def finish(self, code: int = Code.OK, message: str = "", trailers: Metadata = ()) -> None:
        """Ends the call, after all that was sent.

        Raises:
            ValueError: Metadata that cannot be sent.
        """
        if self.over:
            return
        if code == Code.OK and not message:
            block = _OK
        else:
            fields = [(b"grpc-status", b"%d" % code)]
            if message:
                fields.append((b"grpc-message", percent_encode(message)))
            block = headers.encode(fields)
        if trailers:
            block += headers.encode(metadata.encode(trailers))
        if not self._headers_sent:
            block = _CONTENT_TYPE + block
        self._close()
        self.stream.send_headers(block, end=True)

    def cancel(self) -> None:
        """Ends the call at once, without a status, dropping what waits to be sent."""
        if not self.over:
            self._close()
            self.stream.reset(ErrorCode.CANCEL)

    def _close(self) -> Receiver:
        """The call is over; gives the receiver, to whom it belongs no more."""
        self.over = True
        if self._partial:
            self.stream.connection.consume(len(self._partial))
        self._partial = None
        receiver, self.receiver = self.receiver, _NOBODY
        return receiver

    # --- receiving ---

    def hold(self) -> None:
        """No more messages for now. The client may send until its window is closed."""
        self._held = True

    def release(self) -> None:
        """Messages again: those that were kept come in here."""
        self._held = False
        if self._partial:
            self._gather()
        if self._ended and not self._held and not self.over:
            self.ended()

    def shut(self) -> None:
        """Whatever message comes from now on is told to `Receiver.refused`, and not looked into."""
        self._limit = -1

    def await_message(self) -> None:
        """A message must come in time: for calls that begin with a whole one."""
        self._since = self.stream.connection.now()

    # --- of the stream ---

    def data(self, data: bytes) -> None:
        """Bytes of the body: `StreamHandler.data`."""
        if self.over:
            self.stream.consume(len(data))
            return
        size = len(data)
        if (
            not self._partial
            and not self._held
            and size >= PREFIX_BYTES
            and not data[0]
            and int.from_bytes(data[1:PREFIX_BYTES], "big") == size - PREFIX_BYTES
            and size - PREFIX_BYTES <= self._limit
        ):
            # One frame is one message, as it nearly always is.
            self._since = 0.0
            self.stream.consume(size)
            self.receiver.message(data[PREFIX_BYTES:])
            return
        if self._partial is None:
            self._partial = bytearray()
        self._partial += data
        if not self._held:
            self._gather()

    def _gather(self) -> None:
        """Hands over what is whole of what has come."""
        try:
            self._take_apart()
        except CallError as error:
            if not self.over:
                self.receiver.refused(error)

    def _take_apart(self) -> None:
        partial = self._partial
        assert partial is not None
        whole = False
        while not self._held and not self.over and len(partial) >= PREFIX_BYTES:
            size = int.from_bytes(partial[1:PREFIX_BYTES], "big")
            if partial[0] > 1:
                raise CallError(Code.INTERNAL, "a message begins with a flag of 0 or 1")
            if size > self._limit:
                raise CallError(
                    Code.RESOURCE_EXHAUSTED,
                    f"a message has at most {self._limit} bytes, got {size}",
                )
            end = PREFIX_BYTES + size
            if len(partial) < end:
                break
            compressed = partial[0]
            message = bytes(memoryview(partial)[PREFIX_BYTES:end])
            # Gone before anybody is told: whoever finishes the call gives back what is left here.
            del partial[:end]
            opened = min(self._opened, end)
            self._opened -= opened
            self.stream.consume(end, open_already=opened)
            if compressed:
                message = self.stream.connection.inflate(self._encoding, message, self._limit)
            self.receiver.message(message)
            whole = True
        if self.over:
            return
        if not partial:
            self._partial = None
            self._since = 0.0
            return
        connection = self.stream.connection
        if whole or not self._since:
            self._since = connection.now()
        if len(partial) > _LARGE and connection.recv_left * 4 < connection.limits.connection_window:
            raise CallError(Code.RESOURCE_EXHAUSTED, "too many unfinished messages: send fewer")
        if not self._held:
            # The rest of a message must be able to come.
            self.stream.open_window(len(partial) - self._opened)
            self._opened = len(partial)

    def ended(self) -> None:
        """The client has sent all: `StreamHandler.ended`."""
        if self.over:
            return
        if self._held:
            self._ended = True
        elif self._partial:
            self.receiver.refused(CallError(Code.INTERNAL, "the call ended within a message"))
        else:
            self._ended = False
            self.receiver.half_closed()

    def reset(self, code: ErrorCode) -> None:
        """The stream is over: `StreamHandler.reset`."""
        if not self.over:
            self._close().gone(code_of_reset(code))

    def writable(self) -> None:
        """What waited has left: `StreamHandler.writable`."""
        if not self.over:
            self.receiver.writable()

    def tick(self, now: float) -> None:
        """About a second has passed: `StreamHandler.tick`."""
        if self._held:
            # The client may not be able to send: its time begins anew.
            self._since = now if self._since else 0.0
        elif self._since and not self.over:
            limit_s = self.stream.connection.limits.message_s
            if now - self._since > limit_s:
                self._since = 0.0
                error = CallError(Code.DEADLINE_EXCEEDED, f"no whole message within {limit_s:g} s")
                self.receiver.refused(error)


@lru_cache(64)  # clients of one kind all send the same
def _encodings(value: bytes) -> frozenset[bytes]:
    return frozenset(part.strip() for part in value.split(b","))


class _Nobody:
    """The receiver of a call that is over."""

    def message(self, data: bytes) -> None:
        pass

    def half_closed(self) -> None:
        pass

    def gone(self, code: Code) -> None:
        pass

    def refused(self, error: CallError) -> None:
        pass

    def writable(self) -> None:
        pass


_NOBODY: Final = _Nobody()


class Refusing:
    """The receiver of a call that was refused before it was opened."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def message(self, data: bytes) -> None:
        pass

    def half_closed(self) -> None:
        pass

    def gone(self, code: Code) -> None:
        pass

    def refused(self, error: CallError) -> None:
        self._call.finish(error.code, error.message)

    def writable(self) -> None:
        pass
