"""What is recorded while faults happen: each send and its outcome, and what each device saw."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Sent:
    """A message that an application gave to its client. Times are of the monotonic clock.

    Attributes:
        device: (user, device) that sends it.
        message_id: As it was acked; 0: it was not, or not yet.
        refused: The reason with which it was refused for good; "": it was not.
    """

    device: tuple[str, str]
    channel_id: str
    key: str
    text: str
    sent_at: float
    done_at: float = 0.0
    message_id: int = 0
    refused: str = ""


@dataclass(slots=True)
class Edited:
    """An edit of one's own message; one that was not acked may have been stored or not."""

    user_id: str
    channel_id: str
    message_id: int
    text: str
    is_acked: bool = False


@dataclass(slots=True, frozen=True)
class Opened:
    """A device was told that its view of a channel begins after an entry."""

    after_id: int


@dataclass(slots=True, frozen=True)
class Entry:
    """A device's application was handed an entry; `payload` is the whole of it."""

    id: int
    payload: bytes


@dataclass(slots=True, frozen=True)
class Gap:
    """A device was told of ids that its user may not see."""

    from_id: int
    to_id: int


@dataclass(slots=True, frozen=True)
class Reset:
    """A device was told that what it has of a channel is void, and begins after an entry."""

    reason: str
    after_id: int


Item = Opened | Entry | Gap | Reset


@dataclass(slots=True)
class Seen:
    """What one device's application saw.

    Attributes:
        items: By channel, in order.
        read_ids: By channel the highest mark that the application set.
        closes: When connections ended that had been live, by the monotonic clock.
    """

    user_id: str
    device: str
    items: dict[str, list[Item]] = field(default_factory=dict)
    read_ids: dict[str, int] = field(default_factory=dict)
    closes: list[float] = field(default_factory=list)


@dataclass(slots=True)
class History:
    """All that was recorded.

    Attributes:
        wall_s: The wall clock's time when the monotonic clock was at 0.
        acks: When each ack came.
        deliveries: When each entry was handed to an application.
        delays: By (sender, key) of a message how long it took to the last device so far.
        lags: The same since its owner gave it its time, before it was stored.
    """

    wall_s: float = field(default_factory=lambda: time.time() - time.monotonic())
    sends: dict[tuple[str, str], Sent] = field(default_factory=dict)
    edits: list[Edited] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    acks: list[float] = field(default_factory=list)
    deliveries: list[float] = field(default_factory=list)
    delays: dict[tuple[str, str], float] = field(default_factory=dict)
    lags: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def unanswered(self) -> list[Sent]:
        """Sends whose outcome is not known."""
        return [sent for sent in self.sends.values() if not sent.done_at]
