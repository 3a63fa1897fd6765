"""The client's side of the delivery contract, without I/O.

A `DeviceProtocol` is told what happens (connected, a frame came, the connection was lost, time
passed, the application wants to send) and says what to do: `take` gives the frames to write, the
events for the application in their order, what became of sends, and the holes to fetch;
`next_tick` when to call `tick`; `drop` that the connection is to be ended; and after a break `plan`
or `error` whether and how to connect again. Sockets, tasks and threads are the skins' business
(`link`, `blocking`). docs/delivery.md says what it holds.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from google.protobuf import timestamp_pb2

from chinwag import events as ev
from chinwag.backoff import Backoff
from chinwag.chat.v1 import chat_service_pb2, connect_pb2, message_pb2
from chinwag.clock import Clock
from chinwag.control import Control
from chinwag.endpoints import Endpoints
from chinwag.errors import ChinwagError, ClientClosed, InvalidArgument, Unavailable, from_status
from chinwag.events import Connection, Cursor
from chinwag.ids import MessageIds
from chinwag.liveness import Liveness
from chinwag.outbox import EARLIER, EXPIRE_S, Outbox, Outcome, Send
from chinwag.positions import Fetch, Positions
from chinwag.presence.v1 import presence_pb2
from chinwag.reconnect import Plan, Reconnect
from chinwag.store import Saved

FRAME_BYTES = 512 << 10
REMEMBERED_FRAMES = 256

# What is said of each send of a frame that was refused whole, so that they go one by one.
_SPLIT = Unavailable("the frame was refused as a whole", reason="TOO_LARGE", code=14)


@dataclass(slots=True)
class Output:
    """What a skin has to do: write, hand out, resolve, fetch, each in order."""

    frames: list[connect_pb2.ConnectRequest] = field(default_factory=list)
    events: list[ev.Event] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    fetches: list[Fetch] = field(default_factory=list)


class DeviceProtocol:
    """One device's conversation with the server, over any number of connections.

    Args:
        saved: What the device's store held.
        clock: Time.
        rng: For jitter and message ids.
        subscriptions: What the streams carry beside events and results; None: receipts, typing and
            the account's events.
        catch_up_limit: See `Hello.catch_up_limit`.
        endpoints: Where to connect; None: a skin that has one way anyway.
        may_follow: Whether to go to an address that the server names; None: to one of `endpoints`.

    Attributes:
        connection: The state.
        plan: While waiting: the next attempt; `retry_at` is when, by the monotonic clock.
        error: Closed for good, by this.
        drop: The connection is to be ended now, and `connection_lost` called.
        token_wanted: Call `renew_token` with a fresh token, or `renewal_failed`.
        shedding: Set by a skin whose application does not read while sends wait for answers:
            events are passed over, and `resume` gets them again.
    """

    def __init__(
        self,
        saved: Saved,
        *,
        clock: Clock,
        rng: random.Random,
        subscriptions: connect_pb2.Subscriptions | None = None,
        catch_up_limit: int = 0,
        endpoints: Endpoints | None = None,
        may_follow: Callable[[str], bool] | None = None,
    ) -> None:
        if endpoints is None:
            endpoints = Endpoints([""], rng=rng, monotonic=clock.monotonic)
        self._reconnect = Reconnect(rng, endpoints, may_follow)
        self.connection = Connection.WAITING
        self.plan = self._reconnect.first()
        self.retry_at = clock.monotonic()
        self.error: ChinwagError | None = None
        self.drop = self.token_wanted = self.shedding = False
        self.user_id = self.device_id = ""
        self.limits = connect_pb2.Limits(max_sends_per_frame=100, max_frame_bytes=4 << 20)
        self.outbox = Outbox(saved.sends)
        self.positions = Positions(saved.cursors)
        self._clock = clock
        self._ids = MessageIds(rng)
        self._send_backoff = Backoff(rng, base_s=0.2, cap_s=10.0)
        self._liveness = Liveness(self.retry_at)
        self._control = Control(subscriptions, catch_up_limit)
        self._output = Output()
        self._frames: OrderedDict[int, connect_pb2.ConnectRequest] = OrderedDict()
        self._frame_id = 0
        self._stamp = saved.stamp
        self._account_cursor, self._account_id = saved.account_cursor, 0
        self._guidance: Plan | ChinwagError | None = None
        self._open = self._resume_now = self._has_shed = False
        self._send_at = self._ahead_s = 0.0

    # --- what a skin asks ---

    def take(self) -> Output:
        """What has to be done now; each thing is given once."""
        if self._open:
            self._write()
        output, self._output = self._output, Output()
        return output

    @property
    def next_tick(self) -> float | None:
        """When `tick` has to be called, by the monotonic clock; None: not by itself."""
        times: list[float] = []
        if self._open:
            times.append(self._liveness.next_time(self.outbox.oldest_in_flight))
            if self._control.is_open:
                if self.outbox and self._send_at > self._clock.monotonic():
                    times.append(self._send_at)
                if self._control.marks.due is not None:
                    times.append(self._control.marks.due)
        created = self.outbox.oldest_create_time_s
        if created is not None:
            left_s = created + EXPIRE_S - self._clock.time()
            times.append(self._clock.monotonic() + max(left_s, 0.0) + 1.0)
        return min(times, default=None)

    def tick(self) -> None:
        """Time has passed."""
        self._output.outcomes.extend(self.outbox.expire(self._clock.time()))
        if self._open:
            now = self._clock.monotonic()
            self.drop |= self._liveness.is_dead(now, self.outbox.oldest_in_flight)
            self.token_wanted |= self._liveness.must_renew(now)
            if self._liveness.must_ping(now):
                self._control.ping(now)

    # --- what happens to the connection ---

    def connecting(self) -> None:
        """An attempt begins."""
        self._change(Connection.CONNECTING)

    def connected(self) -> None:
        """A stream is open: hello goes first."""
        self._open, self.drop = True, False
        self._guidance = None
        self._frames.clear()
        self._liveness.connected(self._clock.monotonic())
        self._control.say_hello(self._stamp, self._account_cursor, self.positions.cursors())

    def connection_lost(self, error: ChinwagError | None = None) -> None:
        """The stream has ended, or could not be opened: `plan` or `self.error` says what next.

        Args:
            error: The status with which it ended; None: it just broke.
        """
        if self.error is not None:
            return
        self._open = self._control.is_open = self.drop = self.token_wanted = False
        self.outbox.connection_lost()
        self.positions.connection_lost()
        self._output.fetches.clear()
        if self._resume_now:
            decided: Plan | ChinwagError = self._reconnect.resumed()
        elif self._guidance is not None:
            decided = self._guidance
        else:
            decided = self._reconnect.broken(error)
        self._resume_now = self._has_shed = self.shedding = False
        self._guidance = None
        if isinstance(decided, ChinwagError):
            self.fail(decided)
            return
        self.plan = decided
        self.retry_at = self._clock.monotonic() + decided.delay_s
        self._change(Connection.WAITING, decided.error, decided.delay_s)

    def fail(self, error: ChinwagError) -> None:
        """Closes for good: unresolved sends stay in the store for the next process."""
        if self.error is None:
            self.error = error
            self._open, self.drop = False, True
            self._change(Connection.CLOSED, error)

    def pause(self) -> None:
        """The skin stops reading."""
        self._liveness.pause()

    def unpause(self) -> None:
        """The skin reads again."""
        self._liveness.unpause(self._clock.monotonic())

    def resume(self) -> None:
        """The application has room for events again."""
        self.unpause()
        self.shedding = False
        if self._has_shed and self._open:
            # What was passed over is behind the positions: resuming brings it.
            self._resume_now = self.drop = True

    # --- what the application wants ---

    def post(
        self,
        channel_id: str,
        content: message_pb2.MessageContent,
        *,
        reply_to_id: int = 0,
        thread_root_id: int = 0,
    ) -> Send:
        """Queues a message.

        Raises:
            OutboxFull: Too many wait.
            InvalidArgument: TOO_LARGE: no frame could hold it.
            ClientClosed: The client is closed.
        """
        if self.error is not None:
            raise ClientClosed(f"the client is closed: {self.error}") from self.error
        request = connect_pb2.SendMessageRequest(
            channel_id=channel_id,
            client_message_id=self._ids.draw(self.server_time_s),
            content=content,
            reply_to_id=reply_to_id,
            thread_root_id=thread_root_id,
        )
        size, most = request.ByteSize(), self.limits.max_frame_bytes - 64
        if size > most > 0:
            raise InvalidArgument(
                f"a message has at most {most} bytes with all its parts, got {size}",
                reason="TOO_LARGE",
                fields={"content": f"has {size} bytes"},
            )
        return self.outbox.post(request, self._clock.time())

    def mark(
        self, channel_id: str, *, read_id: int = 0, delivered_id: int = 0, lazy: bool = False
    ) -> None:
        """Raises marks; a later one overwrites one that has not gone out."""
        now = self._clock.monotonic()
        self._control.marks.raise_to(channel_id, read_id, delivered_id, now, lazy=lazy)

    def typing(self, channel_id: str, *, active: bool = True, thread_root_id: int = 0) -> None:
        """Tells that the user types: at most every four seconds, and only while connected."""
        self._control.typing(channel_id, thread_root_id, active, self._clock.monotonic())

    def look(self, start: Cursor) -> None:
        """Wants a broadcast channel's entries, from `start` if it is not looked at already."""
        self._control.look(self.positions.look(start))

    def look_away(self, channel_id: str) -> None:
        """Does not want them any more."""
        if self._control.look_away(channel_id):
            self.positions.forget(channel_id)

    def watch(self, watches: list[presence_pb2.Watch]) -> None:
        """The users whose presence is wanted, in place of those before."""
        self._control.watch(watches)

    def renew_token(self, access_token: str) -> None:
        """Gives the open stream a fresh token."""
        self.token_wanted = False
        self._control.renew_token(access_token)

    def renewal_failed(self) -> None:
        """No fresh token could be had for now."""
        self.token_wanted = False
        self._liveness.renew_in(10.0, self._clock.monotonic())

    @property
    def server_time_s(self) -> float:
        """Seconds since 1970 by the server's clock, as far as it is known."""
        return self._clock.time() + self._ahead_s

    # --- frames out ---

    def _write(self) -> None:
        now = self._clock.monotonic()
        before = self._frame_id
        control = self._control.take(now)
        if control is not None:
            self._add_frame(control)
        if self._control.is_open and now >= self._send_at:
            most = self.limits.max_sends_per_frame or 1
            limit = min(FRAME_BYTES, self.limits.max_frame_bytes * 3 // 4)
            while sends := self.outbox.take(most, limit, now):
                requests = [send.request for send in sends]
                self._add_frame(connect_pb2.ConnectRequest(sends=requests))
        if self._frame_id > before:
            self._liveness.wrote(now)

    def _add_frame(self, frame: connect_pb2.ConnectRequest) -> None:
        self._frame_id += 1
        frame.frame_id = self._frame_id
        self._frames[self._frame_id] = frame
        if len(self._frames) > REMEMBERED_FRAMES:
            self._frames.popitem(last=False)
        self._output.frames.append(frame)

    # --- frames in ---

    def receive(self, frame: connect_pb2.ConnectResponse) -> None:
        """Handles a frame, its fields in the order that `ConnectResponse` states."""
        if not self._open:
            return
        self._liveness.heard()
        if frame.HasField("welcome"):
            self._on_welcome(frame.welcome)
        if frame.HasField("token_renewed"):
            self._token_ends(frame.token_renewed.expire_time)
        if self.shedding:
            self._has_shed |= bool(frame.events or frame.receipts or frame.account)
        else:
            for event in frame.events:
                self.positions.take(event)
                self._control.told(event)
            if frame.events:
                self._after_positions()
        for result in frame.results:
            self._on_result(result)
        if not self.shedding:
            self._on_registers(frame)
        for error in frame.errors:
            self._on_refusal(error)
        if frame.HasField("caught_up"):
            self._reconnect.caught_up()
            self._change(Connection.LIVE)
            self._on_stamp(frame.caught_up.stamp)
        if frame.HasField("pong"):
            if frame.pong.HasField("server_time"):
                self._set_clock(frame.pong.server_time)
            self._on_stamp(frame.pong.stamp)
        if frame.HasField("close"):
            self._guidance = self._reconnect.guided(frame.close)
            self.drop = True

    def _on_welcome(self, welcome: connect_pb2.Welcome) -> None:
        self._reconnect.welcomed()
        self._control.welcomed(self._clock.monotonic())
        self._liveness.is_welcomed = True
        self.user_id, self.device_id = welcome.user_id, welcome.device_id
        self.limits = welcome.limits
        if interval_ns := welcome.limits.ping_interval.ToNanoseconds():
            self._liveness.ping_interval_s = interval_ns / 1e9
        if welcome.HasField("server_time"):
            self._set_clock(welcome.server_time)
        if welcome.HasField("token_expire_time"):
            self._token_ends(welcome.token_expire_time)
        self._change(Connection.CATCHING_UP)

    def _set_clock(self, server_time: timestamp_pb2.Timestamp) -> None:
        self._ahead_s = server_time.ToNanoseconds() / 1e9 - self._clock.time()

    def _token_ends(self, time: timestamp_pb2.Timestamp) -> None:
        # By the server's own clock: the device's may be wrong.
        left_s = time.ToNanoseconds() / 1e9 - self.server_time_s
        self._liveness.token_ends_in(left_s, self._clock.monotonic())

    def _after_positions(self) -> None:
        positions = self.positions
        self._output.events.extend(positions.out)
        positions.out.clear()
        self._output.fetches.extend(positions.fetches)
        positions.fetches.clear()
        self.drop |= positions.stuck

    def _on_registers(self, frame: connect_pb2.ConnectResponse) -> None:
        events = self._output.events
        events.extend(
            ev.ReceiptChanged(each.channel_id, each.user_id, each.delivered_id, each.read_id)
            for each in frame.receipts
        )
        events.extend(
            ev.TypingChanged(each.channel_id, each.user_id, each.thread_root_id, each.active)
            for each in frame.typing
        )
        events.extend(ev.PresenceChanged(change) for change in frame.presence)
        for event in frame.account:
            if event.HasField("reset") or event.id > self._account_id:
                self._account_id, self._account_cursor = event.id, event.cursor
                events.append(ev.AccountChanged(event))

    def _on_stamp(self, stamp: str) -> None:
        # What waits behind a hole, or was shed, is not handed out: a stamp must not promise it.
        if stamp and self.positions.complete and not self._has_shed:
            self._stamp = stamp
            self._output.events.append(ev.StampReached(stamp))

    # --- answers ---

    def _on_result(self, result: connect_pb2.SendResult) -> None:
        self._on_answer(*self.outbox.answered(result))
        if result.HasField("error"):
            error = from_status(result.error)
            held_by = error.metadata.get("client_message_id", "")
            if error.reason == EARLIER and held_by and held_by not in self.outbox:
                # The server waits for a send that was given up here: a new stream forgets it.
                self._resume_now = self.drop = True

    def _on_answer(self, outcome: Outcome | None, pause: ChinwagError | None) -> None:
        if outcome is not None:
            self._output.outcomes.append(outcome)
            self._send_backoff.reset()
        if pause is not None:
            self._pause_sends(max(self._send_backoff.next(), pause.retry_after or 0.0))

    def _pause_sends(self, wait_s: float) -> None:
        self._send_at = max(self._send_at, self._clock.monotonic() + wait_s)

    def _on_refusal(self, error: connect_pb2.FrameError) -> None:
        """A frame or a part of it was refused. Sends have results of their own, unless the frame
        was refused whole."""
        refused = from_status(error.status)
        frame = self._frames.get(error.frame_id)
        if error.field.startswith("marks["):
            self._control.marks.drop(error.channel_id)
        elif error.field.startswith("renew_token"):
            self.renewal_failed()
        elif frame is None or error.field:
            return
        elif frame.sends:
            verdict = _SPLIT if len(frame.sends) > 1 and not refused.is_temporary else refused
            for request in frame.sends:
                self._on_answer(*self.outbox.refused(request.client_message_id, verdict))
        elif refused.is_temporary:
            self._say_again(frame, refused.retry_after or 1.0)

    def _say_again(self, frame: connect_pb2.ConnectRequest, wait_s: float) -> None:
        """A control frame was refused for a moment."""
        self._pause_sends(wait_s)
        self._control.marks.again(self._clock.monotonic() + wait_s)
        if frame.HasField("renew_token"):
            self.renewal_failed()
        if frame.subscribe or frame.unsubscribe or frame.HasField("watches"):
            # A new hello says what is wanted; this is too rare for a way of its own.
            self.drop = True

    # --- holes ---

    def fetched(self, number: int, answer: chat_service_pb2.SyncResponse) -> None:
        """The answer to one of `Output.fetches`."""
        self.positions.fetched(number, answer.events, answer.has_more)
        self._after_positions()

    def fetch_failed(self, number: int) -> None:
        """A fetch failed for good: a new connection resumes at the positions."""
        if self._open and self.positions.awaits(number):
            self.drop = True

    def _change(
        self,
        connection: Connection,
        error: ChinwagError | None = None,
        retry_in_s: float | None = None,
    ) -> None:
        if connection is not self.connection or error is not None:
            self.connection = connection
            self._output.events.append(ev.ConnectionChanged(connection, error, retry_in_s))
