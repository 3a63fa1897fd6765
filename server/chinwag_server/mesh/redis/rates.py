"""Shared rates in Redis: one string a bucket, counted by GCRA.

A bucket is the time at which it is full again
(https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm). Redis's clock counts, so nodes' clocks
do not matter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from chinwag_server.clock import Clock
from chinwag_server.mesh.redis.batcher import Batcher
from chinwag_server.mesh.redis.link import RedisLink, Script
from chinwag_server.mesh.unavailable import Unavailable

MAX_BATCH = 200  # takes in one script, about 1 ms of Redis's time
MAX_WAITING = 20_000

# KEYS: buckets; ARGV: cost, rate, burst of each. Gives, in microseconds, the wait and how long the
# bucket is from full, for each. "full:counted" are microseconds of Redis's clock; when that was
# set back, what is owed moves with it.
_TAKE = Script(
    """
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
local found = {}
for i, key in ipairs(KEYS) do
  local cost, burst = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i])
  local each = 1000000 / tonumber(ARGV[3 * i - 1])
  local full = now
  local value = redis.call('GET', key)
  if value then
    local stored, counted = string.match(value, '(.+):(.+)')
    full = math.max(now, tonumber(stored) - math.max(0, tonumber(counted) - now))
  end
  local wait = full + (math.min(cost, burst) - burst) * each - now
  if wait <= 0 then
    wait = 0
    full = full + cost * each
    redis.call('SET', key, string.format('%.1f:%.0f', full, now),
      'PX', string.format('%.0f', math.ceil((full - now) / 1000) + 1))
  end
  found[2 * i - 1] = string.format('%.1f', wait)
  found[2 * i] = string.format('%.1f', full - now)
end
return found
"""
)


class RedisRates:
    """One node's access to the buckets.

    A bucket known to be empty refuses here, without Redis; takes at once share a round trip.

    Args:
        max_known: Buckets of which is known when they are full.
        pause_s: After a failure, Redis is asked once in so long until it answers.
        prefix: Of the keys.
    """

    def __init__(
        self,
        link: RedisLink,
        clock: Clock,
        *,
        max_known: int = 10_000,
        pause_s: float = 0.5,
        prefix: str = "cw:rate:",
    ) -> None:
        self._link = link
        self._clock = clock
        self._max_known = max_known
        self._pause_s = pause_s
        self._prefix = prefix
        # When Redis is asked again, and why it was not; "" while it answers.
        self._away: tuple[float, str] = (float("-inf"), "")
        # Key -> when its bucket is full at the earliest, on our clock; the least used first.
        self._full: OrderedDict[str, float] = OrderedDict()
        self._takes: Batcher[tuple[str, float, float, float], float] = Batcher(
            "rates",
            self._take,
            most=MAX_BATCH,
            waiting=MAX_WAITING,
            timeout_s=link.timeout_s,
        )
        self.asked = 0  # takes that Redis decided
        self.given_open = 0  # takes given because Redis was away

    async def take(
        self, key: str, cost: float, rate: float, burst: float, *, fail_open: bool
    ) -> float:
        wait = self._known_wait(key, cost, rate, burst)
        if wait > 0:
            return wait
        try:
            self._check()
            return await self._takes.put((key, cost, rate, burst))
        except Unavailable:
            if not fail_open:
                raise
            self.given_open += 1
            return 0.0

    def _check(self) -> None:
        """After a failure one call a pause asks Redis: a frozen one must not hold up all."""
        until, reason = self._away
        now = self._clock.monotonic()
        if reason and now < until:
            raise Unavailable(reason)
        self._away = now + self._pause_s, reason

    def _known_wait(self, key: str, cost: float, rate: float, burst: float) -> float:
        full = self._full.get(key)
        if full is None:
            return 0.0
        return full + (min(cost, burst) - burst) / rate - self._clock.monotonic()

    async def _take(self, takes: Sequence[tuple[str, float, float, float]]) -> list[float]:
        # Counted from before the call: what is known may be too mild, never too strict.
        sent = self._clock.monotonic()
        keys = [self._prefix + take[0] for take in takes]
        arguments = [number for take in takes for number in take[1:]]
        try:
            found = await self._link.run(_TAKE, keys, arguments)
        except Unavailable as error:
            self._away = self._clock.monotonic() + self._pause_s, str(error)
            raise
        self._away = self._clock.monotonic(), ""
        self.asked += len(takes)
        waits = []
        for take, wait, full in zip(takes, found[::2], found[1::2], strict=True):
            waits.append(float(wait) / 1e6)
            self._know(take[0], sent + float(full) / 1e6)
        return waits

    def _know(self, key: str, full: float) -> None:
        self._full[key] = full
        self._full.move_to_end(key)
        if len(self._full) > self._max_known:
            self._full.popitem(last=False)
