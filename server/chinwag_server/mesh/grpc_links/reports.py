"""What goes wrong with a peer, in the log once a minute."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

_EVERY_S = 60.0
_MOST_PEERS = 1000


class Reports:
    """One process's.

    Args:
        now: The time, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._said: dict[str, float] = {}

    def warn(self, peer: str, text: str) -> None:
        """Says something of a peer, unless something was said of it within the last minute."""
        now = self._now()
        if now - self._said.get(peer, -_EVERY_S) < _EVERY_S:
            return
        if len(self._said) >= _MOST_PEERS:
            # Whoever invents peers makes the log forget, not grow: the oldest goes.
            del self._said[next(iter(self._said))]
        self._said.pop(peer, None)
        self._said[peer] = now
        log.warning("%s: %s", peer, text)
