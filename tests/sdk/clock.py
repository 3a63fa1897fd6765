"""A clock that stands until a test moves it."""

from __future__ import annotations


class FakeClock:
    """Implements `chinwag.clock.Clock`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_700_000_000.0 + self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
