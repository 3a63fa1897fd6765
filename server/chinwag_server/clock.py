"""Time as a port, so that rules run under a fake clock in tests and simulations."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for what is shown and stored, monotonic time for waits and limits."""

    def time_us(self) -> int:
        """Microseconds since 1970."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never falls."""


class SystemClock:
    """The machine's clocks."""

    def time_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()
