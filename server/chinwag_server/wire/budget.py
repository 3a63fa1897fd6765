"""A token bucket: so many at once, so many a second, and what was earned on top.

RFC 9113, 10.5: a peer may do all of what the protocol allows, but not to no end.
"""

from __future__ import annotations


class Budget:
    """What a peer may still do.

    Args:
        burst: What it begins with, and the most that time fills it to.
        per_second: How fast it fills.
        now: The time, in seconds.
        most: What it holds at most when more is earned; at least the burst.
    """

    __slots__ = ("_burst", "_left", "_most", "_per_second", "_since")

    def __init__(self, burst: float, per_second: float, now: float, most: float = 0.0) -> None:
        self._burst = burst
        self._most = max(burst, most)
        self._per_second = per_second
        self._left = burst
        self._since = now

    def earn(self, amount: float) -> None:
        """Fills it by so much, above the burst too."""
        self._left = min(self._most, self._left + amount)

    def widen(self, burst: float) -> None:
        """Makes the burst larger, if it is not already, and fills it by what was added."""
        if burst > self._burst:
            self._left += burst - self._burst
            self._burst = burst
            self._most = max(self._most, burst)

    def spend(self, amount: float, now: float) -> bool:
        """Takes so much; whether there was enough."""
        left = self._left
        if left < amount:
            filled = left + (now - self._since) * self._per_second
            left = max(left, min(self._burst, filled))
            self._since = now
            if left < amount:
                self._left = left
                return False
        self._left = left - amount
        return True
