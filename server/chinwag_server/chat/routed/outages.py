"""Since when other nodes cannot be told: beyond the time for which heads are repeated, whoever
comes back has to be told that it missed something."""

from __future__ import annotations

from collections.abc import Collection

from chinwag_server.clock import Clock
from chinwag_server.mesh.links import DEAD_S

# A link that was down for longer may have lost what is not repeated any more.
OUTAGE_S = 8.0
# What was told to a link that has been up for so long has arrived: a dead one is noticed before.
ARRIVED_S = 2 * DEAD_S


class Outages:
    """The links from this node that are down."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        # Of links that are up: when their last outage began, and when it ended.
        self._last: dict[str, tuple[float, float]] = {}
        self._followed: Collection[str] = ()

    def follow(self, node_ids: Collection[str]) -> None:
        """Says which the other nodes are. To a new one the link has yet to come up: until it does,
        nothing that is told reaches it."""
        now = self._clock.monotonic()
        for node_id in set(node_ids).difference(self._followed):
            self._since.setdefault(node_id, now)
        for node_id in self._since.keys() - set(node_ids):
            del self._since[node_id]
        for node_id in self._last.keys() - set(node_ids):
            del self._last[node_id]
        self._followed = frozenset(node_ids)

    def down(self, node_id: str) -> None:
        """A link went down. If it was up for a moment only, that was no end of its outage: what was
        told then, even that something was missed, may not have arrived."""
        if node_id not in self._followed or node_id in self._since:
            return
        now = self._clock.monotonic()
        began, ended = self._last.pop(node_id, (now, now))
        self._since[node_id] = began if now - ended < ARRIVED_S else now

    def up(self, node_id: str) -> bool:
        """A link came up. Gives whether the node may have missed what is not repeated any more."""
        began = self._since.pop(node_id, None)
        if began is None:
            return False
        now = self._clock.monotonic()
        self._last[node_id] = (began, now)
        return now - began > OUTAGE_S
