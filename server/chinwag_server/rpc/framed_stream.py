"""A bidirectional stream whose frames are parsed here, since a bad one is answered inside it.

What such streams have in common: hello first, then what the frames hold; a bad frame is refused
and the stream stays; a close with guidance is the last frame.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from protovalidate import Validator

from chinwag.common.v1 import close_pb2, stream_pb2
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.closing import Reason, closing
from chinwag_server.rpc.errors import Refusal
from chinwag_server.rpc.frames_out import FramesOut
from chinwag_server.rpc.validation import field_problem, invalid

if TYPE_CHECKING:
    from chinwag_server.rpc.framed_streams import FramedStreams

PROTOCOL_VERSION = 1

Write = Callable[[bytes], Awaitable[None]]
Request = TypeVar("Request", bound=Message)

_validator = Validator()


class FramedStream(Generic[Request]):
    """One stream, from its first frame to its close.

    Attributes:
        request_type: What a frame of the client is; it has `hello`, `renew_token`, `frame_id`.
        heard: When the last frame came, by the monotonic clock.
        refusal: The status with which the call ends; None: OK.
        on_close: Called when a close waits to be written.
    """

    request_type: ClassVar[type[Message]]

    def __init__(
        self, caller: Caller, streams: FramedStreams[Any], outgoing: FramesOut[Any]
    ) -> None:
        self.caller = caller
        self.expire_time_us = caller.expire_time_us
        self.helloed = False
        self.closed = False
        self.refusal: Refusal | None = None
        self.heard = self.opened_at = streams.clock.monotonic()
        self.outgoing = outgoing
        self.on_close: Callable[[], object] = lambda: None
        self._all = streams
        self._bad_frames = 0

    # --- what a stream adds ---

    def opened(self, hello: Any) -> None:
        """Answers a hello that holds, with `welcome`."""
        raise NotImplementedError

    async def take(self, frame: Any) -> None:
        """Handles what a frame holds besides hello and renew_token."""
        raise NotImplementedError

    def written(self, frame: Any) -> None:
        """A frame was taken by the client's side."""

    def ended(self, *, at_once: bool) -> None:
        """The stream is over.

        Args:
            at_once: Its device will not be back: its session has ended.
        """

    # --- running ---

    async def read(self, incoming: AsyncIterator[bytes]) -> None:
        """Handles frames until the client has no more."""
        async for data in incoming:
            if self.closed:
                return
            await self._receive(data)
            await self.outgoing.room()

    async def write(self, write: Write) -> None:
        """Writes frames until the last."""
        while (frame := await self.outgoing.next()) is not None:
            await write(frame.SerializeToString())
            self.written(frame)

    def gone(self, *, at_once: bool = False) -> None:
        """The call is over."""
        if not self.closed:
            self.closed = True
            self.ended(at_once=at_once)

    def close(self, close: close_pb2.Close, refusal: Refusal | None, *, drop: bool = False) -> None:
        """Ends the stream with guidance, after what waits (with `drop`: instead of it)."""
        if self.closed:
            return
        self.gone(at_once=drop and not close.reconnect)
        self.refusal = refusal
        if drop:
            self.outgoing.drop()
        self.outgoing.add("close", close)
        self.outgoing.end()
        self.on_close()

    # --- frames in ---

    async def _receive(self, data: bytes) -> None:
        streams = self._all
        self.heard = streams.clock.monotonic()
        most = streams.limits.frame_bytes
        if len(data) > most:
            text = f"a frame has at most {most} bytes, got {len(data)}"
            self.refuse(0, Refusal("TOO_LARGE", text))
            return
        kind = self.request_type
        try:
            frame: Any = kind.FromString(data)
        except DecodeError:
            self.refuse(0, Refusal("MALFORMED", f"the bytes are no {kind.DESCRIPTOR.name}"))
            return
        if wait_s := streams.take_frame(self.caller):
            text = "too many frames: slow down"
            refusal = Refusal("RATE_LIMITED", text, retry_after=max(wait_s, 0.001))
            self.refuse(frame.frame_id, refusal)
            return
        if violations := _validator.collect_violations(frame):
            refusal = invalid([field_problem(violation) for violation in violations[:8]])
            self.refuse(frame.frame_id, refusal, refusal.fields[0][0])
            if frame.HasField("hello") and not self.helloed:
                self.end_refused(refusal)
            return
        if not any(field.name != "frame_id" for field, _ in frame.ListFields()):
            text = "the frame sets no field that this server knows"
            self.refuse(frame.frame_id, Refusal("UNKNOWN_FRAME", text))
            return
        await self._handle(frame)

    async def _handle(self, frame: Any) -> None:
        if not self.helloed:
            if not frame.HasField("hello"):
                text = "the first frame must be hello"
                self.refuse(frame.frame_id, Refusal("HELLO_REQUIRED", text))
                return
            self._hello(frame.hello)
        elif frame.HasField("hello"):
            self.end_protocol(Refusal("HELLO_REPEATED", "hello comes once, as the first frame"))
        if frame.HasField("renew_token") and not self.closed:
            await self._renew(frame)
        if not self.closed:
            await self.take(frame)

    def _hello(self, hello: Any) -> None:
        version = hello.client.protocol_version
        try:
            if version != PROTOCOL_VERSION:
                text = f"this server speaks protocol version {PROTOCOL_VERSION}, got {version}"
                raise Refusal("VERSION_UNSUPPORTED", text)
            self.check_hello(hello)
            self._all.welcome(self)
        except Refusal as refusal:
            self.end_refused(refusal)
            return
        self.helloed = True
        self.opened(hello)

    def check_hello(self, hello: Any) -> None:
        """Refuses a hello that does not hold.

        Raises:
            Refusal: Why.
        """

    async def _renew(self, frame: Any) -> None:
        field = "renew_token.access_token"
        try:
            caller = await self._all.authenticate(frame.renew_token.access_token)
        except Refusal as refusal:
            self.refuse(frame.frame_id, refusal, field)
            return
        mine = (self.caller.user_id, self.caller.device_id)
        if self.caller.api_key_id or (caller.user_id, caller.device_id) != mine:
            text = "the token is of another session than the stream's"
            self.refuse(frame.frame_id, Refusal("TOKEN_INVALID", text), field)
            return
        self.expire_time_us = caller.expire_time_us
        renewed = stream_pb2.StreamTokenRenewed(expire_time=_timestamp(self.expire_time_us))
        self.outgoing.add("token_renewed", renewed)

    def stream_welcome(self, session_id: str) -> stream_pb2.StreamWelcome:
        """The part of the welcome that is the same for all streams."""
        streams = self._all
        return stream_pb2.StreamWelcome(
            session_id=session_id,
            server_time=_timestamp(streams.clock.time_us()),
            server_version=streams.server_version,
            token_expire_time=_timestamp(self.expire_time_us) if self.expire_time_us else None,
        )

    # --- refusing and ending ---

    def refuse(self, frame_id: int, refusal: Refusal, field: str = "") -> None:
        """Answers a bad frame, or a part of one; after too many the stream is closed."""
        error = stream_pb2.StreamError(frame_id=frame_id, field=field, status=refusal.status())
        self.outgoing.add("errors", error)
        self._bad_frames += 1
        if self._bad_frames > self._all.limits.bad_frames:
            self.end_protocol(refusal)

    def end_refused(self, refusal: Refusal) -> None:
        """The stream is not opened."""
        close = closing(
            Reason.CLOSE_REASON_REFUSED, reconnect=refusal.retry_after is not None, refusal=refusal
        )
        self.close(close, refusal)

    def end_protocol(self, refusal: Refusal) -> None:
        """The client breaks the protocol."""
        close = closing(Reason.CLOSE_REASON_PROTOCOL_ERROR, reconnect=False, refusal=refusal)
        self.close(close, refusal)


def _timestamp(time_us: int) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromMicroseconds(time_us)
    return timestamp
