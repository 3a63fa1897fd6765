"""The client's side of the delivery contract, without I/O.

A `DeviceProtocol` is told what happens (connected, a frame came, the connection was lost, time
passed, the application wants to send) and says what to do: `take` gives the frames to write, the
events for the application in their order, what became of sends, and the holes to fetch;
`next_tick` when to call `tick`; `drop` that the connection is to be ended; and after a break `plan`
or `error` whether and how to connect again. Sockets, tasks and threads are the skins' business
(`connection`, `blocking`). docs/delivery.md says what it holds.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import dataclass, field

from google.protobuf import timestamp_pb2

from chinwag import events as ev
from chinwag.backoff import Backoff
from chinwag.chat.v1 import chat_service_pb2, connect_pb2, entry_pb2, message_pb2
from chinwag.clock import Clock
from chinwag.errors import ChinwagError, ClientClosed, InvalidArgument, Unavailable, from_status
from chinwag.events import Connection, Cursor
from chinwag.ids import MessageIds
from chinwag.marks import Marks
from chinwag.outbox import EARLIER, EXPIRE_S, Outbox, Outcome, Send
from chinwag.positions import Fetch, Positions
from chinwag.presence.v1 import presence_pb2
from chinwag.reconnect import Plan, Reconnect
from chinwag.store import Saved

VERSION = 1
CLIENT = "chinwag-python/0.1.0"
MAX_CURSORS = 20_000
FRAME_BYTES = 512 << 10
WELCOME_TIMEOUT_S = 15.0
PONG_TIMEOUT_S = 10.0
# An answer to a send that does not come for so long never will: resume over a new connection.
ANSWER_TIMEOUT_S = 60.0
TYPING_REPEAT_S = 4.0


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
        outbox: Where sends wait; with those of `saved` in it.

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
        outbox: Outbox | None = None,
    ) -> None:
        self.connection = Connection.WAITING
        self.plan = Plan(0.0)
        self.retry_at = clock.monotonic()
        self.error: ChinwagError | None = None
        self.drop = False
        self.token_wanted = False
        self.shedding = False
        self.user_id = self.device_id = ""
        self.limits = connect_pb2.Limits(max_sends_per_frame=100, max_frame_bytes=4 << 20)
        self.outbox = outbox if outbox is not None else Outbox(saved.sends)
        self.positions = Positions(saved.cursors)
        self._clock = clock
        self._subscriptions = (
            connect_pb2.Subscriptions(receipts=True, typing=True, account=True)
            if subscriptions is None
            else subscriptions
        )
        self._catch_up_limit = catch_up_limit
        self._ids = MessageIds(rng)
        self._reconnect = Reconnect(rng)
        self._send_backoff = Backoff(rng, base_s=0.2, cap_s=10.0)
        self._marks = Marks()
        self._output = Output()
        self._control = connect_pb2.ConnectRequest()
        self._frames: OrderedDict[int, connect_pb2.ConnectRequest] = OrderedDict()
        self._frame_id = 0
        self._looking: dict[str, None] = {}
        self._watches: connect_pb2.PresenceWatches | None = None
        self._typed: dict[tuple[str, int], float] = {}
        self._stamp = saved.stamp
        self._account_cursor, self._account_id = saved.account_cursor, 0
        self._guidance: Plan | ChinwagError | None = None
        self._resume_now = self._has_shed = self._is_paused = False
        self._open = self._welcomed = False
        self._connected_at = self._heard_at = self._wrote_at = self.retry_at
        self._pinged_at: float | None = None
        self._send_at = 0.0
        self._renew_at: float | None = None
        self._ahead_s = 0.0

    # --- what a skin asks ---

    def take(self) -> Output:
        """What has to be done now; each thing is given once."""
        if self._open:
            self._write()
        output, self._output = self._output, Output()
        output.events.extend(self.positions.out)
        self.positions.out.clear()
        return output

    @property
    def next_tick(self) -> float | None:
        """When `tick` has to be called, by the monotonic clock; None: not by itself."""
        times: list[float] = []
        if self._open:
            if not self._welcomed:
                times.append(self._connected_at + WELCOME_TIMEOUT_S)
            else:
                times.append(self._wrote_at + self._ping_interval_s)
                if self.outbox and self._send_at > self._clock.monotonic():
                    times.append(self._send_at)
                if self._marks.due is not None:
                    times.append(self._marks.due)
                if self._renew_at is not None:
                    times.append(self._renew_at)
            if not self._is_paused:
                if self._pinged_at is not None:
                    times.append(self._pinged_at + PONG_TIMEOUT_S)
                oldest = self.outbox.oldest_in_flight
                if oldest is not None:
                    times.append(oldest + ANSWER_TIMEOUT_S)
        created = self.outbox.oldest_create_time_s
        if created is not None:
            left = created + EXPIRE_S - self._clock.time()
            times.append(self._clock.monotonic() + max(left, 0.0) + 1.0)
        return min(times, default=None)

    @property
    def _ping_interval_s(self) -> float:
        return self.limits.ping_interval.ToNanoseconds() / 1e9 or 30.0

    def tick(self) -> None:
        """Time has passed."""
        now = self._clock.monotonic()
        self._output.outcomes.extend(self.outbox.expire(self._clock.time()))
        if not self._open:
            return
        if not self._welcomed:
            self.drop |= now - self._connected_at >= WELCOME_TIMEOUT_S
            return
        if not self._is_paused:
            oldest = self.outbox.oldest_in_flight
            no_pong = self._pinged_at is not None and now - self._pinged_at >= PONG_TIMEOUT_S
            self.drop |= no_pong or (oldest is not None and now - oldest >= ANSWER_TIMEOUT_S)
        if self._renew_at is not None and now >= self._renew_at:
            self._renew_at = None
            self.token_wanted = True
        if now - self._wrote_at >= self._ping_interval_s:
            self._control.ping.id = int(now * 1000)
            if self._pinged_at is None:
                self._pinged_at = now

    # --- what happens to the connection ---

    def connecting(self) -> None:
        """An attempt begins."""
        self._change(Connection.CONNECTING)

    def connected(self) -> None:
        """A stream is open: hello goes first."""
        now = self._clock.monotonic()
        self._open, self._welcomed, self.drop = True, False, False
        self._connected_at = self._heard_at = self._wrote_at = now
        self._pinged_at = self._renew_at = None
        self._guidance = None
        self._frames.clear()
        self._control = connect_pb2.ConnectRequest()
        hello = self._control.hello
        hello.protocol_version = VERSION
        hello.client = CLIENT
        hello.resume_stamp = self._stamp
        hello.catch_up_limit = self._catch_up_limit
        wanted = hello.subscriptions
        wanted.CopyFrom(self._subscriptions)
        wanted.account_cursor = self._account_cursor
        if self._watches is not None:
            wanted.watches.CopyFrom(self._watches)
        for cursor in self.positions.cursors()[-MAX_CURSORS:]:
            to = wanted.channels if cursor.channel_id in self._looking else hello.cursors
            to.add(channel_id=cursor.channel_id, generation=cursor.generation, id=cursor.id)

    def connection_lost(self, error: ChinwagError | None = None) -> None:
        """The stream has ended, or could not be opened: `plan` or `self.error` says what next.

        Args:
            error: The status with which it ended; None: it just broke.
        """
        if self.error is not None:
            return
        self._open = self._welcomed = self.drop = self.token_wanted = False
        self.outbox.connection_lost()
        self.positions.connection_lost()
        self._output.fetches.clear()
        if self._resume_now:
            decided: Plan | ChinwagError = Plan(0.0)
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
        """The skin stops reading: silence is no sign of a dead peer now."""
        self._is_paused = True

    def unpause(self) -> None:
        """The skin reads again."""
        if self._is_paused:
            self._is_paused = False
            if self._pinged_at is not None:
                self._pinged_at = self._clock.monotonic()

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
        self._marks.raise_to(channel_id, read_id, delivered_id, now, lazy=lazy)

    def typing(self, channel_id: str, *, active: bool = True, thread_root_id: int = 0) -> None:
        """Tells that the user types: at most every four seconds, and only while connected."""
        if not self._welcomed:
            return
        now, key = self._clock.monotonic(), (channel_id, thread_root_id)
        if active and now - self._typed.get(key, -TYPING_REPEAT_S) < TYPING_REPEAT_S:
            return
        if active:
            self._typed[key] = now
        else:
            self._typed.pop(key, None)
        if len(self._typed) > 100:
            self._typed.clear()
        if len(self._control.typing) < 16:
            self._control.typing.add(
                channel_id=channel_id, thread_root_id=thread_root_id, active=active
            )

    def look(self, start: Cursor) -> None:
        """Wants a broadcast channel's entries, from `start` if it is not looked at already."""
        cursor = self.positions.look(start)
        self._looking[cursor.channel_id] = None
        if self._welcomed:
            self._control.subscribe.add(
                channel_id=cursor.channel_id, generation=cursor.generation, id=cursor.id
            )

    def look_away(self, channel_id: str) -> None:
        """Does not want them any more."""
        if channel_id in self._looking:
            del self._looking[channel_id]
            self.positions.forget(channel_id)
            if self._welcomed:
                self._control.unsubscribe.append(channel_id)

    def watch(self, watches: list[presence_pb2.Watch]) -> None:
        """The users whose presence is wanted, in place of those before."""
        self._watches = connect_pb2.PresenceWatches(watches=watches)
        if self._welcomed:
            self._control.watches.CopyFrom(self._watches)

    def renew_token(self, access_token: str) -> None:
        """Gives the open stream a fresh token."""
        self.token_wanted = False
        if self._welcomed:
            self._control.renew_token.access_token = access_token

    def renewal_failed(self) -> None:
        """No fresh token could be had for now."""
        self.token_wanted = False
        self._renew_at = self._clock.monotonic() + 10.0

    @property
    def server_time_s(self) -> float:
        """Seconds since 1970 by the server's clock, as far as it is known."""
        return self._clock.time() + self._ahead_s

    # --- frames out ---

    def _write(self) -> None:
        now = self._clock.monotonic()
        frames = self._output.frames
        before = len(frames)
        control = self._control
        if self._welcomed and not control.HasField("hello"):
            control.marks.extend(self._marks.take(now))
        if control.ByteSize():
            self._control = connect_pb2.ConnectRequest()
            self._add_frame(control)
        if self._welcomed and now >= self._send_at:
            most = self.limits.max_sends_per_frame or 1
            limit = min(FRAME_BYTES, self.limits.max_frame_bytes * 3 // 4)
            while sends := self.outbox.take(most, limit, now):
                self._add_frame(connect_pb2.ConnectRequest(sends=[send.request for send in sends]))
        if len(frames) > before:
            self._wrote_at = now

    def _add_frame(self, frame: connect_pb2.ConnectRequest) -> None:
        self._frame_id += 1
        frame.frame_id = self._frame_id
        self._frames[self._frame_id] = frame
        if len(self._frames) > 256:
            self._frames.popitem(last=False)
        self._output.frames.append(frame)

    # --- frames in ---

    def receive(self, frame: connect_pb2.ConnectResponse) -> None:
        """Handles a frame, its fields in the order that `ConnectResponse` states."""
        if not self._open:
            return
        self._heard_at = self._clock.monotonic()
        self._pinged_at = None
        if frame.HasField("welcome"):
            self._on_welcome(frame.welcome)
        if frame.HasField("token_renewed"):
            self._token_ends(frame.token_renewed.expire_time.ToNanoseconds() / 1e9)
        if self.shedding:
            self._has_shed |= bool(frame.events or frame.receipts or frame.account)
        else:
            for event in frame.events:
                self._on_event(event)
        for result in frame.results:
            self._on_answer(*self.outbox.answered(result), result)
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
        self._welcomed = True
        self._reconnect.welcomed()
        self.user_id, self.device_id = welcome.user_id, welcome.device_id
        self.limits = welcome.limits
        if welcome.HasField("server_time"):
            self._set_clock(welcome.server_time)
        if welcome.HasField("token_expire_time"):
            self._token_ends(welcome.token_expire_time.ToNanoseconds() / 1e9)
        # Marks have no answer: those of the last connection may not have arrived.
        self._marks.again(self._clock.monotonic())
        self._change(Connection.CATCHING_UP)

    def _set_clock(self, server_time: timestamp_pb2.Timestamp) -> None:
        self._ahead_s = server_time.ToNanoseconds() / 1e9 - self._clock.time()

    def _token_ends(self, time_s: float) -> None:
        # By the server's own clock: the device's may be wrong.
        left_s = time_s - self.server_time_s
        self._renew_at = self._clock.monotonic() + max(left_s * 0.8, 1.0)

    def _on_event(self, event: entry_pb2.Event) -> None:
        self.positions.take(event)
        if event.HasField("state"):
            self._marks.confirmed(event.state)
        elif event.HasField("reset") and self.positions.cursor(event.reset.channel_id) is None:
            self._looking.pop(event.reset.channel_id, None)
            self._marks.drop(event.reset.channel_id)
        self._after_positions()

    def _after_positions(self) -> None:
        # In order with what does not come by way of the positions.
        self._output.events.extend(self.positions.out)
        self.positions.out.clear()
        self._output.fetches.extend(self.positions.fetches)
        self.positions.fetches.clear()
        self.drop |= self.positions.stuck

    def _on_registers(self, frame: connect_pb2.ConnectResponse) -> None:
        events = self._output.events
        for receipt in frame.receipts:
            events.append(
                ev.ReceiptChanged(
                    receipt.channel_id, receipt.user_id, receipt.delivered_id, receipt.read_id
                )
            )
        for typing in frame.typing:
            events.append(
                ev.TypingChanged(
                    typing.channel_id, typing.user_id, typing.thread_root_id, typing.active
                )
            )
        events.extend(ev.PresenceChanged(change) for change in frame.presence)
        for event in frame.account:
            if event.HasField("reset") or event.id > self._account_id:
                self._account_id, self._account_cursor = event.id, event.cursor
                events.append(ev.AccountChanged(event))

    def _on_stamp(self, stamp: str) -> None:
        # What waits behind a hole is not handed out: a stamp must not promise it.
        if stamp and self.positions.complete and not self._has_shed:
            self._stamp = stamp
            self._output.events.append(ev.StampReached(stamp))

    # --- answers ---

    def _on_answer(
        self,
        outcome: Outcome | None,
        pause: ChinwagError | None,
        result: connect_pb2.SendResult | None = None,
    ) -> None:
        if outcome is not None:
            self._output.outcomes.append(outcome)
            self._send_backoff.reset()
        if pause is not None:
            now = self._clock.monotonic()
            wait_s = max(self._send_backoff.next(), pause.retry_after or 0.0)
            self._send_at = max(self._send_at, now + wait_s)
        if result is not None and result.HasField("error"):
            error = from_status(result.error)
            held_by = error.metadata.get("client_message_id", "")
            if error.reason == EARLIER and held_by and held_by not in self.outbox:
                # The server waits for a send that was given up here: a new stream forgets it.
                self._resume_now = self.drop = True

    def _on_refusal(self, error: connect_pb2.FrameError) -> None:
        """A frame or a part of it was refused. Sends have results of their own, unless the frame
        was refused whole."""
        refused = from_status(error.status)
        frame = self._frames.get(error.frame_id)
        if error.field.startswith("marks["):
            self._marks.drop(error.channel_id)
        elif error.field.startswith("renew_token"):
            self.renewal_failed()
        elif frame is None or error.field:
            return
        elif frame.sends:
            for request in frame.sends:
                one_by_one = len(frame.sends) > 1 and not refused.is_temporary
                verdict = _SPLIT if one_by_one else refused
                self._on_answer(*self.outbox.refused(request.client_message_id, verdict))
        elif refused.is_temporary:
            self._again(frame, refused)

    def _again(self, frame: connect_pb2.ConnectRequest, refused: ChinwagError) -> None:
        """A frame without sends was refused for a moment."""
        now = self._clock.monotonic()
        self._send_at = max(self._send_at, now + (refused.retry_after or 1.0))
        self._marks.again(now + (refused.retry_after or 1.0))
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

    # --- small things ---

    def _change(
        self,
        connection: Connection,
        error: ChinwagError | None = None,
        retry_in_s: float | None = None,
    ) -> None:
        if connection is not self.connection or error is not None:
            self.connection = connection
            self._output.events.append(ev.ConnectionChanged(connection, error, retry_in_s))


# What is said of each send of a frame that was refused whole, so that they go one by one.
_SPLIT = Unavailable("the frame was refused as a whole", reason="TOO_LARGE", code=14)
