"""How long sends and deliveries stood still."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from tests.faults.history import History


@dataclass(slots=True, frozen=True)
class Stillness:
    """In seconds.

    Attributes:
        sends: How many there were.
        acks_s, deliveries_s: The longest time without any.
        send_p99_s, send_s: How long a send waited for its ack: 99th percentile, and most.
        delivery_s: From a send until the last device had it, most.
    """

    sends: int
    acks_s: float
    send_p99_s: float
    send_s: float
    deliveries_s: float
    delivery_s: float

    def __str__(self) -> str:
        return (
            f"{self.sends:4} sends; no ack for {self.acks_s:5.2f} s, a send waited "
            f"{self.send_s:5.2f} s (p99 {self.send_p99_s:5.2f}); no delivery for "
            f"{self.deliveries_s:5.2f} s, one took {self.delivery_s:5.2f} s"
        )


def stillness(history: History, since: float, until: float) -> Stillness:
    """Of what was sent between two times."""
    sends = [sent for sent in history.sends.values() if since <= sent.sent_at < until]
    waits = sorted(sent.done_at - sent.sent_at for sent in sends if sent.message_id) or [0.0]
    delays = [history.delays.get((sent.device[0], sent.key), 0.0) for sent in sends]
    return Stillness(
        sends=len(sends),
        acks_s=_longest_gap(history.acks, since, until),
        send_p99_s=waits[int(len(waits) * 0.99)],
        send_s=waits[-1],
        deliveries_s=_longest_gap(history.deliveries, since, until),
        delivery_s=max(delays, default=0.0),
    )


def _longest_gap(times: Iterable[float], since: float, until: float) -> float:
    within = [at for at in times if since <= at < until]
    return max(b - a for a, b in itertools.pairwise([since, *within, until]))
