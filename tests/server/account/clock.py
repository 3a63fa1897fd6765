"""Time for the tests of accounts."""

from __future__ import annotations

START_US = 1_700_000_000_000_000


class FakeClock:
    """Time that moves when a test says so."""

    def __init__(self, now_us: int = START_US) -> None:
        self.now_us = now_us

    def time_us(self) -> int:
        return self.now_us

    def monotonic(self) -> float:
        return self.now_us / 1e6

    def advance(self, seconds: float) -> None:
        self.now_us += int(seconds * 1e6)
