"""How long to wait before the next attempt."""

from __future__ import annotations

import random


class Backoff:
    """Exponential back-off with full jitter: each wait is drawn evenly between zero and a bound
    that doubles, so that clients that lost their server together do not come back together.

    Source: AWS Architecture Blog, "Exponential Backoff And Jitter"
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).

    Args:
        rng: Draws the waits.
        base_s: The first bound.
        cap_s: The largest bound.
    """

    def __init__(self, rng: random.Random, *, base_s: float = 0.5, cap_s: float = 30.0) -> None:
        self._rng = rng
        self._base_s = base_s
        self._cap_s = cap_s
        self._attempts = 0

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        # 2**30 is far above any cap; the exponent itself must not grow for ever.
        bound = min(self._cap_s, self._base_s * 2 ** min(self._attempts, 30))
        self._attempts += 1
        return self._rng.uniform(0, bound)

    def reset(self) -> None:
        """The last attempt went well: start from the first bound again."""
        self._attempts = 0
