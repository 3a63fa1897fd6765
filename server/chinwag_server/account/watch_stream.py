"""AccountService.Watch: frames in, frames out."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import events_pb2
from chinwag.common.v1 import stream_pb2
from chinwag_server.account import events, protos
from chinwag_server.account.watch import Subscription
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal
from chinwag_server.rpc.framed_stream import FramedStream
from chinwag_server.rpc.frames_out import FramesOut

if TYPE_CHECKING:
    from chinwag_server.account.watch_streams import WatchStreams

PATH = "/chinwag.account.v1.AccountService/Watch"

# The order in which a client handles the fields of a frame, and how many of each at most.
_ORDER = ("welcome", "token_renewed", "events", "errors", "caught_up", "pong", "close")
_MOST = {"events": 100, "errors": 100}


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


class WatchStream(FramedStream[pb.WatchRequest]):
    """One stream, from its first frame to its close."""

    request_type = pb.WatchRequest

    def __init__(self, caller: Caller, streams: WatchStreams) -> None:
        super().__init__(caller, streams, FramesOut(pb.WatchResponse, _ORDER, _MOST))
        self._streams = streams
        self._subscription: Subscription | None = None
        self._acked = 0
        self._written = 0

    def written(self, frame: pb.WatchResponse) -> None:
        if frame.events:
            self._written = frame.events[-1].id
            self._release()

    def ended(self, *, at_once: bool) -> None:
        if self._subscription is not None:
            self._subscription.close()

    def opened(self, hello: pb.WatchHello) -> None:
        streams, limits = self._streams, self._streams.limits
        self.outgoing.add(
            "welcome",
            pb.WatchWelcome(
                stream=self.stream_welcome(secrets.token_hex(8)),
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

    async def take(self, frame: pb.WatchRequest) -> None:
        if frame.ack:
            self._ack(frame)
        if frame.HasField("ping") and not self.closed:
            now = protos.timestamp(self._streams.clock.time_us())
            self.outgoing.add("pong", stream_pb2.StreamPong(id=frame.ping.id, server_time=now))

    def _ack(self, frame: pb.WatchRequest) -> None:
        watchers, caller = self._streams.watchers, self.caller
        try:
            event_id = events.read_cursor(watchers.store.generation, caller.user_id, frame.ack)
        except events.ForeignCursor:
            text = "the cursor is not one of this user's"
            self.refuse(frame.frame_id, Refusal("INVALID_FIELD", text), "ack")
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
