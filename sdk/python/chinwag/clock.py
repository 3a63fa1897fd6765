"""Time as the SDK's rules see it: a port, so that tests own the clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one that only rises, one that says the date."""

    def monotonic(self) -> float:
        """Seconds since any moment; never falls."""

    def time(self) -> float:
        """Seconds since 1970, as far as the device knows."""


class SystemClock:
    """The process's own clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()
