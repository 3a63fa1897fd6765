"""A token bucket: so many at once, so many a second."""

from __future__ import annotations


class Budget:
    """What a peer may still do.

    Args:
        burst: The most that it holds; it begins full.
        per_second: How fast it fills.
        now: The time, in seconds.
    """

    __slots__ = ("_burst", "_left", "_per_second", "_since")

    def __init__(self, burst: float, per_second: float, now: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._left = burst
        self._since = now

    def earn(self, amount: float) -> None:
        """Fills it by so much."""
        self._left = min(self._burst, self._left + amount)

    def spend(self, amount: float, now: float) -> bool:
        """Takes so much; whether there was enough."""
        left = self._left
        if left < amount:
            left = min(self._burst, left + (now - self._since) * self._per_second)
            self._since = now
            if left < amount:
                self._left = left
                return False
        self._left = left - amount
        return True
