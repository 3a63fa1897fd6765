"""Shared rates in memory: for nodes that live in one process, as in tests and simulations."""

from __future__ import annotations

from collections import OrderedDict

from chinwag_server.clock import Clock
from chinwag_server.mesh.unavailable import Unavailable


class MemoryRates:
    """All nodes use the same one. When there are too many buckets, the least used are forgotten.

    Attributes:
        away: Whether the buckets cannot be reached.
    """

    def __init__(self, clock: Clock, *, max_keys: int = 100_000) -> None:
        self.away = False
        self._clock = clock
        self._max_keys = max_keys
        # Key -> when its bucket is full again.
        self._full: OrderedDict[str, float] = OrderedDict()

    async def take(
        self, key: str, cost: float, rate: float, burst: float, *, fail_open: bool
    ) -> float:
        if self.away:
            if fail_open:
                return 0.0
            raise Unavailable("the rates are away")
        now = self._clock.monotonic()
        full = max(self._full.get(key, now), now)
        wait = full + (min(cost, burst) - burst) / rate - now
        if wait > 0:
            return wait
        self._full[key] = full + cost / rate
        self._full.move_to_end(key)
        if len(self._full) > self._max_keys:
            self._full.popitem(last=False)
        return 0.0
