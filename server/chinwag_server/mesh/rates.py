"""The port of rates that all nodes share: one token bucket a key.

A bucket holds `burst` tokens and gains `rate` a second, as in `rpc/ratelimit.py`, but all nodes
take from it. Every adapter passes tests/mesh/rates_contract.py.
"""

from __future__ import annotations

from typing import Protocol


class SharedRates(Protocol):
    """Token buckets across nodes."""

    async def take(
        self, key: str, cost: float, rate: float, burst: float, *, fail_open: bool
    ) -> float:
        """Takes `cost` tokens, or none.

        More than a burst at once can only be taken from a full bucket, and leaves it in debt.

        Args:
            key: Names the bucket, whose rate and burst are the same at each call.
            rate: Tokens a second, above 0.
            burst: Tokens of a full bucket, at least 1.
            fail_open: What happens while the buckets are away: True gives, False raises.

        Returns:
            Seconds until they can be taken; 0: they are.

        Raises:
            Unavailable: The buckets are away and `fail_open` is False.
        """
