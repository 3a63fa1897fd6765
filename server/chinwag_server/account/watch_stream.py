"""AccountService.Watch: frames in, frames out.

It is a raw method: frames are parsed here, since a bad one is answered inside the stream.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from protovalidate import Validator

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import events_pb2
from chinwag.common.v1 import close_pb2, stream_pb2
from chinwag_server.account import events, protos
from chinwag_server.account.watch import Subscription
from chinwag_server.account.watch_frames import Outgoing, Reason, closing
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal
from chinwag_server.rpc.validation import field_problem, invalid

if TYPE_CHECKING:
    from chinwag_server.account.watch_streams import WatchStreams

PATH = "/chinwag.account.v1.AccountService/Watch"
PROTOCOL_VERSION = 1

Write = Callable[[bytes], Awaitable[None]]

_PARTS = frozenset({"hello", "renew_token", "ack", "ping"})
_validator = Validator()


@dataclass(slots=True, frozen=True)
class WatchLimits:
    """What a stream may cost.

    Attributes:
        window: Events that are sent and not acked.
        bad_frames: Refused frames after which the stream is closed.
        user_streams: Open streams of a user.
    """

    window: int = 1000
    frame_bytes: int = 4 << 20
    bad_frames: int = 1000
    user_streams: int = 20
    hello_timeout_s: float = 10.0
    idle_timeout_s: float = 120.0
    ping_interval_s: float = 30.0


class WatchStream:
    """One stream, from its first frame to its close.

    Attributes:
        heard: When the last frame came, by the monotonic clock.
        refusal: The status with which the call ends; None: OK.
        on_close: Called when a close waits to be written.
    """

    def __init__(self, caller: Caller, streams: WatchStreams) -> None:
        self.caller = caller
        self.expire_time_us = caller.expire_time_us
        self.helloed = False
        self.closed = False
        self.refusal: Refusal | None = None
        self.heard = self.opened_at = streams.clock.monotonic()
        self.outgoing = Outgoing()
        self.on_close: Callable[[], object] = lambda: None
        self._streams = streams
        self._subscription: Subscription | None = None
        self._bad_frames = 0
        self._acked = 0
        self._written = 0

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
            if frame.events:
                self._written = frame.events[-1].id
                self._release()

    def gone(self) -> None:
        """The call is over."""
        self.closed = True
        if self._subscription is not None:
            self._subscription.close()

    def close(self, close: close_pb2.Close, refusal: Refusal | None, *, drop: bool = False) -> None:
        """Ends the stream with guidance, after what waits (with `drop`: instead of it)."""
        if self.closed:
            return
        self.gone()
        self.refusal = refusal
        if drop:
            # A frame of its own, so that nothing that waits goes with it.
            self.outgoing.add("close", close_pb2.Close())
        self.outgoing.add("close", close)
        self.outgoing.end(drop=drop)
        self.on_close()

    # --- frames in ---

    async def _receive(self, data: bytes) -> None:
        streams = self._streams
        self.heard = streams.clock.monotonic()
        limits = streams.limits
        if len(data) > limits.frame_bytes:
            text = f"a frame has at most {limits.frame_bytes} bytes, got {len(data)}"
            self._refuse(0, Refusal("TOO_LARGE", text))
            return
        try:
            frame = pb.WatchRequest.FromString(data)
        except DecodeError:
            self._refuse(0, Refusal("MALFORMED", "the bytes are no WatchRequest"))
            return
        if wait_s := streams.take_frame(self.caller):
            text = "too many frames: slow down"
            refusal = Refusal("RATE_LIMITED", text, retry_after=max(wait_s, 0.001))
            self._refuse(frame.frame_id, refusal)
            return
        if violations := _validator.collect_violations(frame):
            refusal = invalid([field_problem(violation) for violation in violations[:8]])
            self._refuse(frame.frame_id, refusal, refusal.fields[0][0])
            if frame.HasField("hello") and not self.helloed:
                self._end_refused(refusal)
            return
        if not any(field.name in _PARTS for field, _ in frame.ListFields()):
            text = "the frame sets no field that this server knows"
            self._refuse(frame.frame_id, Refusal("UNKNOWN_FRAME", text))
            return
        await self._handle(frame)

    async def _handle(self, frame: pb.WatchRequest) -> None:
        if not self.helloed:
            if not frame.HasField("hello"):
                text = "the first frame must be hello"
                self._refuse(frame.frame_id, Refusal("HELLO_REQUIRED", text))
                return
            self._hello(frame.hello)
        elif frame.HasField("hello"):
            self._end_protocol(Refusal("HELLO_REPEATED", "hello comes once, as the first frame"))
        if frame.HasField("renew_token") and not self.closed:
            await self._renew(frame)
        if frame.ack and not self.closed:
            self._ack(frame)
        if frame.HasField("ping") and not self.closed:
            now = protos.timestamp(self._streams.clock.time_us())
            self.outgoing.add("pong", stream_pb2.StreamPong(id=frame.ping.id, server_time=now))

    def _hello(self, hello: pb.WatchHello) -> None:
        streams = self._streams
        version = hello.client.protocol_version
        try:
            if version != PROTOCOL_VERSION:
                text = f"this server speaks protocol version {PROTOCOL_VERSION}, got {version}"
                raise Refusal("VERSION_UNSUPPORTED", text)
            streams.welcome(self)
        except Refusal as refusal:
            self._end_refused(refusal)
            return
        self.helloed = True
        limits = streams.limits
        self.outgoing.add(
            "welcome",
            pb.WatchWelcome(
                stream=stream_pb2.StreamWelcome(
                    session_id=secrets.token_hex(8),
                    server_time=protos.timestamp(streams.clock.time_us()),
                    server_version=streams.server_version,
                    token_expire_time=protos.timestamp(self.expire_time_us),
                ),
                ping_interval=Duration(seconds=int(limits.ping_interval_s)),
                idle_timeout=Duration(seconds=int(limits.idle_timeout_s)),
            ),
        )
        self._subscription = streams.watchers.subscribe(
            self.caller.user_id,
            self.caller.device_id,
            hello.cursor,
            self._tell,
            window=limits.window,
            reached=self._reached,
        )

    def _tell(self, event: events_pb2.AccountEvent) -> None:
        if event.HasField("reset"):
            # Ids may begin lower than what was acked of another generation.
            self._acked = self._written = 0
        self.outgoing.add("events", event)

    def _reached(self, cursor: str) -> None:
        self.outgoing.add("caught_up", pb.WatchCaughtUp(cursor=cursor))

    async def _renew(self, frame: pb.WatchRequest) -> None:
        field = "renew_token.access_token"
        try:
            caller = await self._streams.authenticate(frame.renew_token.access_token)
        except Refusal as refusal:
            self._refuse(frame.frame_id, refusal, field)
            return
        mine = (self.caller.user_id, self.caller.device_id)
        if self.caller.api_key_id or (caller.user_id, caller.device_id) != mine:
            text = "the token is of another session than the stream's"
            self._refuse(frame.frame_id, Refusal("TOKEN_INVALID", text), field)
            return
        self.expire_time_us = caller.expire_time_us
        renewed = stream_pb2.StreamTokenRenewed(expire_time=protos.timestamp(self.expire_time_us))
        self.outgoing.add("token_renewed", renewed)

    def _ack(self, frame: pb.WatchRequest) -> None:
        watchers, caller = self._streams.watchers, self.caller
        try:
            event_id = events.read_cursor(watchers.store.generation, caller.user_id, frame.ack)
        except events.ForeignCursor:
            text = "the cursor is not one of this user's"
            self._refuse(frame.frame_id, Refusal("INVALID_FIELD", text), "ack")
            return
        told = self._subscription.position if self._subscription else 0
        # One of another generation, or of what was never sent, is like one that is older.
        if event_id is None or event_id > told or event_id <= self._acked:
            return
        self._acked = event_id
        self._release()
        if caller.device_id:
            watchers.ack(caller.user_id, caller.device_id, event_id)

    def _release(self) -> None:
        # Who acks without reading gets no more to not read.
        if self._subscription is not None:
            self._subscription.release(min(self._acked, self._written))

    # --- refusing and ending ---

    def _refuse(self, frame_id: int, refusal: Refusal, field: str = "") -> None:
        error = stream_pb2.StreamError(frame_id=frame_id, field=field, status=refusal.status())
        self.outgoing.add("errors", error)
        self._bad_frames += 1
        if self._bad_frames > self._streams.limits.bad_frames:
            self._end_protocol(refusal)

    def _end_refused(self, refusal: Refusal) -> None:
        close = closing(
            Reason.CLOSE_REASON_REFUSED, reconnect=refusal.retry_after is not None, refusal=refusal
        )
        self.close(close, refusal)

    def _end_protocol(self, refusal: Refusal) -> None:
        close = closing(Reason.CLOSE_REASON_PROTOCOL_ERROR, reconnect=False, refusal=refusal)
        self.close(close, refusal)
