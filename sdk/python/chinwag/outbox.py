"""The ordered outbox: nothing passes an unresolved send of the same channel.

No I/O here. A send is queued, then under way, then resolved: stored, refused for good, or given up
after seven days. Several may be under way at once: a server that refuses one for a moment refuses
the later ones of its channel too (EARLIER_SEND_REFUSED) until it comes again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from chinwag.chat.v1 import connect_pb2
from chinwag.errors import ChinwagError, OutboxFull, SendExpired

GIVE_UP_S = 7 * 86_400.0
_FOR_A_MOMENT = frozenset(
    {"RATE_LIMITED", "OVERLOADED", "STORAGE_UNAVAILABLE", "DRAINING", "EARLIER_SEND_REFUSED"}
)

# What became of a send: its message id, or the error.
Outcome = int | ChinwagError


@dataclass(slots=True, eq=False)
class Pending:
    """A message on its way.

    Attributes:
        order: Rises with each send of a device.
        time_s: When it was made, seconds since 1970.
        resolved: Called once with the outcome.
    """

    order: int
    time_s: float
    request: connect_pb2.SendMessageRequest
    resolved: Callable[[Outcome], None] | None = None
    under_way: bool = False

    @property
    def id(self) -> str:
        return self.request.client_message_id


class Outbox:
    """Sends by channel, in order.

    Args:
        max_sends: Unresolved sends in all; one more is refused with OutboxFull.
        max_under_way: Sends that may be under way at once.
    """

    def __init__(self, *, max_sends: int = 10_000, max_under_way: int = 500) -> None:
        self._max_sends = max_sends
        self._max_under_way = max_under_way
        self._by_channel: dict[str, deque[Pending]] = {}
        self._by_id: dict[str, Pending] = {}
        self._paused_until: dict[str, float] = {}
        self._under_way = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, pending: Pending) -> None:
        """Queues a send.

        Raises:
            OutboxFull: As many wait as may.
        """
        if len(self._by_id) >= self._max_sends:
            raise OutboxFull(f"{self._max_sends} messages wait to be sent: wait for some of them")
        self._by_channel.setdefault(pending.request.channel_id, deque()).append(pending)
        self._by_id[pending.id] = pending

    def disconnected(self) -> None:
        """What was under way is queued again, where it stands: it may or may not be stored."""
        for pending in self._by_id.values():
            pending.under_way = False
        self._under_way = 0
        self._paused_until.clear()

    def take(self, now: float, limit: int) -> list[Pending]:
        """The sends to put in the next frame, at most `limit`.

        Args:
            now: The monotonic clock, seconds.
        """
        taken: list[Pending] = []
        room = min(limit, self._max_under_way - self._under_way)
        if room <= 0:
            return taken
        for channel_id, queue in self._by_channel.items():
            if self._paused_until.get(channel_id, 0.0) > now:
                continue
            # Within a channel the queued ones follow those under way. After a refusal for a
            # moment they wait until nothing is under way, and start again with the first.
            again = queue[0].under_way is False and any(p.under_way for p in queue)
            if again:
                continue
            for pending in queue:
                if len(taken) == room:
                    break
                if not pending.under_way:
                    taken.append(pending)
        taken.sort(key=lambda pending: pending.order)
        for pending in taken:
            pending.under_way = True
        self._under_way += len(taken)
        return taken

    def next_time(self, now: float) -> float | None:
        """When a paused channel may send again."""
        times = [until for until in self._paused_until.values() if until > now]
        return min(times) if times else None

    def stored(self, client_message_id: str, message_id: int) -> Pending | None:
        """The send is durable: told by a result, or by its own entry."""
        return self._resolve(client_message_id, message_id)

    def refused(self, client_message_id: str, error: ChinwagError, now: float) -> Pending | None:
        """The send was refused: for good it is resolved and given back, for a moment it is
        queued again."""
        pending = self._by_id.get(client_message_id)
        if pending is None:
            return None
        if error.reason not in _FOR_A_MOMENT:
            return self._resolve(client_message_id, error)
        if pending.under_way:
            pending.under_way = False
            self._under_way -= 1
        if error.reason != "EARLIER_SEND_REFUSED":
            channel_id = pending.request.channel_id
            until = now + (error.retry_after if error.retry_after is not None else 1.0)
            self._paused_until[channel_id] = max(until, self._paused_until.get(channel_id, 0.0))
        return None

    def expire(self, time_s: float) -> list[Pending]:
        """Gives up what was made too long ago. What may be under way is left to its answer."""
        old = [
            pending
            for pending in self._by_id.values()
            if time_s - pending.time_s > GIVE_UP_S and not pending.under_way
        ]
        for pending in old:
            self._resolve(
                pending.id,
                SendExpired("the message could not be sent for 7 days", reason="SEND_EXPIRED"),
            )
        return old

    def fail_all(self, error: ChinwagError) -> None:
        """Tells everybody who waits that this client will not send any more. The sends stay in
        the client's store for the next one."""
        for pending in list(self._by_id.values()):
            if pending.resolved is not None:
                pending.resolved(error)
                pending.resolved = None

    def _resolve(self, client_message_id: str, outcome: Outcome) -> Pending | None:
        pending = self._by_id.pop(client_message_id, None)
        if pending is None:
            return None
        channel_id = pending.request.channel_id
        queue = self._by_channel[channel_id]
        queue.remove(pending)
        if not queue:
            del self._by_channel[channel_id]
            self._paused_until.pop(channel_id, None)
        if pending.under_way:
            self._under_way -= 1
        if pending.resolved is not None:
            pending.resolved(outcome)
            pending.resolved = None
        return pending
