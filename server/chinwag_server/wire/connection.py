"""The server's side of an HTTP/2 connection (RFC 9113), without I/O.

Bytes go in by `receive`, events come out as calls of the application and of each stream's
handler, and bytes to send lie ready in `take_output`. Whoever has the socket calls `tick` about
once a second.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final, Protocol

from hpack import Decoder

from chinwag_server.wire import frames, headers
from chinwag_server.wire.budget import Budget
from chinwag_server.wire.compression import Inflation
from chinwag_server.wire.errors import ConnectionFault, ErrorCode, StreamFault
from chinwag_server.wire.headers import Request
from chinwag_server.wire.limits import Limits
from chinwag_server.wire.stream import Stream

# What frames cost that carry nothing; see `Limits.burst`.
PRICES: Final = {
    frames.DATA: 4,  # an empty one, or a crumb
    frames.PRIORITY: 2,
    frames.SETTINGS: 40,  # and as much for each value in it
    frames.PING: 10,
    frames.WINDOW_UPDATE: 1,
    frames.GOAWAY: 40,
}
_UNKNOWN_PRICE: Final = 4
_RESET_OF_ENDED_PRICE: Final = 4
# What a frame with data or the answer to a call earns, in either direction: a client may answer
# each with a PING (to measure bandwidth) and with window updates of the stream and the connection.
_EARNED: Final = 12
# So many bursts can be held: clients answer late, and then all that they were sent.
_EARNED_BURSTS: Final = 25
# The least that earns: an empty message of gRPC is its prefix alone, and less is crumbs of one.
_MESSAGE_BYTES: Final = 5
# What we send earns from here on, or if it ends a message: less is what a tiny window makes of one.
_PART_BYTES: Final = 16

# How many frames of a connection are handled before others have their turn, and for how many a
# request counts; of a proxy's connection, which is many, for less.
_TURN: Final = 200
_HEADERS_TURN: Final = 60
_PROXY_HEADERS_TURN: Final = 20
# What may lie ready for the socket before responses wait in their streams.
_MAX_OUT: Final = 128 << 10

# Sent with the first GOAWAY of a shutdown: when it comes back, the peer has read the GOAWAY.
_FAREWELL: Final = b"farewell"
_ALIVE: Final = b"alive?\0\0"


class Application(Protocol):
    """What is served."""

    def request(self, stream: Stream, request: Request) -> None:
        """A request has come: sets `stream.handler`."""


def _nothing() -> None:
    pass


class Connection:
    """One client's connection.

    Args:
        now: The monotonic time in seconds.
        accepted_at: When the peer was let in, if not now: what it has for its handshake.
        wake: Called when there is output after there was none.

    Attributes:
        closed: Nothing more is read; after the output has been written the socket is closed.
        fault: Why the connection was ended, if the peer broke a rule.
        paused: The socket takes no more bytes for now; see `pause`.
        more: Not all that came was looked at, so that other connections have their turn: call
            `receive` again, with nothing new.
        blocked: Streams that wait to send; queue: those of them whose own window is open.
        pending_bytes: Of responses that wait.
        streams: The open ones by id.
        peer: The client's address, for the application.
    """

    __slots__ = (
        "_application",
        "_block",
        "_block_frames",
        "_block_head",
        "_budget",
        "_buffer",
        "_carried",
        "_decoder",
        "_earned",
        "_farewell",
        "_heard_at",
        "_highest",
        "_inflation",
        "_last_allowed",
        "_need",
        "_out",
        "_out_bytes",
        "_pinged_at",
        "_prefix",
        "_ready",
        "_reset_ids",
        "_resets",
        "_returned",
        "_settings_seen",
        "_started_at",
        "_waiting_since",
        "_wake",
        "blocked",
        "closed",
        "fault",
        "initial_window",
        "limits",
        "max_frame_size",
        "more",
        "now",
        "paused",
        "peer",
        "pending_bytes",
        "queue",
        "recv_window",
        "send_window",
        "streams",
        "tls",
        "trusted",
    )

    def __init__(
        self,
        application: Application,
        limits: Limits,
        now: Callable[[], float],
        *,
        trusted: bool = False,
        accepted_at: float | None = None,
        wake: Callable[[], None] = _nothing,
    ) -> None:
        self.limits = limits.for_proxy() if trusted else limits
        self.now = now
        self.trusted = trusted
        self.closed = False
        self.fault: ConnectionFault | None = None
        self.paused = False
        self.more = False
        self.pending_bytes = 0
        self.peer = ""
        self.tls: ssl.SSLObject | None = None
        self.streams: dict[int, Stream] = {}
        self.blocked: dict[Stream, None] = {}
        self.queue: dict[Stream, None] = {}
        self.send_window = frames.DEFAULT_WINDOW
        self.recv_window = self.limits.connection_window
        self.initial_window = frames.DEFAULT_WINDOW
        self.max_frame_size = frames.DEFAULT_FRAME_SIZE
        self._application = application
        self._wake = wake
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._buffer = bytearray()
        # Since when a frame or a header block is not whole; 0: none is.
        self._waiting_since = 0.0
        self._need = len(frames.PREFACE)
        self._ready = False
        self._settings_seen = False
        self._decoder: Decoder | None = None
        self._budget: Budget | None = None
        self._resets: Budget | None = None
        # Streams that we ended while the peer may still have been sending on them.
        self._reset_ids: dict[int, None] | None = None
        self._block: list[bytes] | None = None
        self._block_frames = 0
        self._block_head: tuple[int, int] | None = None  # stream id, flags
        self._highest = 0
        self._inflation: Inflation | None = None
        self._last_allowed = frames.MAX_STREAM_ID
        self._farewell = 0.0
        self._prefix = b""
        self._returned = 0
        # Frames with data and answered calls: all of them, and those that have earned.
        self._carried = 0
        self._earned = 0
        self._pinged_at = 0.0
        self._heard_at = now()
        self._started_at = self._heard_at if accepted_at is None else accepted_at

    # --- bytes in ---

    def receive(self, data: bytes) -> None:
        """Takes bytes from the peer. Never raises for what they are."""
        self.more = False
        if self.closed:
            return
        self._heard_at = self.now()
        self._pinged_at = 0.0
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < self._need:
                return
            data = bytes(buffer)
            buffer.clear()
        try:
            used = self._read(data)
        except ConnectionFault as fault:
            self.fail(fault)
            return
        if used < len(data) and not self.closed:
            self._waiting_since = self._waiting_since or self._heard_at
            buffer += data[used:] if used else data

    def _read(self, data: bytes) -> int:
        """Handles all whole frames; gives how many bytes they had."""
        at, end = 0, len(data)
        if not self._ready:
            if end < len(frames.PREFACE):
                if not frames.PREFACE.startswith(data):
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2")
                self._need = len(frames.PREFACE)
                return 0
            at = self._begin(data)
        unpack, most, kinds = frames.unpack_head, frames.DEFAULT_FRAME_SIZE, _ON_FRAME
        turn, request = _TURN, _PROXY_HEADERS_TURN if self.trusted else _HEADERS_TURN
        while end - at >= frames.HEAD_BYTES:
            if turn <= 0:
                self.more = True
                self._need = 0
                return at
            high, low, kind, flags, stream_id = unpack(data, at)
            size = high << 8 | low
            if size > most:
                raise ConnectionFault(
                    ErrorCode.FRAME_SIZE_ERROR, f"a frame has at most {most} bytes, got {size}"
                )
            start = at + frames.HEAD_BYTES
            if end - start < size:
                self._need = frames.HEAD_BYTES + size
                return at
            at = start + size
            payload = data[start:at]
            stream_id &= frames.MAX_STREAM_ID
            turn -= request if kind == frames.HEADERS else 1
            try:
                if self._block_head is not None and kind != frames.CONTINUATION:
                    raise ConnectionFault(
                        ErrorCode.PROTOCOL_ERROR, "a header block was not finished"
                    )
                if kind < len(kinds):
                    kinds[kind](self, flags, stream_id, payload)
                else:
                    self._charge(_UNKNOWN_PRICE)
            except StreamFault as fault:
                self._stream_failed(fault)
            if self.closed:
                return end
            if self._block_head is None:
                self._waiting_since = 0.0
        self._need = frames.HEAD_BYTES
        return at

    def _begin(self, data: bytes) -> int:
        size = len(frames.PREFACE)
        if data[:size] != frames.PREFACE:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2")
        self._ready = True
        limits = self.limits
        self.write(
            frames.settings(
                {
                    frames.MAX_CONCURRENT_STREAMS: limits.concurrent_streams,
                    frames.INITIAL_WINDOW_SIZE: limits.stream_window,
                    frames.MAX_HEADER_LIST_SIZE: limits.header_list_bytes,
                }
            )
            + frames.window_update(0, limits.connection_window - frames.DEFAULT_WINDOW)
        )
        return size

    # --- frames in ---

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self.recv_window -= size
        if self.recv_window < 0:
            raise ConnectionFault(
                ErrorCode.FLOW_CONTROL_ERROR, "more bytes than the connection's window"
            )
        stream = self.streams.get(stream_id)
        if stream is None or stream.remote_closed:
            self.consume(size)
            # Messages that were on their way when we ended the stream are nobody's fault.
            if size < _MESSAGE_BYTES:
                self._charge(PRICES[frames.DATA])
            self._of_no_stream(stream_id, "DATA")
            return
        stream.recv_window -= size
        if stream.recv_window < 0:
            self.consume(size)
            raise StreamFault(
                stream_id, ErrorCode.FLOW_CONTROL_ERROR, "more bytes than the stream's window"
            )
        if flags & frames.PADDED:
            payload = _unpadded(payload)
            stream.consume(size - len(payload))
        end = bool(flags & frames.END_STREAM)
        if stream.body_left >= 0:
            stream.body_left -= len(payload)
            if stream.body_left < 0 or (end and stream.body_left):
                self.consume(len(payload))
                raise StreamFault(
                    stream_id, ErrorCode.PROTOCOL_ERROR, "the body is not content-length long"
                )
        stream.remote_closed = end
        if len(payload) >= _MESSAGE_BYTES:
            self._carried += 1
        elif not end:
            self._charge(PRICES[frames.DATA])
        if payload:
            stream.handler.data(payload)
        if end and stream_id in self.streams:
            stream.handler.ended()

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id or not stream_id & 1:
            raise ConnectionFault(
                ErrorCode.PROTOCOL_ERROR, f"a client cannot open stream {stream_id}"
            )
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        if flags & frames.HAS_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a priority has 5 bytes")
            depends_on = int.from_bytes(payload[:4], "big") & frames.MAX_STREAM_ID
            payload = payload[5:]
            if depends_on == stream_id:
                # The block is decoded all the same: the table must stay that of the peer.
                self._decode(payload)
                self._highest = max(self._highest, stream_id)
                raise StreamFault(
                    stream_id, ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself"
                )
        if flags & frames.END_HEADERS:
            self._on_block(stream_id, flags, payload)
        else:
            self._block_head = stream_id, flags
            self._waiting_since = self._heard_at
            self._block = [payload]
            self._block_frames = 1

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block_head is None or self._block_head[0] != stream_id:
            raise ConnectionFault(
                ErrorCode.PROTOCOL_ERROR, "CONTINUATION without a header block to go on with"
            )
        block = self._block
        assert block is not None
        self._block_frames += 1
        block.append(payload)
        if (
            self._block_frames > self.limits.continuation_frames
            or sum(map(len, block)) > 4 * self.limits.header_list_bytes
        ):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "the header block is too long")
        if flags & frames.END_HEADERS:
            head_flags = self._block_head[1]
            self._block = self._block_head = None
            self._on_block(stream_id, head_flags, b"".join(block))

    def _decode(self, block: bytes) -> headers.Fields:
        if self._decoder is None:
            self._decoder = headers.new_decoder(4 * self.limits.header_list_bytes)
        return headers.decode(self._decoder, block)

    def _on_block(self, stream_id: int, flags: int, block: bytes) -> None:
        """A whole header block: a request, or trailers."""
        fields = self._decode(block)
        end = bool(flags & frames.END_STREAM)
        stream = self.streams.get(stream_id)
        if stream is not None and not stream.remote_closed:
            headers.check_trailers(stream_id, fields)
            if not end:
                raise StreamFault(
                    stream_id, ErrorCode.PROTOCOL_ERROR, "trailers that do not end the stream"
                )
            if stream.body_left > 0:
                raise StreamFault(
                    stream_id, ErrorCode.PROTOCOL_ERROR, "the body is not content-length long"
                )
            stream.remote_closed = True
            stream.handler.ended()
            return
        if stream_id <= self._highest:
            self._of_no_stream(stream_id, "HEADERS")
            return
        if stream_id > self._last_allowed:
            return  # after our GOAWAY: the peer knows that it was not handled
        self._highest = stream_id
        if len(self.streams) >= self.limits.concurrent_streams:
            raise StreamFault(stream_id, ErrorCode.REFUSED_STREAM, "too many streams")
        request = headers.read_request(stream_id, fields)
        if end and request.content_length > 0:
            raise StreamFault(
                stream_id, ErrorCode.PROTOCOL_ERROR, "the body is not content-length long"
            )
        stream = Stream(self, stream_id, request.content_length)
        stream.remote_closed = end
        self.streams[stream_id] = stream
        self._application.request(stream, request)
        if end and stream_id in self.streams:
            stream.handler.ended()

    def _on_priority(self, _flags: int, stream_id: int, payload: bytes) -> None:
        # Priorities are a thing of the past (5.3.2): checked, and not followed.
        if not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY is of a stream")
        self._charge(PRICES[frames.PRIORITY])
        if len(payload) != 5:
            raise StreamFault(stream_id, ErrorCode.FRAME_SIZE_ERROR, "a priority has 5 bytes")
        if int.from_bytes(payload[:4], "big") & frames.MAX_STREAM_ID == stream_id:
            raise StreamFault(
                stream_id, ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself"
            )

    def _on_rst_stream(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM has 4 bytes")
        self._must_be_known(stream_id, "RST_STREAM")
        stream = self.streams.get(stream_id)
        if stream is None:
            # Some clients reset each stream that we end before they have.
            self._charge(_RESET_OF_ENDED_PRICE)
            return
        # A client may cancel all that it has open, at once; who resets each stream as it is made
        # has few of them.
        self._resets_left().widen(self.limits.resets_burst + len(self.streams))
        self.charge_reset()
        code = int.from_bytes(payload, "big")
        stream.lose(ErrorCode(code) if code <= 0xD else ErrorCode.INTERNAL_ERROR)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS is of the connection")
        if flags & frames.ACK and payload:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an ACK has no payload")
        if len(payload) % 6:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a setting has 6 bytes")
        # Each may change the window of every stream.
        self._charge(PRICES[frames.SETTINGS] * (1 + len(payload) // 6))
        if flags & frames.ACK:
            return
        self._settings_seen = True
        for key, value in frames.read_settings(payload):
            self._set(key, value)
        self.write(frames.SETTINGS_ACK)
        self.drain()

    def _set(self, key: int, value: int) -> None:
        if key == frames.INITIAL_WINDOW_SIZE:
            if value > frames.MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")
            change = value - self.initial_window
            self.initial_window = value
            for stream in self.streams.values():
                stream.send_window += change
                if stream.send_window > frames.MAX_WINDOW:
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")
            for stream in self.blocked:
                if stream.send_window > 0:
                    self.queue[stream] = None
        elif key == frames.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME_SIZE <= value <= frames.LARGEST_FRAME_SIZE:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"no frame size: {value}")
            # Larger frames save little, and a stream should not hold the connection for long.
            self.max_frame_size = min(value, 4 * frames.DEFAULT_FRAME_SIZE)
        elif key == frames.ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
        elif key == frames.HEADER_TABLE_SIZE and value < frames.DEFAULT_TABLE_SIZE:
            self._prefix = headers.EMPTY_TABLE

    def _on_push_promise(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client cannot push")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING is of the connection")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING has 8 bytes")
        self._charge(PRICES[frames.PING])
        if flags & frames.ACK:
            if payload == _FAREWELL and self._farewell:
                self._leave()
            return
        self.write(frames.ping(payload, ack=True))

    def _on_goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY is of the connection")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY has at least 8 bytes")
        # The client opens no streams any more; it closes when those that are open have ended.
        self._charge(PRICES[frames.GOAWAY])

    def _on_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has 4 bytes")
        self._charge(PRICES[frames.WINDOW_UPDATE])
        increment = int.from_bytes(payload, "big") & frames.MAX_WINDOW
        if not stream_id:
            if not increment:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a window update of 0")
            self.send_window += increment
            if self.send_window > frames.MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")
            if self.queue:
                self.drain()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            self._must_be_known(stream_id, "WINDOW_UPDATE")
            return
        if not increment:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "a window update of 0")
        stream.send_window += increment
        if stream.send_window > frames.MAX_WINDOW:
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")
        if stream in self.blocked:
            self.drain(stream)

    # --- rules ---

    def _must_be_known(self, stream_id: int, what: str) -> None:
        if self._last_allowed < stream_id:
            return  # of a request that came after our GOAWAY
        if not stream_id or not stream_id & 1 or stream_id > self._highest:
            raise ConnectionFault(
                ErrorCode.PROTOCOL_ERROR, f"{what} on stream {stream_id}, which is not open"
            )

    def _of_no_stream(self, stream_id: int, what: str) -> None:
        """A frame for a stream that is not open. Those that were on their way when we ended it
        are nobody's fault."""
        if stream_id > self._last_allowed or (self._reset_ids and stream_id in self._reset_ids):
            return
        stream = self.streams.get(stream_id)
        if stream is not None or (self.trusted and 0 < stream_id <= self._highest):
            raise StreamFault(
                stream_id, ErrorCode.STREAM_CLOSED, f"{what} after the end of the stream"
            )
        self._must_be_known(stream_id, what)
        raise ConnectionFault(ErrorCode.STREAM_CLOSED, f"{what} on a stream that has ended")

    def _charge(self, price: int) -> None:
        budget = self._budget
        if budget is None:
            burst = self.limits.burst
            budget = self._budget = Budget(
                burst, self.limits.per_second, self._heard_at, _EARNED_BURSTS * burst
            )
        if self._carried != self._earned:
            budget.earn(_EARNED * (self._carried - self._earned))
            self._earned = self._carried
        if not budget.spend(price, self._heard_at):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that carry nothing")

    def charge_reset(self) -> None:
        """Counts something of which honest peers do little: a stream that was reset, a request
        that nothing here answers.

        Raises:
            ConnectionFault: It was too much.
        """
        if not self._resets_left().spend(1, self._heard_at):
            raise ConnectionFault(
                ErrorCode.ENHANCE_YOUR_CALM, "too many streams were reset or refused"
            )

    def _resets_left(self) -> Budget:
        resets = self._resets
        if resets is None:
            limits = self.limits
            resets = self._resets = Budget(
                limits.resets_burst, limits.resets_per_second, self._heard_at
            )
        return resets

    def blame(self) -> None:
        """As `charge_reset`, for what turned out only later; ends the connection by itself."""
        try:
            self.charge_reset()
        except ConnectionFault as fault:
            self.fail(fault)

    def _stream_failed(self, fault: StreamFault) -> None:
        stream = self.streams.get(fault.stream_id)
        self.send_reset(fault.stream_id, fault.code)
        if stream is not None:
            stream.lose(fault.code)
        self.charge_reset()

    # --- bytes out ---

    def write(self, data: bytes) -> None:
        """Puts whole frames behind those that wait to be sent."""
        out = self._out
        if not out:
            self._wake()
        out.append(data)

    def send_data(
        self, stream_id: int, data: bytes, size: int, end: bool, *, part: bool = False
    ) -> None:
        """A DATA frame for which there is a window.

        Args:
            part: The rest of what the application gave has to wait.
        """
        self.send_window -= size
        if not part or size >= _PART_BYTES:
            self._carried += 1
        self._out_bytes += size
        out = self._out
        if not out:
            self._wake()
        out.append(frames.pack_head(size >> 8, size & 0xFF, frames.DATA, end, stream_id))
        out.append(data)

    def send_headers(self, stream_id: int, block: bytes, *, end: bool) -> None:
        """HEADERS, and CONTINUATION if need be."""
        if end:
            self._carried += 1
        if self._prefix:
            block, self._prefix = self._prefix + block, b""
        self.write(
            frames.header_frames(stream_id, block, end=end, max_frame_size=self.max_frame_size)
        )

    def send_reset(self, stream_id: int, code: ErrorCode) -> None:
        """RST_STREAM. Frames of the stream that are on their way will be ignored."""
        self.write(frames.rst_stream(stream_id, code))
        ids = self._reset_ids
        if ids is None:
            ids = self._reset_ids = {}
        ids[stream_id] = None
        if len(ids) > self.limits.concurrent_streams:
            del ids[next(iter(ids))]

    def take_output(self) -> bytes:
        """What is to be sent now."""
        out = self._out
        if not out:
            return b""
        self._out = []
        self._out_bytes = 0
        return out[0] if len(out) == 1 else b"".join(out)

    @property
    def full(self) -> bool:
        """Whether responses have to wait for the socket."""
        return self.paused or self._out_bytes > _MAX_OUT

    def pause(self) -> None:
        """The socket takes no more: responses wait in their streams."""
        self.paused = True

    def resume(self) -> None:
        """It does again."""
        self.paused = False
        self.drain()

    def drain(self, stream: Stream | None = None) -> None:
        """Sends what waits as far as windows and the socket allow: of a stream whose window was
        opened, or of all in turn, a frame each."""
        if stream is not None:
            while stream.send_some():
                pass
            if stream.unblock():
                stream.handler.writable()
            elif stream in self.blocked and stream.send_window > 0:
                self.queue[stream] = None
            return
        queue = self.queue
        while queue and self.send_window > 0 and not self.full:
            one = next(iter(queue))
            del queue[one]
            one.send_some()
            if one.unblock():
                one.handler.writable()
            elif one in self.blocked and one.send_window > 0:
                queue[one] = None

    def consume(self, size: int) -> None:
        """So many received bytes are not kept any more: opens the connection's window."""
        self._returned += size
        if self._returned * 4 >= self.limits.connection_window:
            self.recv_window += self._returned
            self.write(frames.window_update(0, self._returned))
            self._returned = 0

    @property
    def recv_left(self) -> int:
        """Bytes that could still be received before what is kept fills the window."""
        return self.recv_window + self._returned

    def inflate(self, encoding: bytes, data: bytes, most: int) -> bytes:
        """A message that came compressed.

        Raises:
            CallError: It is broken or too large, or the peer has had too much inflated lately.
        """
        now = self.now()
        if self._inflation is None:
            limits = self.limits
            self._inflation = Inflation(limits.inflated_per_second, limits.inflated_burst, now)
        return self._inflation.decompress(encoding, data, most, now)

    # --- the end ---

    def forget(self, stream: Stream) -> None:
        """A stream has ended on both sides."""
        if self.streams.pop(stream.id, None) is not None:
            self.blocked.pop(stream, None)
            self.queue.pop(stream, None)
            if not self.streams and self._last_allowed != frames.MAX_STREAM_ID:
                self.closed = True

    def shutdown(self) -> None:
        """Asks the client to go: no new streams, those that run go on (6.8). In two steps, so
        that no request on its way is lost; the second when the client has read the first."""
        if self.closed or self._farewell:
            return
        self._farewell = self.now()
        if not self._ready:
            self._leave()
            return
        self.write(frames.goaway(frames.MAX_STREAM_ID, ErrorCode.NO_ERROR))
        self.write(frames.ping(_FAREWELL))

    def _leave(self) -> None:
        if self._last_allowed == frames.MAX_STREAM_ID:
            self._last_allowed = self._highest
            if self._ready:
                self.write(frames.goaway(self._highest, ErrorCode.NO_ERROR))
            if not self.streams:
                self.closed = True

    def fail(self, fault: ConnectionFault) -> None:
        """Ends the connection for what the peer did."""
        if self.closed:
            return
        self.fault = fault
        if not self._ready:
            # What is no HTTP/2 is told in frames all the same: a broken client logs them.
            self.write(frames.settings({}))
        self.write(frames.goaway(self._highest, fault.code, fault.text))
        self.lost()

    def lost(self) -> None:
        """The connection is over: every stream's handler is told."""
        self.closed = True
        streams = tuple(self.streams.values())
        self.streams.clear()
        self.blocked.clear()
        self.queue.clear()
        for stream in streams:
            stream.lose(ErrorCode.CANCEL)

    # --- time ---

    def tick(self) -> None:
        """Ends what has taken too long, and asks a silent peer whether it is there."""
        if self.closed:
            return
        now, limits = self.now(), self.limits
        if not self._settings_seen and now - self._started_at > limits.handshake_s:
            self.fail(ConnectionFault(ErrorCode.SETTINGS_TIMEOUT, "no HTTP/2 handshake in time"))
            return
        if self._waiting_since and now - self._waiting_since > limits.frame_s:
            self.fail(ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a frame came too slowly"))
            return
        if self._farewell and now - self._farewell > limits.keepalive_timeout_s:
            self._leave()
            if not self.streams:
                return  # that was all
        if self._pinged_at:
            if now - self._pinged_at > limits.keepalive_timeout_s:
                self.fault = ConnectionFault(ErrorCode.NO_ERROR, "the peer is gone")
                self.lost()
                return
        elif now - self._heard_at > limits.keepalive_s and self._ready:
            self._pinged_at = now
            self.write(frames.ping(_ALIVE))
        for stream in tuple(self.blocked):
            if stream.stalled(now, limits.stall_s):
                self._expire(stream)
        for stream in tuple(self.streams.values()):
            stream.handler.tick(now)

    def _expire(self, stream: Stream) -> None:
        handler = stream.handler
        stream.reset(ErrorCode.ENHANCE_YOUR_CALM)
        handler.reset(ErrorCode.CANCEL)


_ON_FRAME: Final = (
    Connection._on_data,
    Connection._on_headers,
    Connection._on_priority,
    Connection._on_rst_stream,
    Connection._on_settings,
    Connection._on_push_promise,
    Connection._on_ping,
    Connection._on_goaway,
    Connection._on_window_update,
    Connection._on_continuation,
)


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]
