"""Rates over all nodes, without asking another machine before a call.

Each node decides from its own buckets. What it gives from one that is less than half full it
charges to the bucket that all nodes share (`mesh.rates`), a moment later; where that has not so
much left, its own gives nothing until it has. So somebody who goes from node to node has half a
burst more at each, and in the long run one rate; those who stay far below theirs cost nothing.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from chinwag_server.mesh.rates import SharedRates
from chinwag_server.mesh.unavailable import Unavailable
from chinwag_server.rpc.ratelimit import Limiter, TokenBuckets

log = logging.getLogger(__name__)

EVERY_S = 0.25
AT_ONCE = 1_000  # charges under way: what they share a round trip with
MAX_OWED = 10_000  # buckets that a node charges for; more than these are limited by it alone


class Charges:
    """What a node has given and not charged yet.

    Args:
        rates: The buckets that all nodes share. While they are away each node limits alone.
    """

    def __init__(self, rates: SharedRates) -> None:
        self._rates = rates
        self._owed: dict[tuple[str, str], float] = {}  # by kind and key
        self._buckets: dict[str, TokenBuckets] = {}  # by kind
        self._task: asyncio.Task[None] | None = None

    def follow(self, name: str, limiter: Limiter) -> None:
        """From now on what a limiter gives counts at all nodes.

        Args:
            name: Of what it limits; the same at all nodes.
        """
        for kind, buckets in ((f"{name}:user", limiter.users), (f"{name}:at", limiter.addresses)):
            self._buckets[kind] = buckets
            buckets.on_much = partial(self._owe, kind)

    def _owe(self, kind: str, key: str, count: float) -> None:
        place = (kind, key)
        if place in self._owed or len(self._owed) < MAX_OWED:
            self._owed[place] = self._owed.get(place, 0.0) + count

    def start(self) -> None:
        """Begins to charge."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends it; what is owed is forgotten."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.charge()
            except Exception:
                log.exception("rates could not be charged; they hold at this node alone meanwhile")

    async def charge(self) -> None:
        """Charges all that is owed, and holds the buckets for which there is not enough left."""
        places = list(self._owed)
        for start in range(0, len(places), AT_ONCE):
            await asyncio.gather(*map(self._charge, places[start : start + AT_ONCE]))

    async def _charge(self, place: tuple[str, str]) -> None:
        kind, key = place
        buckets = self._buckets[kind]
        # In pieces: more than a burst is given by a full bucket alone, and this one may never be
        # full again if others take from it too.
        most = max(buckets.burst / 2, 1.0)
        owed = self._owed.pop(place)
        while owed > 0:
            piece = min(owed, most)
            try:
                wait_s = await self._rates.take(
                    f"{kind}:{key}", piece, buckets.rate, buckets.burst, fail_open=False
                )
            except Unavailable as error:
                log.debug("rates hold at this node alone: %s", error)
                return
            if wait_s > 0:
                # And until the shared one could give the rest.
                buckets.hold(key, wait_s + (owed - piece) / buckets.rate)
                break
            owed -= piece
        if owed > 0:
            self._owe(kind, key, owed)
