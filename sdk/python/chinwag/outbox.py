"""Messages on their way to the server: in order a channel, stored once, none given up in silence.

Pure rules: nothing here knows of a connection. `protocol` asks for the next sends, and tells what
was answered and when the connection was lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from chinwag.chat.v1 import connect_pb2
from chinwag.errors import ChinwagError, OutboxFull, SendExpired, from_status

# docs/delivery.md, 3: the server refuses ids older than 15 days; before that the user is told.
EXPIRE_S = 7 * 24 * 3600.0

# A send of the same channel, earlier than the refused one, has to come again first.
EARLIER = "EARLIER_SEND_REFUSED"


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that is durably stored.

    Attributes:
        message_id: Its id in the channel, also that of its entry.
        create_time: When the server took it, in UTC; None if it was not said.
    """

    channel_id: str
    message_id: int
    client_message_id: str
    create_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a send: exactly one of `sent` and `error` is set."""

    channel_id: str
    client_message_id: str
    sent: Sent | None
    error: ChinwagError | None


@dataclass(slots=True, eq=False)
class Send:
    """A message that is not resolved.

    Attributes:
        number: Its place in the outbox, rising; kept in the client's store.
        create_time_s: When the application gave it, in seconds since 1970 by the device's clock.
        sent_at: When it last went out, by the monotonic clock.
    """

    number: int
    request: connect_pb2.SendMessageRequest
    create_time_s: float
    size_bytes: int = 0
    sent_at: float = 0.0


class Outbox:
    """The unresolved sends of one device.

    A send that is refused for a moment blocks its channel: the server refuses those that were sent
    after it (EARLIER_SEND_REFUSED), and once all have been answered they go again, in order. How
    many may be under way (the *window*) becomes half of what is under way with such a refusal, and
    grows with each answer, as in TCP (RFC 5681, section 3.1): so a limit of the server is found.

    Args:
        sends: Those of an earlier process, in order.
        max_sends, max_bytes: How much may be unresolved.
        max_window, window_bytes: How much may be under way.
    """

    def __init__(
        self,
        sends: Iterable[Send] = (),
        *,
        max_sends: int = 10_000,
        max_bytes: int = 32 << 20,
        max_window: int = 200,
        window_bytes: int = 2 << 20,
    ) -> None:
        self._all: dict[str, Send] = {}
        self._waiting: deque[Send] = deque()
        self._in_flight: dict[str, Send] = {}
        self._in_flight_of: dict[str, int] = {}
        self._blocked: dict[str, list[Send]] = {}
        self._bytes = self._in_flight_bytes = 0
        self._number = 0
        self._max_sends, self._max_bytes = max_sends, max_bytes
        self._max_window, self._window_bytes = max_window, window_bytes
        self._window = float(max_window)
        for send in sends:
            self._add(send)

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, client_message_id: str) -> bool:
        return client_message_id in self._all

    @property
    def in_flight(self) -> int:
        """How many are under way."""
        return len(self._in_flight)

    @property
    def oldest_in_flight(self) -> float | None:
        """When the first of those under way went out; None if none is."""
        # A dict keeps the order of insertion, and each is inserted as it goes out.
        first = next(iter(self._in_flight.values()), None)
        return first.sent_at if first is not None else None

    @property
    def oldest_create_time_s(self) -> float | None:
        """When the first unresolved one was made; None if there is none."""
        first = next(iter(self._all.values()), None)
        return first.create_time_s if first is not None else None

    def _has_room(self) -> bool:
        in_flight = len(self._in_flight)
        return in_flight < int(self._window) and (
            self._in_flight_bytes < self._window_bytes or not in_flight
        )

    def _add(self, send: Send) -> None:
        send.size_bytes = send.request.ByteSize()
        self._number = max(self._number, send.number)
        self._all[send.request.client_message_id] = send
        self._waiting.append(send)
        self._bytes += send.size_bytes

    def post(self, request: connect_pb2.SendMessageRequest, create_time_s: float) -> Send:
        """Takes a message.

        Raises:
            OutboxFull: As many are unresolved as may be; nothing was taken.
        """
        size = request.ByteSize()
        full = self._bytes + size > self._max_bytes
        if len(self._all) >= self._max_sends or (self._all and full):
            raise OutboxFull(
                f"{len(self._all)} messages ({self._bytes} bytes) wait to be sent, as many as may "
                f"({self._max_sends}, {self._max_bytes} bytes): wait for some of them"
            )
        send = Send(self._number + 1, request, create_time_s)
        self._add(send)
        return send

    def withdraw(self, send: Send) -> None:
        """Takes back the newest one, which could not be kept in the client's store."""
        assert self._waiting.pop() is send, "only the newest one, before it goes"
        del self._all[send.request.client_message_id]
        self._bytes -= send.size_bytes

    def take(self, max_sends: int, max_bytes: int, now: float) -> list[Send]:
        """The next ones to send, in one frame; they are under way from here on."""
        taken: list[Send] = []
        size = 0
        while self._waiting and len(taken) < max_sends and self._has_room():
            send = self._waiting[0]
            channel_id = send.request.channel_id
            blocked = self._blocked.get(channel_id)
            if blocked is not None:
                blocked.append(self._waiting.popleft())
                continue
            if taken and size + send.size_bytes > max_bytes:
                break
            self._waiting.popleft()
            send.sent_at = now
            self._in_flight[send.request.client_message_id] = send
            self._in_flight_of[channel_id] = self._in_flight_of.get(channel_id, 0) + 1
            self._in_flight_bytes += send.size_bytes
            size += send.size_bytes
            taken.append(send)
        return taken

    # --- answers ---

    def answered(
        self, result: connect_pb2.SendResult
    ) -> tuple[Outcome | None, ChinwagError | None]:
        """Takes the server's answer to a send.

        Returns:
            What became of the send, if that is certain now; and the error, if sending has to pause
            for a moment.
        """
        if result.HasField("error"):
            return self.refused(result.client_message_id, from_status(result.error))
        send = self._land(result.client_message_id)
        if send is None:
            return None, None
        self._window = min(self._window + 1, self._max_window)
        created = result.create_time.ToDatetime(UTC) if result.HasField("create_time") else None
        sent = Sent(send.request.channel_id, result.message_id, result.client_message_id, created)
        return self._resolve(send, sent, None), None

    def refused(
        self, client_message_id: str, error: ChinwagError
    ) -> tuple[Outcome | None, ChinwagError | None]:
        """Takes a refusal of a send under way; see `answered`."""
        send = self._land(client_message_id)
        if send is None:
            return None, None
        if not error.is_temporary:
            return self._resolve(send, None, error), None
        channel_id = send.request.channel_id
        self._blocked.setdefault(channel_id, []).append(send)
        is_first = error.reason != EARLIER
        if is_first:
            self._window = max(1.0, min(self._window, len(self._in_flight) + 1) / 2)
        self._settle(channel_id)
        return None, error if is_first else None

    def _land(self, client_message_id: str) -> Send | None:
        send = self._in_flight.pop(client_message_id, None)
        if send is None:
            return None
        channel_id = send.request.channel_id
        self._in_flight_bytes -= send.size_bytes
        left = self._in_flight_of[channel_id] - 1
        if left:
            self._in_flight_of[channel_id] = left
        else:
            del self._in_flight_of[channel_id]
        return send

    def _resolve(self, send: Send, sent: Sent | None, error: ChinwagError | None) -> Outcome:
        request = send.request
        del self._all[request.client_message_id]
        self._bytes -= send.size_bytes
        self._settle(request.channel_id)
        return Outcome(request.channel_id, request.client_message_id, sent, error)

    def _settle(self, channel_id: str) -> None:
        """Puts a blocked channel's sends back once none of them is under way: only then is it
        known which ones have to come again."""
        if channel_id in self._blocked and channel_id not in self._in_flight_of:
            self._put_back(self._blocked.pop(channel_id))

    def _put_back(self, sends: Iterable[Send]) -> None:
        self._waiting = deque(sorted([*sends, *self._waiting], key=lambda send: send.number))

    # --- breaks and endings ---

    def connection_lost(self) -> None:
        """What was under way may be stored or not: all of it goes again, in order."""
        back = list(self._in_flight.values())
        for sends in self._blocked.values():
            back.extend(sends)
        self._in_flight.clear()
        self._in_flight_of.clear()
        self._in_flight_bytes = 0
        self._blocked.clear()
        self._put_back(back)

    def expire(self, time_s: float) -> list[Outcome]:
        """Gives up what has been unresolved for seven days.

        Args:
            time_s: Seconds since 1970.
        """
        old = [send for send in self._all.values() if time_s - send.create_time_s > EXPIRE_S]
        if not old:
            return []
        gone = {send.number for send in old}
        self._waiting = deque(send for send in self._waiting if send.number not in gone)
        for channel_id, sends in self._blocked.items():
            self._blocked[channel_id] = [send for send in sends if send.number not in gone]
        outcomes = []
        for send in old:
            self._land(send.request.client_message_id)
            error = SendExpired(
                "the message could not be sent for 7 days; whether an attempt was stored is not "
                "known",
                reason="SEND_EXPIRED",
            )
            outcomes.append(self._resolve(send, None, error))
        return outcomes
