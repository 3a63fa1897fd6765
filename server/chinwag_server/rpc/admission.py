"""How many streams a node opens in a second, and when the others are to come back.

When a node dies, all its devices come to the nodes that are left, at once; and opening a stream
(hello, catch-up) costs far more than carrying it. A token bucket lets in as many as the node can
bear beside its other work. Each of the others is given a slot in a virtual queue, one every
`1 / rate` seconds, and is told to come back then.

The queue is one number, the time of its last slot: nothing is held for those who wait. A client
that comes back finds the token that has come in since, for its slot was given at the rate at which
tokens come. Whoever comes anew meanwhile takes a token too, and one of those who wait then comes in
vain and gets a slot at the end. So every token is used while anybody waits: `n` clients that do as
they are told are in after `n / rate` seconds and the jitter, whatever the order.

Source: the virtual scheduling of the generic cell rate algorithm (ITU-T I.371; see
https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm), with advice in place of a drop.
"""

from __future__ import annotations

from dataclasses import dataclass

from chinwag_server.clock import Clock
from chinwag_server.rpc.ratelimit import Rate

# Nobody is told to wait longer than twice this.
MAX_WAIT_S = 120.0
# Against clients whose timers ring early.
_MARGIN_S = 0.001


@dataclass(slots=True, frozen=True)
class ComeBack:
    """When to try again.

    Attributes:
        min_delay_s: After at least so long.
        jitter_s: And a random time up to this.
    """

    min_delay_s: float
    jitter_s: float


class Admission:
    """One node's streams that are being opened.

    Args:
        rate: How many may be opened a second, and at once after a pause; a rate of 0 admits all.
        max_wait_s: The length of the virtual queue. Those beyond it are spread over as much time
            again, and queue then.
    """

    def __init__(self, rate: Rate, clock: Clock, *, max_wait_s: float = MAX_WAIT_S) -> None:
        self._rate = rate.per_second
        self._burst = max(rate.burst, 1.0)
        self._clock = clock
        self._max_wait_s = max_wait_s
        self._tokens = self._burst
        self._counted = self._last_slot = clock.monotonic()
        # Within the jitter no more tokens gather than the bucket holds: none is lost.
        self._jitter_s = self._burst / self._rate / 2 if self._rate else 0.0

    @property
    def queue_s(self) -> float:
        """How long the virtual queue is now."""
        return max(self._last_slot - self._clock.monotonic(), 0.0)

    def take(self) -> ComeBack | None:
        """Lets one stream in (None), or says when it may come back."""
        if not self._rate:
            return None
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._counted) * self._rate)
        self._counted = now
        if self._tokens >= 1:
            self._tokens -= 1
            return None
        slot = max(self._last_slot, now) + 1 / self._rate
        if slot - now > self._max_wait_s:
            return ComeBack(self._max_wait_s, self._max_wait_s)
        self._last_slot = slot
        return ComeBack(slot - now + _MARGIN_S, self._jitter_s)
