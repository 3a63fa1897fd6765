"""How many shards move to other nodes at one time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chinwag_server.clock import Clock

# Shards that begin to move within PACE_S, but for those that have arrived by then: the channels of
# each stand still meanwhile, and for longer if many are under way.
MOVES_AT_ONCE = 8
PACE_S = 0.1
LOOK_S = 0.001


class Pace:
    """Lets shards go a few at a time.

    Args:
        go_on: Called when another one may begin, after `may_begin` has said no.

    Attributes:
        is_kept: Whether there is a pace; it makes no sense if nobody takes what is given away.
    """

    def __init__(self, clock: Clock, go_on: Callable[[], None]) -> None:
        self.is_kept = True
        self._clock = clock
        self._go_on = go_on
        self._begun: dict[int, float] = {}  # by shard
        self._timer: asyncio.TimerHandle | None = None

    def may_begin(self) -> bool:
        """Whether one more may begin to move now."""
        now = self._clock.monotonic()
        self._begun = {shard: at for shard, at in self._begun.items() if now - at < PACE_S}
        if not self.is_kept or len(self._begun) < MOVES_AT_ONCE:
            return True
        if self._timer is None:
            wait_s = min(self._begun.values()) + PACE_S - now
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(wait_s, LOOK_S), self._on_time)
        return False

    def begin(self, shard: int) -> None:
        """It begins to move."""
        self._begun[shard] = self._clock.monotonic()

    def arrived(self, shard: int) -> None:
        """Another node has it."""
        self._begun.pop(shard, None)

    def _on_time(self) -> None:
        self._timer = None
        self._go_on()
