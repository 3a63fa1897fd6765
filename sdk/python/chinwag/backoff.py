"""How long to wait before connecting again.

Full jitter: a random time between zero and an exponentially growing bound (Marc Brooker,
"Exponential Backoff And Jitter", AWS Architecture Blog, 2015), so that many clients that lost the
same server do not come back together.
"""

from __future__ import annotations

import random


class Backoff:
    """Grows with each failure, and starts again after a connection that held."""

    def __init__(self, rng: random.Random, *, base_s: float = 0.2, cap_s: float = 30.0) -> None:
        self._rng = rng
        self._base_s = base_s
        self._cap_s = cap_s
        self._failures = 0

    def next(self) -> float:
        """Seconds to wait after another failure."""
        bound = min(self._cap_s, self._base_s * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return self._rng.uniform(0.0, bound)

    def reset(self) -> None:
        """The connection is good."""
        self._failures = 0
