"""Since when other nodes cannot be told: beyond the time for which heads are repeated, whoever
comes back has to be told that it missed something."""

from __future__ import annotations

from collections.abc import Collection

from chinwag_server.clock import Clock

# A link that was down for longer may have lost what is not repeated any more.
OUTAGE_S = 8.0


class Outages:
    """The links from this node that are down."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        self._followed: Collection[str] = ()

    def follow(self, node_ids: Collection[str]) -> None:
        """Says which the other nodes are. To a new one the link has yet to come up: until it does,
        nothing that is told reaches it."""
        now = self._clock.monotonic()
        for node_id in set(node_ids).difference(self._followed):
            self._since.setdefault(node_id, now)
        for node_id in self._since.keys() - set(node_ids):
            del self._since[node_id]
        self._followed = frozenset(node_ids)

    def down(self, node_id: str) -> None:
        """A link went down."""
        if node_id in self._followed:
            self._since.setdefault(node_id, self._clock.monotonic())

    def up(self, node_id: str) -> bool:
        """A link came up. Gives whether the node may have missed what is not repeated any more."""
        since = self._since.pop(node_id, None)
        return since is not None and self._clock.monotonic() - since > OUTAGE_S
