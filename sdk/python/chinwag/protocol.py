"""The client's side of the delivery contract, without I/O.

A `Protocol` is told what happens (connected, a frame came, the connection broke, time passed, the
application wants to send) and says what to do: frames to write (`frames_to_send`), events for the
application in order (`take_events`), holes to fetch (`holes`), when to be woken (`next_time`), and
after a broken connection whether and when to connect again (`retry_at`, `closed`). Sockets, tasks and
threads are the skins' (`client`, `blocking`). docs/delivery.md says what it holds.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from chinwag import events as ev
from chinwag.backoff import Backoff
from chinwag.chat.v1 import channel_pb2, chat_service_pb2, connect_pb2, entry_pb2
from chinwag.common.v1 import close_pb2
from chinwag.errors import ChinwagError, ClientClosed, Replaced, from_status
from chinwag.events import Connection, Cursor
from chinwag.ids import MessageIds
from chinwag.outbox import Outbox, Outcome, Pending
from chinwag.store import Saved, SavedSend

PROTOCOL_VERSION = 1
PONG_TIMEOUT_S = 10.0
HELLO_TIMEOUT_S = 20.0
DEFAULT_PING_S = 30.0
MAX_HELLO_CURSORS = 20_000
EXPIRE_EVERY_S = 60.0

_Reset = entry_pb2.ChannelReset


class Protocol:
    """One device's conversation with the server, over any number of connections.

    Args:
        saved: What the device's store held.
        user_id: The device's user, so that own messages resolve their sends; empty: unknown
            until the first welcome.
        wall: Seconds since 1970.
        rng: For jitter and message ids.
        subscriptions: What the stream carries beside events and results.
        catch_up_limit: See `Hello.catch_up_limit`.
        max_sends: Bound of the outbox.
    """

    def __init__(
        self,
        saved: Saved,
        *,
        wall: Callable[[], float],
        rng: random.Random,
        user_id: str = "",
        client: str = "chinwag-python",
        subscriptions: connect_pb2.Subscriptions | None = None,
        catch_up_limit: int = 0,
        max_sends: int = 10_000,
    ) -> None:
        self.user_id = user_id
        self.connection = Connection.WAITING
        self.closed: ChinwagError | None = None
        self.retry_at = 0.0
        self.address = ""
        self.needs_token = False
        self.limits = connect_pb2.Limits(max_sends_per_frame=100)
        self.outbox = Outbox(max_sends=max_sends)
        self._wall = wall
        self._rng = rng
        self._ids = MessageIds(rng)
        self._backoff = Backoff(rng)
        self._client = client
        self._subscriptions = subscriptions or connect_pb2.Subscriptions()
        self._catch_up_limit = catch_up_limit
        self._positions: dict[str, Cursor] = dict(saved.cursors)
        self._stamp = saved.stamp
        self._looking: dict[str, None] = {}
        # By channel the greatest id that came after a hole: the channel is fetched up to it.
        self._holes: dict[str, int] = {}
        self._fetching: set[str] = set()
        self._marks: dict[str, connect_pb2.Mark] = {}
        self._sent_marks: dict[str, connect_pb2.Mark] = {}
        self._out: deque[connect_pb2.ConnectRequest] = deque()
        self._events: deque[ev.Event] = deque()
        self._clock_ahead = 0.0
        self._order = 0
        self._connected = False
        self._last_sent = self._last_heard = self._connected_at = 0.0
        self._pinged_at: float | None = None
        self._next_expiry = 0.0
        for send in saved.outbox:
            self._order = max(self._order, send.order)
            self.outbox.add(Pending(send.order, send.time_s, send.request))

    # --- what the skin asks ---

    def frames_to_send(self, now: float) -> list[connect_pb2.ConnectRequest]:
        """Frames to write, in order. Sends are put in once the server has welcomed us."""
        if not self._connected:
            return []
        frames = list(self._out)
        self._out.clear()
        if self.connection in (Connection.CATCHING_UP, Connection.LIVE):
            if self._marks:
                marks = list(self._marks.values())
                self._sent_marks.update(self._marks)
                self._marks.clear()
                for start in range(0, len(marks), 1000):
                    frames.append(connect_pb2.ConnectRequest(marks=marks[start : start + 1000]))
            frames += self._send_frames(now)
        if frames:
            self._last_sent = now
        return frames

    def _send_frames(self, now: float) -> list[connect_pb2.ConnectRequest]:
        frames: list[connect_pb2.ConnectRequest] = []
        max_bytes = (self.limits.max_frame_bytes or 1 << 20) * 3 // 4
        while batch := self.outbox.take(now, self.limits.max_sends_per_frame or 1):
            frame = connect_pb2.ConnectRequest()
            size = 0
            for pending in batch:
                weight = pending.request.ByteSize()
                if size and size + weight > max_bytes:
                    frames.append(frame)
                    frame, size = connect_pb2.ConnectRequest(), 0
                frame.sends.append(pending.request)
                size += weight
            frames.append(frame)
        return frames

    def take_events(self) -> list[ev.Event]:
        """Events for the application, in order; each is given once."""
        taken = list(self._events)
        self._events.clear()
        return taken

    def holes(self) -> list[chat_service_pb2.SyncRequest]:
        """Fetches to make, each to be answered by `fetched` or `fetch_failed`."""
        requests = []
        for channel_id in self._holes:
            if channel_id not in self._fetching and self._connected:
                self._fetching.add(channel_id)
                requests.append(
                    chat_service_pb2.SyncRequest(
                        cursors=[self._cursor_pb(channel_id)], cursors_only=True, max_entries=1000
                    )
                )
        return requests

    def next_time(self, now: float) -> float | None:
        """When `tick` wants to be called, by the monotonic clock; None: not by itself."""
        if self.closed is not None:
            return None
        if not self._connected:
            return self.retry_at
        times = [self._last_sent + self._ping_s]
        if self._pinged_at is not None:
            times.append(self._pinged_at + PONG_TIMEOUT_S)
        if self.connection is Connection.CONNECTING:
            times.append(self._connected_at + HELLO_TIMEOUT_S)
        paused = self.outbox.next_time(now)
        if paused is not None:
            times.append(paused)
        return min(times)

    @property
    def _ping_s(self) -> float:
        return self.limits.ping_interval.ToNanoseconds() / 1e9 or DEFAULT_PING_S

    # --- what happens to the connection ---

    def connected(self, now: float) -> None:
        """A stream is open: hello goes out first."""
        self._connected = True
        self._connected_at = self._last_heard = self._last_sent = now
        self._pinged_at = None
        self._out.clear()
        self._set(Connection.CONNECTING)
        cursors = [self._cursor_pb(channel_id) for channel_id in self._positions]
        subscriptions = connect_pb2.Subscriptions()
        subscriptions.CopyFrom(self._subscriptions)
        subscriptions.channels.extend(self._cursor_pb(channel_id) for channel_id in self._looking)
        self._out.append(
            connect_pb2.ConnectRequest(
                hello=connect_pb2.Hello(
                    protocol_version=PROTOCOL_VERSION,
                    client=self._client,
                    resume_stamp=self._stamp,
                    cursors=cursors[:MAX_HELLO_CURSORS],
                    catch_up_limit=self._catch_up_limit,
                    subscriptions=subscriptions,
                )
            )
        )
        # Marks have no answer: those of the last connection may not have arrived.
        for channel_id, mark in self._sent_marks.items():
            self._marks.setdefault(channel_id, mark)
        self._sent_marks.clear()

    def disconnected(self, now: float, error: ChinwagError | None = None) -> None:
        """The stream has ended, by whatever side; or it could not be opened."""
        if self.closed is not None:
            return
        self._connected = False
        self.outbox.disconnected()
        self._fetching.clear()
        if error is not None and error.reason in ("TOKEN_EXPIRED", "TOKEN_REQUIRED"):
            self.needs_token = True
        elif error is not None and error.reason in _FOR_GOOD:
            self.close(error)
            return
        delay = self._backoff.next()
        if error is not None and error.retry_after is not None:
            delay = max(delay, error.retry_after)
        # Guidance of a close frame has set its own time already.
        self.retry_at = max(self.retry_at, now + delay)
        self._set(Connection.WAITING, error, self.retry_at - now)

    def close(self, error: ChinwagError) -> None:
        """No connection is made any more."""
        if self.closed is None:
            self.closed = error
            self._connected = False
            self._set(Connection.CLOSED, error)
            self.outbox.fail_all(error)

    def tick(self, now: float) -> bool:
        """Time has passed. False: the peer is dead, drop the connection."""
        if now >= self._next_expiry:
            self._next_expiry = now + EXPIRE_EVERY_S
            for pending in self.outbox.expire(self._wall()):
                self._events.append(ev.SendDone(pending.id))
        if not self._connected:
            return True
        if self.connection is Connection.CONNECTING:
            return now - self._connected_at < HELLO_TIMEOUT_S
        if self._pinged_at is not None and now - self._pinged_at >= PONG_TIMEOUT_S:
            return False
        if now - self._last_sent >= self._ping_s:
            self._out.append(connect_pb2.ConnectRequest(ping=connect_pb2.Ping(id=int(now))))
            self._pinged_at = now
        return True

    # --- what the application wants ---

    def send(
        self,
        request: connect_pb2.SendMessageRequest,
        resolved: Callable[[Outcome], None] | None = None,
    ) -> SavedSend:
        """Queues a message; gives what the device's store keeps until it is resolved.

        Raises:
            OutboxFull: Too many wait.
            ClientClosed: The client is closed.
        """
        if self.closed is not None:
            raise ClientClosed(f"the client is closed: {self.closed}")
        if not request.client_message_id:
            request.client_message_id = self._ids.draw(self.server_time())
        self._order += 1
        pending = Pending(self._order, self._wall(), request, resolved)
        self.outbox.add(pending)
        return SavedSend(pending.order, pending.time_s, request)

    def mark(self, channel_id: str, *, read_id: int = 0, delivered_id: int = 0) -> None:
        """Raises marks; a later one overwrites an earlier one that has not gone out."""
        mark = self._marks.setdefault(channel_id, connect_pb2.Mark(channel_id=channel_id))
        mark.read_id = max(mark.read_id, read_id)
        mark.delivered_id = max(mark.delivered_id, delivered_id)

    def typing(self, channel_id: str, *, active: bool, thread_root_id: int = 0) -> None:
        """Tells that the user types; lost if there is no connection."""
        if self.connection is Connection.LIVE:
            signal = connect_pb2.TypingSignal(
                channel_id=channel_id, thread_root_id=thread_root_id, active=active
            )
            self._out.append(connect_pb2.ConnectRequest(typing=[signal]))

    def look(self, channel_id: str, start: Cursor) -> None:
        """Wants a broadcast channel's entries, from `start` if the device has no position."""
        self._looking[channel_id] = None
        self._positions.setdefault(channel_id, start)
        if self._connected and self.connection is not Connection.CONNECTING:
            cursor = self._cursor_pb(channel_id)
            self._out.append(connect_pb2.ConnectRequest(subscribe=[cursor]))

    def look_away(self, channel_id: str) -> None:
        """Does not want them any more."""
        if self._looking.pop(channel_id, True) is None and self._connected:
            self._out.append(connect_pb2.ConnectRequest(unsubscribe=[channel_id]))

    def renew_token(self, access_token: str) -> None:
        """Brings the open stream a fresh token."""
        if self._connected:
            token = connect_pb2.RenewToken(access_token=access_token)
            self._out.append(connect_pb2.ConnectRequest(renew_token=token))

    def server_time(self) -> float:
        """Seconds since 1970 by the server's clock, as far as it is known."""
        return self._wall() + self._clock_ahead

    def position(self, channel_id: str) -> Cursor | None:
        """The newest entry that was handed out, or is about to be."""
        return self._positions.get(channel_id)

    # --- frames in ---

    def receive(self, frame: connect_pb2.ConnectResponse, now: float) -> None:
        """Handles a frame, its fields in the order that the contract says."""
        self._last_heard = now
        if self._pinged_at is not None:
            self._pinged_at = None
        if frame.HasField("welcome"):
            self._welcomed(frame.welcome)
        for event in frame.events:
            self._event(event)
        for result in frame.results:
            self._result(result, now)
        for receipt in frame.receipts:
            self._events.append(
                ev.ReceiptChanged(
                    receipt.channel_id, receipt.user_id, receipt.delivered_id, receipt.read_id
                )
            )
        for typing in frame.typing:
            self._events.append(
                ev.TypingChanged(
                    typing.channel_id, typing.user_id, typing.thread_root_id, typing.active
                )
            )
        self._events.extend(ev.PresenceChanged(change) for change in frame.presence)
        self._events.extend(ev.AccountChanged(event) for event in frame.account)
        for error in frame.errors:
            self._frame_refused(error)
        if frame.HasField("caught_up"):
            self._backoff.reset()
            self._set(Connection.LIVE)
            self._stamped(frame.caught_up.stamp)
        if frame.HasField("pong"):
            self._set_clock(frame.pong.server_time.ToNanoseconds() / 1e9)
            self._stamped(frame.pong.stamp)
        if frame.HasField("close"):
            self._guided(frame.close, now)

    def _welcomed(self, welcome: connect_pb2.Welcome) -> None:
        self.user_id = welcome.user_id
        self.limits = welcome.limits
        self._set_clock(welcome.server_time.ToNanoseconds() / 1e9)
        self._set(Connection.CATCHING_UP)

    def _set_clock(self, server_s: float) -> None:
        self._clock_ahead = server_s - self._wall()

    def _stamped(self, stamp: str) -> None:
        # A channel that is being fetched lags behind the stamp; its cursor says so at the next
        # hello, but a stamp must not promise what is not handed out.
        if stamp and not self._holes:
            self._stamp = stamp
            self._events.append(ev.StampReached(stamp))

    def _frame_refused(self, error: connect_pb2.FrameError) -> None:
        if error.field.startswith("marks"):
            self._sent_marks.pop(error.channel_id, None)

    def _guided(self, close: close_pb2.Close, now: float) -> None:
        reason = close_pb2.CloseReason.Name(close.reason).removeprefix("CLOSE_REASON_")
        error = from_status(close.status)
        if not close.reconnect:
            if close.reason == close_pb2.CLOSE_REASON_REPLACED:
                self.close(Replaced("another stream of this device took over", reason=reason))
            else:
                self.close(error if error.reason else ClientClosed(reason, reason=reason))
            return
        if close.reason == close_pb2.CLOSE_REASON_TOKEN_EXPIRED:
            self.needs_token = True
        self.address = close.address
        jitter = close.jitter.ToNanoseconds() / 1e9
        delay = close.min_delay.ToNanoseconds() / 1e9 + self._rng.uniform(0.0, jitter)
        self.retry_at = now + delay

    # --- events ---

    def _event(self, event: entry_pb2.Event, *, fetched: bool = False) -> None:
        kind = event.WhichOneof("event")
        if kind == "entry":
            self._entry(event.entry, fetched=fetched)
        elif kind == "opened":
            opened = event.opened
            cursor = Cursor(opened.channel.id, opened.channel.generation, opened.start_id)
            self._move(cursor)
            self._events.append(
                ev.ChannelOpened(opened.channel.id, opened.channel, opened.state, cursor)
            )
        elif kind == "gap":
            self._gap(event.gap, fetched=fetched)
        elif kind == "reset":
            self._reset(event.reset)
        elif kind == "state":
            self._events.append(ev.StateChanged(event.state.channel_id, event.state))

    def _entry(self, entry: entry_pb2.Entry, *, fetched: bool) -> None:
        position = self._positions.get(entry.channel_id)
        if position is not None and entry.id <= position.id:
            return  # a repeat
        if not fetched and entry.channel_id in self._holes:
            self._hole(entry.channel_id, entry.id)
            return
        if position is None or entry.id != position.id + 1:
            self._hole(entry.channel_id, entry.id)
            return
        self._positions[entry.channel_id] = Cursor(entry.channel_id, position.generation, entry.id)
        sent = entry.message_sent
        if sent.client_message_id and entry.actor_id == self.user_id:
            # The ack may have been lost with the last connection: the entry says the same.
            self._stored(sent.client_message_id, entry.id)
        self._events.append(ev.of_entry(entry, position.generation))

    def _hole(self, channel_id: str, seen_id: int) -> None:
        """Nothing after a hole is handed out before the hole is fetched."""
        self._holes[channel_id] = max(seen_id, self._holes.get(channel_id, 0))
        self._positions.setdefault(channel_id, Cursor(channel_id, 0, 0))

    def _gap(self, gap: entry_pb2.Gap, *, fetched: bool) -> None:
        position = self._positions.get(gap.channel_id)
        if position is None or gap.to_id <= position.id:
            return
        if gap.from_id > position.id + 1 or (not fetched and gap.channel_id in self._holes):
            self._hole(gap.channel_id, gap.to_id)
            return
        cursor = Cursor(gap.channel_id, position.generation, gap.to_id)
        self._positions[gap.channel_id] = cursor
        self._events.append(ev.GapSeen(gap.channel_id, gap.from_id, gap.to_id, cursor))

    def _reset(self, reset: entry_pb2.ChannelReset) -> None:
        reason = _Reset.Reason.Name(reset.reason).removeprefix("REASON_")
        if reset.reason == _Reset.REASON_NOT_VISIBLE:
            self._positions.pop(reset.channel_id, None)
            self._looking.pop(reset.channel_id, None)
            self._holes.pop(reset.channel_id, None)
            self._events.append(ev.ChannelReset(reset.channel_id, reason, None))
            return
        cursor = Cursor(reset.channel_id, reset.generation, reset.start_id)
        self._move(cursor)
        self._events.append(ev.ChannelReset(reset.channel_id, reason, cursor))

    def _move(self, cursor: Cursor) -> None:
        self._positions[cursor.channel_id] = cursor
        if self._holes.get(cursor.channel_id, 0) <= cursor.id:
            self._holes.pop(cursor.channel_id, None)

    # --- fetching holes ---

    def fetched(
        self,
        request: chat_service_pb2.SyncRequest,
        answer: chat_service_pb2.SyncResponse,
    ) -> None:
        """The answer to one of `holes`."""
        for event in answer.events:
            self._event(event, fetched=True)
        for cursor in request.cursors:
            self._fetching.discard(cursor.channel_id)
            position = self._positions.get(cursor.channel_id)
            reached = position.id if position is not None else 1 << 62
            if reached >= self._holes.get(cursor.channel_id, 0):
                self._holes.pop(cursor.channel_id, None)

    def fetch_failed(self, request: chat_service_pb2.SyncRequest) -> None:
        """The fetch is tried again when `holes` is asked next."""
        for cursor in request.cursors:
            self._fetching.discard(cursor.channel_id)

    # --- results ---

    def _result(self, result: connect_pb2.SendResult, now: float) -> None:
        if result.HasField("error"):
            error = from_status(result.error)
            pending = self.outbox.refused(result.client_message_id, error, now)
            if pending is not None:
                self._events.append(ev.SendDone(pending.id))
        else:
            self._stored(result.client_message_id, result.message_id)

    def _stored(self, client_message_id: str, message_id: int) -> None:
        pending = self.outbox.stored(client_message_id, message_id)
        if pending is not None:
            self._events.append(ev.SendDone(pending.id))

    # --- small things ---

    def _cursor_pb(self, channel_id: str) -> channel_pb2.Cursor:
        position = self._positions.get(channel_id) or Cursor(channel_id, 0, 0)
        return channel_pb2.Cursor(
            channel_id=channel_id, generation=position.generation, id=position.id
        )

    def _set(
        self,
        connection: Connection,
        error: ChinwagError | None = None,
        retry_in: float | None = None,
    ) -> None:
        if self.connection is not connection or error is not None:
            self.connection = connection
            self._events.append(ev.ConnectionChanged(connection, error, retry_in))


# A stream that ends with one of these is not opened again.
_FOR_GOOD = frozenset(
    {
        "SESSION_REVOKED",
        "TOKEN_INVALID",
        "BANNED",
        "CREDENTIALS_INVALID",
        "REFRESH_TOKEN_REUSED",
        "VERSION_UNSUPPORTED",
        "NOT_IMPLEMENTED",
    }
)
