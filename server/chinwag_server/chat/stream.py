"""The rules of a device's stream (ChatService.Connect): frames in, frames out.

Nothing here knows what carries the stream. The server core calls `receive` with each frame's
bytes, one after the other, and gives a `Sink`; while `receive` waits (the store is behind), the
core reads no further frame, and so the back-pressure reaches the device.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chinwag.chat.v1 import channel_pb2, connect_pb2, entry_pb2
from chinwag.common.v1 import close_pb2
from chinwag_server.chat import encoding, frames, frames_in
from chinwag_server.chat.catchup import Piece, Progress, Wanted
from chinwag_server.chat.entries import timestamp
from chinwag_server.chat.guidance import rate_limited
from chinwag_server.chat.outbox import Outbox
from chinwag_server.chat.plain import is_plain
from chinwag_server.chat.sends import FOR_A_MOMENT, Sent
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.closing import Reason, closing
from chinwag_server.rpc.errors import Refusal
from chinwag_server.rpc.pushed import Sink

if TYPE_CHECKING:
    from chinwag_server.chat.streams import Streams

log = logging.getLogger(__name__)

PROTOCOL_VERSION = 1


@dataclass(slots=True, frozen=True)
class StreamLimits:
    """What a stream may cost.

    Attributes:
        queue_pieces, queue_bytes: Bounds of what waits for the device.
        frame_bytes: The largest frame that is taken.
        bad_frames: Refused frames after which the stream is closed.
    """

    queue_pieces: int = 20_000
    queue_bytes: int = 8 << 20
    frame_bytes: int = 4 << 20
    bad_frames: int = 1000
    hello_timeout_s: float = 10.0
    idle_timeout_s: float = 120.0
    ping_interval_s: float = 30.0


class DeviceStream:
    """One device's stream, from its first frame to its close.

    Attributes:
        came_us: When it said hello, microseconds since 1970.
        live: Caught up: every entry passes through.
        heard: When the last frame came, by the monotonic clock.
        refusal: The status with which the call ends; None: OK.
    """

    __slots__ = (
        "_bad_frames",
        "_catching_up",
        "_caught_up",
        "_expire_time_us",
        "_held",
        "_progress",
        "_streams",
        "_wants_receipts",
        "_wants_typing",
        "caller",
        "came_us",
        "closed",
        "heard",
        "helloed",
        "live",
        "looking",
        "opened_at",
        "outbox",
        "refusal",
        "session_id",
    )

    def __init__(self, caller: Caller, sink: Sink, streams: Streams) -> None:
        self.caller = caller
        self.session_id = streams.new_session_id()
        self.came_us = 0
        self.live = False
        self.helloed = False
        self.closed = False
        self.refusal: Refusal | None = None
        self.heard = self.opened_at = streams.clock.monotonic()
        self.looking: dict[str, Progress] = {}
        self.outbox = Outbox(
            sink,
            streams.flusher,
            max_pieces=streams.limits.queue_pieces,
            max_bytes=streams.limits.queue_bytes,
            on_overflow=self._overflow,
        )
        self._streams = streams
        self._bad_frames = 0
        # By channel the first send that was refused for a moment and did not come again.
        self._held: dict[str, str] = {}
        self._progress: Progress | None = Progress()
        # How far each channel was read at first, for a while: what is told late is no news.
        self._caught_up: dict[str, int] | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._wants_receipts = False
        self._wants_typing = False
        self._expire_time_us = caller.expire_time_us

    @property
    def device_id(self) -> str:
        return self.caller.device_id

    @property
    def token_expire_time_us(self) -> int:
        """When the stream's token ends; 0: never."""
        return self._expire_time_us

    def on_writable(self) -> None:
        """The device takes frames again."""
        self.outbox.on_writable()

    # --- frames in ---

    async def receive(self, data: bytes) -> None:
        """Handles one frame; returns when the next one may come."""
        if self.closed:
            return
        streams = self._streams
        self.heard = streams.clock.monotonic()
        try:
            frame = frames_in.parse(data, streams.limits.frame_bytes)
        except Refusal as refusal:
            self._refuse_frame(0, refusal)
            return
        wait_s = streams.take_frame(self.caller)
        if wait_s:
            self._rate_limited(frame, wait_s)
            return
        if is_plain(frame):
            bad_sends: dict[int, Refusal] = {}
        else:
            bad = frames_in.check(frame, streams.violations(frame))
            if bad.whole is not None:
                self._refuse_part(frame, bad.part, bad.whole)
                return
            bad_sends = bad.sends
        if not self.helloed:
            if not frame.HasField("hello"):
                self._refuse_frame(
                    frame.frame_id, Refusal("HELLO_REQUIRED", "the first frame must be hello")
                )
                return
            await self._hello(frame.hello)
        elif frame.HasField("hello"):
            again = Refusal("HELLO_REPEATED", "hello comes once, as the first frame")
            self.close(
                closing(Reason.CLOSE_REASON_PROTOCOL_ERROR, reconnect=False, refusal=again), again
            )
        if not self.closed:
            await self._handle(frame, bad_sends)

    async def _handle(
        self, frame: connect_pb2.ConnectRequest, bad_sends: dict[int, Refusal]
    ) -> None:
        if frame.HasField("renew_token"):
            await self._renew(frame)
        if frame.sends:
            await self._send(frame.sends, bad_sends)
        for index, mark in enumerate(frame.marks):
            try:
                await self._streams.marks.move(
                    self.caller, mark.channel_id, mark.read_id, mark.delivered_id
                )
            except Refusal as refusal:
                self._refuse(frame.frame_id, f"marks[{index}]", mark.channel_id, refusal)
        for index, signal in enumerate(frame.typing):
            try:
                await self._streams.marks.typing(
                    self.caller, signal.channel_id, signal.thread_root_id, signal.active
                )
            except Refusal as refusal:
                self._refuse(frame.frame_id, f"typing[{index}]", signal.channel_id, refusal)
        for cursor in frame.subscribe:
            self._look(cursor)
        for channel_id in frame.unsubscribe:
            self._look_away(channel_id)
        if frame.HasField("watches"):
            self._refuse(
                frame.frame_id,
                "watches",
                "",
                Refusal("NOT_IMPLEMENTED", "this server does not offer presence yet"),
            )
        if frame.HasField("ping"):
            stamp = self._streams.stamp() if self.live else None
            pong = connect_pb2.Pong(
                id=frame.ping.id,
                server_time=timestamp(self._streams.clock.time_us()),
                # The one that the device has may be of use, and must not give way to none.
                stamp=str(stamp) if stamp is not None and stamp.number >= 0 else "",
            )
            self.outbox.add(frames.whole(pong=pong))

    # --- hello ---

    async def _hello(self, hello: connect_pb2.Hello) -> None:
        streams = self._streams
        if hello.protocol_version != PROTOCOL_VERSION:
            self._end_refused(
                Refusal(
                    "VERSION_UNSUPPORTED",
                    f"this server speaks protocol version {PROTOCOL_VERSION}, "
                    f"got {hello.protocol_version}",
                )
            )
            return
        try:
            streams.welcome(self)
        except Refusal as refusal:
            self._end_refused(refusal)
            return
        self.helloed = True
        # Not the message: it would keep the whole hello in memory for the stream's life.
        self._wants_receipts = hello.subscriptions.receipts
        self._wants_typing = hello.subscriptions.typing
        stamp = streams.catch_up.usable(hello.resume_stamp)
        self.outbox.add(
            frames.whole(
                welcome=connect_pb2.Welcome(
                    session_id=self.session_id,
                    user_id=self.caller.user_id,
                    device_id=self.caller.device_id,
                    server_time=timestamp(streams.clock.time_us()),
                    limits=streams.advertised,
                    stamp_accepted=stamp is not None,
                    token_expire_time=timestamp(self._expire_time_us)
                    if self._expire_time_us
                    else None,
                    server_version=streams.server_version,
                )
            )
        )
        wanted = Wanted(
            {
                cursor.channel_id: cursor
                for cursor in (*hello.subscriptions.channels, *hello.cursors)
            },
            stamp,
            hello.catch_up_limit,
            hello.subscriptions.receipts,
            page_bytes=self.outbox.page_bytes,
            was_told=bool(hello.resume_stamp),
        )
        self._catching_up = asyncio.ensure_future(
            self._catch_up(wanted, list(hello.subscriptions.channels))
        )
        if hello.subscriptions.account:
            streams.watch_account(self, hello.subscriptions.account_cursor)

    async def _catch_up(self, wanted: Wanted, looking: Sequence[channel_pb2.Cursor]) -> None:
        streams = self._streams
        progress = self._progress
        assert progress is not None
        try:
            for cursor in looking:
                self.looking[cursor.channel_id] = progress
                streams.listeners.look(cursor.channel_id, self)
            await streams.listeners.heard(self.caller.user_id)
            pieces = streams.catch_up.pieces(self.caller.user_id, wanted, progress)
            if not await self._pass_on(pieces):
                return
            # The iterator ended without waiting after its last check: everything up to the
            # stamp is queued, and from here on entries pass through.
            self.live = True
            self._caught_up = progress.settled
            self._progress = None
            for late in progress.late:
                self.outbox.add(late)
            caught_up = connect_pb2.CaughtUp(stamp=str(streams.stamp()))
            self.outbox.add(frames.whole(caught_up=caught_up))
            streams.caught_up(self)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("catch-up failed", extra={"user_id": self.caller.user_id})
            self._failed()
        finally:
            self._catching_up = None

    async def _pass_on(
        self, pieces: AsyncGenerator[Piece, None], wanted: Callable[[], bool] = lambda: True
    ) -> bool:
        """Passes pieces on, each read when the device takes something, and few for all devices at
        a time: streams of one connection see the same room, and must not all fill it.

        Returns:
            Whether that were all of them; otherwise the stream has ended, or they are not wanted.
        """
        outbox, paging = self.outbox, self._streams.paging
        while await outbox.wait_for_room():
            async with paging:
                if not outbox.has_room():
                    continue
                piece = await anext(pieces, None)
                if piece is None:
                    return True
                if not wanted():
                    return False
                outbox.add(piece.take())
                outbox.flush()
        return False

    # --- sends ---

    async def _send(
        self, sends: Sequence[connect_pb2.SendMessageRequest], bad: dict[int, Refusal]
    ) -> None:
        most = self._streams.max_sends_per_frame
        if len(sends) > most:
            refusal = Refusal("TOO_LARGE", f"a frame has at most {most} sends, got {len(sends)}")
            for request in sends:
                self._answer(request, refusal)
            return
        wait_s = self._streams.take_sends(self.caller, len(sends))
        if wait_s:
            refusal = rate_limited(wait_s)
            for request in sends:
                self._answer(request, refusal)
            return
        good: Sequence[connect_pb2.SendMessageRequest] = sends
        if bad or self._held:
            good = []
            for index, request in enumerate(sends):
                refused = bad.get(index) or self._overtakes(request)
                if refused is None:
                    good.append(request)
                else:
                    self._answer(request, refused)

        def answer(index: int, outcome: Sent | Refusal) -> None:
            self._answer(good[index], outcome)

        await self._streams.sends.send(self.caller, good, answer)

    def _answer(self, request: connect_pb2.SendMessageRequest, outcome: Sent | Refusal) -> None:
        if isinstance(outcome, Refusal) and outcome.reason in FOR_A_MOMENT:
            self._held.setdefault(request.channel_id, request.client_message_id)
        self.outbox.add(_result(request, outcome))

    def _overtakes(self, request: connect_pb2.SendMessageRequest) -> Refusal | None:
        """The refusal of a send that would overtake an earlier one of its channel."""
        held = self._held.get(request.channel_id)
        if held is None:
            return None
        if held == request.client_message_id:
            del self._held[request.channel_id]
            return None
        return Refusal(
            "EARLIER_SEND_REFUSED",
            "an earlier send of this channel was refused for a moment: send that one first",
            metadata={"client_message_id": held},
        )

    # --- broadcast channels that the device looks at ---

    def _look(self, cursor: channel_pb2.Cursor) -> None:
        progress = Progress()
        self.looking[cursor.channel_id] = progress
        self._streams.listeners.look(cursor.channel_id, self)
        self._streams.spawn(self._look_from(cursor, progress))

    async def _look_from(self, cursor: channel_pb2.Cursor, progress: Progress) -> None:
        channel_id = cursor.channel_id
        wanted = Wanted({channel_id: cursor}, page_bytes=self.outbox.page_bytes, cursors_only=True)
        pieces = self._streams.catch_up.pieces(self.caller.user_id, wanted, progress)
        try:
            if not await self._pass_on(pieces, lambda: self.looking.get(channel_id) is progress):
                return
        except Exception:
            # What follows is noted and never passed on: the device has to come back.
            log.exception("catch-up failed", extra={"channel_id": channel_id})
            self._failed()
            return
        if self.looking.get(channel_id) is progress and channel_id not in progress.settled:
            self._look_away(channel_id)  # not visible: a reset was sent

    def _look_away(self, channel_id: str) -> None:
        if channel_id in self.looking:
            del self.looking[channel_id]
            self._streams.listeners.look_away(channel_id, self)

    # --- a listener's offers ---

    def offer(self, channel_id: str, entry_id: int, piece: bytes) -> None:
        if self.looking:
            progress = self.looking.get(channel_id)
            if progress is not None and not progress.note(channel_id, entry_id):
                return
        if self._caught_up and entry_id <= self._caught_up.get(channel_id, 0):
            return
        if self.live or (self._progress is not None and self._progress.note(channel_id, entry_id)):
            self.outbox.add(piece)

    def offer_opened(self, channel_id: str, piece: bytes) -> None:
        if self.live:  # otherwise the catch-up opens it when it sees the entry noted
            self.outbox.add(piece)

    def offer_gone(self, channel_id: str) -> None:
        self.looking.pop(channel_id, None)
        reset = entry_pb2.ChannelReset(
            channel_id=channel_id, reason=entry_pb2.ChannelReset.REASON_NOT_VISIBLE
        )
        self.outbox.add(frames.event(entry_pb2.Event(reset=reset)))

    def offer_state(self, channel_id: str, piece: bytes) -> None:
        if self.live:
            self.outbox.add(piece)
        elif self._progress is not None:
            # The catch-up may have sent this channel's state already.
            self._progress.late.append(piece)

    def offer_receipts(self, channel_id: str, piece: bytes) -> None:
        if self._wants_receipts:
            if self.live:
                self.outbox.add(piece)
            elif self._progress is not None:
                self._progress.late.append(piece)

    def offer_typing(self, piece: bytes) -> None:
        if self.live and self._wants_typing:
            self.outbox.add(piece)

    def offer_account(self, piece: bytes) -> None:
        """An account event, as a piece."""
        self.outbox.add(piece)

    def forget_catch_up(self) -> None:
        """Nothing that was read at first is told any more: it was a while ago."""
        self._caught_up = None

    # --- tokens ---

    async def _renew(self, frame: connect_pb2.ConnectRequest) -> None:
        try:
            caller = await self._streams.authenticate(frame.renew_token.access_token)
            if (caller.user_id, caller.device_id) != (self.caller.user_id, self.caller.device_id):
                raise Refusal("TOKEN_INVALID", "the token is of another session")
        except Refusal as refusal:
            self._refuse(frame.frame_id, "renew_token", "", refusal)
            return
        self._expire_time_us = caller.expire_time_us
        renewed = connect_pb2.TokenRenewed(expire_time=timestamp(caller.expire_time_us))
        self.outbox.add(frames.whole(token_renewed=renewed))

    # --- refusing and closing ---

    def _refuse(self, frame_id: int, field: str, channel_id: str, refusal: Refusal) -> None:
        error = connect_pb2.FrameError(
            frame_id=frame_id, field=field, channel_id=channel_id, status=refusal.status()
        )
        self.outbox.add(frames.error(error))

    def _refuse_frame(self, frame_id: int, refusal: Refusal) -> None:
        self._refuse(frame_id, "", "", refusal)
        self._bad_frames += 1
        if self._bad_frames > self._streams.limits.bad_frames:
            self.close(
                closing(Reason.CLOSE_REASON_PROTOCOL_ERROR, reconnect=False, refusal=refusal),
                refusal,
            )

    def _refuse_part(self, frame: connect_pb2.ConnectRequest, part: str, refusal: Refusal) -> None:
        """Refuses a frame for one of its parts; a hello that breaks a rule ends the stream."""
        if not part:
            self._refuse_frame(frame.frame_id, refusal)
            return
        self._bad_frames += 1
        self._refuse(frame.frame_id, part, "", refusal)
        if part.startswith("hello"):
            self._end_refused(refusal)

    def _rate_limited(self, frame: connect_pb2.ConnectRequest, wait_s: float) -> None:
        refusal = rate_limited(wait_s)
        for request in frame.sends:
            self._answer(request, refusal)
        self._refuse(frame.frame_id, "", "", refusal)

    def _end_refused(self, refusal: Refusal) -> None:
        self.close(
            closing(
                Reason.CLOSE_REASON_REFUSED,
                reconnect=refusal.retry_after is not None,
                refusal=refusal,
                min_delay_s=refusal.retry_after or 0,
            ),
            refusal,
        )

    def _overflow(self) -> None:
        refusal = Refusal("OVERLOADED", "the device reads too slowly: resume from the cursors")
        self.close(
            closing(Reason.CLOSE_REASON_SLOW_READER, reconnect=True, refusal=refusal),
            refusal,
            drop=True,
        )

    def _failed(self) -> None:
        refusal = Refusal("INTERNAL", "the server failed; the log has it")
        self.close(
            closing(Reason.CLOSE_REASON_SERVER_ERROR, reconnect=True, refusal=refusal, jitter_s=5),
            refusal,
        )

    def close(
        self, close: close_pb2.Close, refusal: Refusal | None = None, *, drop: bool = False
    ) -> None:
        """Ends the stream with guidance, after what is queued or (drop) instead of it."""
        if self.closed:
            return
        self.refusal = refusal
        self.gone()
        self.outbox.finish(frames.whole(close=close), drop=drop)

    def gone(self) -> None:
        """The stream has ended, from either side: nothing is offered to it any more."""
        if self.closed:
            return
        self.closed = True
        self.outbox.end_waits()
        if self._catching_up is not None:
            self._catching_up.cancel()
        for channel_id in list(self.looking):
            self._look_away(channel_id)
        self._streams.remove(self)


def _result(request: connect_pb2.SendMessageRequest, outcome: Sent | Refusal) -> bytes:
    key, channel_id = request.client_message_id, request.channel_id
    if isinstance(outcome, Refusal):
        result = connect_pb2.SendResult(
            client_message_id=key, channel_id=channel_id, error=outcome.status()
        )
        return frames.result(result)
    return frames.sent(encoding.sent_result(key, channel_id, outcome.message_id, outcome.time_us))
