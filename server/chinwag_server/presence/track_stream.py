"""PresenceService.Track: frames in, frames out."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration

from chinwag.common.v1 import stream_pb2
from chinwag.presence.v1 import presence_pb2
from chinwag.presence.v1 import presence_service_pb2 as pb
from chinwag_server.chat.entries import timestamp
from chinwag_server.mesh.unavailable import Unavailable
from chinwag_server.presence.devices import Here
from chinwag_server.presence.watching import Watcher
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal
from chinwag_server.rpc.framed_stream import FramedStream
from chinwag_server.rpc.frames_out import FramesOut

if TYPE_CHECKING:
    from chinwag_server.presence.track_streams import TrackStreams

PATH = "/chinwag.presence.v1.PresenceService/Track"
HEARTBEAT_PAUSE_S = 1.0
FRAME_CHANGES = 1000

# The order in which a client handles the fields of a frame, and how many of each at most.
_ORDER = ("welcome", "token_renewed", "changes", "errors", "snapshot_done", "pong", "close")
_MOST = {"changes": FRAME_CHANGES, "errors": 100}


@dataclass(slots=True, frozen=True)
class TrackLimits:
    """What a stream may cost.

    Attributes:
        watches: Users that one stream may watch.
        bad_frames: Refused frames after which the stream is closed.
        user_streams: Open streams of a user.
    """

    watches: int = 10_000
    frame_bytes: int = 4 << 20
    bad_frames: int = 1000
    user_streams: int = 20
    hello_timeout_s: float = 10.0
    idle_timeout_s: float = 120.0
    heartbeat_s: float = 30.0


class TrackFrames(FramesOut[pb.TrackResponse]):
    """Of a user only the newest change waits: so a reader that does not read is owed no more than
    one change of each whom it watches."""

    def __init__(self) -> None:
        super().__init__(pb.TrackResponse, _ORDER, _MOST)
        self._changes: dict[str, presence_pb2.PresenceChange] = {}

    def add_changes(self, changes: Sequence[presence_pb2.PresenceChange]) -> None:
        """Queues changes; snapshots keep their place before what ends their frame's answer."""
        if self._ended:
            return
        for change in changes:
            user_id = change.presence.user_id
            self._changes.pop(user_id, None)
            if change.snapshot:
                super().add("changes", change)
            else:
                self._changes[user_id] = change
        self._ready.set()

    def add(self, field: str, value: Any) -> None:
        if field == "close":
            changes, self._changes = self._changes, {}
            for change in changes.values():
                super().add("changes", change)
        super().add(field, value)

    def drop(self) -> None:
        super().drop()
        self._changes.clear()

    def _next(self) -> pb.TrackResponse | None:
        if self._frames or not self._changes:
            return super()._next()
        some = list(self._changes)[:FRAME_CHANGES]
        return pb.TrackResponse(changes=[self._changes.pop(user_id) for user_id in some])


class TrackStream(FramedStream[pb.TrackRequest]):
    """One stream, from its first frame to its close."""

    request_type = pb.TrackRequest

    def __init__(self, caller: Caller, streams: TrackStreams) -> None:
        frames = TrackFrames()
        super().__init__(caller, streams, frames)
        self.watcher = Watcher(caller.user_id, frames.add_changes)
        self._streams = streams
        self._here: Here | None = None
        self._beat_at = streams.clock.monotonic() - HEARTBEAT_PAUSE_S

    def ended(self, *, at_once: bool) -> None:
        self._streams.watching.close(self.watcher)
        if self._here is not None:
            self._streams.devices.gone(self._here, at_once=at_once)

    def check_hello(self, hello: pb.TrackHello) -> None:
        if hello.announce and not self.caller.user_id:
            text = "an API key announces the device of a user: call on behalf of one"
            raise Refusal("INVALID_FIELD", text, fields=[("hello.announce", "needs a user")])

    def opened(self, hello: pb.TrackHello) -> None:
        streams, limits, caller = self._streams, self._streams.limits, self.caller
        self.outgoing.add(
            "welcome",
            pb.TrackWelcome(
                stream=self.stream_welcome(secrets.token_hex(8)),
                heartbeat_interval=Duration(seconds=int(limits.heartbeat_s)),
                idle_timeout=Duration(seconds=int(limits.idle_timeout_s)),
                debounce=Duration(seconds=int(streams.watching.debounce_s)),
                max_watches=limits.watches,
            ),
        )
        if hello.announce:
            activity = hello.activity if hello.HasField("activity") else None
            self._here = streams.devices.came(caller.user_id, caller.device_id, activity)

    async def take(self, frame: pb.TrackRequest) -> None:
        watching = self._streams.watching
        if frame.clear_watches:
            watching.clear(self.watcher)
        if frame.unwatch:
            watching.unwatch(self.watcher, frame.unwatch)
        if frame.watch:
            await self._watch(frame)
        if frame.HasField("heartbeat") and not self.closed:
            self._heartbeat(frame)

    async def _watch(self, frame: pb.TrackRequest) -> None:
        limit = self._streams.limits.watches
        new = {watch.user_id for watch in frame.watch}.difference(self.watcher.watches)
        if len(self.watcher) + len(new) > limit:
            text = f"a stream watches at most {limit} users, this one {len(self.watcher)} already"
            self.refuse(frame.frame_id, Refusal("WATCH_LIMIT", text), "watch")
            return
        try:
            await self._streams.watching.watch(self.watcher, frame.watch)
        except Unavailable as error:
            refusal = Refusal("STORAGE_UNAVAILABLE", str(error), retry_after=1.0)
            self.refuse(frame.frame_id, refusal, "watch")
        except Refusal as refusal:
            self.refuse(frame.frame_id, refusal, "watch")
        else:
            self.outgoing.add("snapshot_done", pb.SnapshotDone(frame_id=frame.frame_id))

    def _heartbeat(self, frame: pb.TrackRequest) -> None:
        clock = self._streams.clock
        now = clock.monotonic()
        wait_s = self._beat_at + HEARTBEAT_PAUSE_S - now
        if wait_s > 0:
            text = "more than one heartbeat a second: send one every heartbeat_interval"
            refusal = Refusal("RATE_LIMITED", text, retry_after=wait_s)
            self.refuse(frame.frame_id, refusal, "heartbeat")
            return
        self._beat_at = now
        if self._here is not None and frame.heartbeat.HasField("activity"):
            self._streams.devices.report(self._here, frame.heartbeat.activity)
        pong = stream_pb2.StreamPong(id=frame.heartbeat.id, server_time=timestamp(clock.time_us()))
        self.outgoing.add("pong", pong)
