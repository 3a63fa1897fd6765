"""Which of several addresses to use: one at random, and another one when it fails.

Nothing here does I/O. The stream's reconnecting (`reconnect`) and the unary calls (`routes`) of one
client share one `Endpoints`, so that each learns from the other which nodes are away.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence

from chinwag.errors import ChinwagError

# A node that failed is avoided for so long, twice as long after each further failure.
AVOID_S = 5.0
AVOID_MAX_S = 60.0


class Endpoints:
    """The addresses of one client, and what is known of them. May be used from any thread.

    Args:
        addresses: At least one.
        rng: Draws which one is used.
        monotonic: Seconds by a clock that never falls.
    """

    def __init__(
        self, addresses: Sequence[str], *, rng: random.Random, monotonic: Callable[[], float]
    ) -> None:
        self.addresses = tuple(addresses)
        self._rng = rng
        self._monotonic = monotonic
        self._lock = threading.Lock()
        # Those that failed since a connection was last good.
        self._tried: set[str] = set()
        self._failures: dict[str, int] = {}
        # In the order in which they failed last.
        self._failed: dict[str, None] = {}
        self._avoid_until: dict[str, float] = {}
        # At random, so that clients that start together spread over the nodes.
        self._current = self._choose(self.addresses)

    @property
    def current(self) -> str:
        """The address in use, or to be used next."""
        return self._current

    def __contains__(self, address: str) -> bool:
        return address in self.addresses

    def failed(self, address: str) -> None:
        """A node could not be reached, broke off, or asked to go: it is avoided for a while."""
        with self._lock:
            if address not in self.addresses:
                return
            self._tried.add(address)
            self._failed.pop(address, None)
            self._failed[address] = None  # the last one in it has failed last
            if self._is_avoided(address):
                return  # the same failure, seen by another call
            count = self._failures.get(address, 0)
            self._failures[address] = count + 1
            bound = min(AVOID_MAX_S, AVOID_S * 2 ** min(count, 10))
            self._avoid_until[address] = self._monotonic() + self._rng.uniform(bound / 2, bound)

    def works(self, address: str) -> None:
        """A stream over this address is caught up: the next break is a new one."""
        with self._lock:
            if address in self.addresses:
                self._current = address
                self._failures.pop(address, None)
                self._avoid_until.pop(address, None)
            self._tried.clear()

    def answered(self, address: str) -> None:
        """A call over this address was answered: further ones go there if the one in use is
        away."""
        with self._lock:
            if not self._is_avoided(address):
                self._failures.pop(address, None)
                if self._is_avoided(self._current):
                    self._current = address

    def use(self, address: str) -> None:
        """From now on this one of the addresses is used."""
        with self._lock:
            self._current = address

    def next(self) -> tuple[str, bool]:
        """Chooses where to connect after a failure.

        Returns:
            The address, and whether to go there at once. Each one is tried at once but once a
            break; when all have failed, the caller's back-off paces the attempts at all of them.
        """
        with self._lock:
            open_ones = [a for a in self.addresses if not self._is_avoided(a)]
            untried = [a for a in open_ones if a not in self._tried]
            if open_ones:
                self._current = self._choose(untried or open_ones)
            else:
                # One after the other: that which failed longest ago.
                self._current = next(iter(self._failed))
            return self._current, bool(untried)

    def ended(self, address: str, error: ChinwagError | None) -> bool:
        """A stream over an address has ended, or could not be opened; `current` is where to open
        it again.

        Args:
            error: Why; None: it just broke.

        Returns:
            Whether to do so at once, and not after a back-off and what the error says to wait.
        """
        if error is not None and error.reason == "RATE_LIMITED":
            return False  # it is the client that is too fast: another node is no way around that
        self.failed(address)
        _, at_once = self.next()
        return at_once and (error is None or not error.retry_after or error.reason == "DRAINING")

    def order(self) -> list[str]:
        """Where to make a call: the address in use, then the others at random; those that failed a
        moment ago only if there is no other."""
        with self._lock:
            found = [a for a in self.addresses if not self._is_avoided(a)] or list(self.addresses)
            if len(found) > 1:
                self._rng.shuffle(found)
                found.sort(key=lambda address: address != self._current)
            return found

    def _is_avoided(self, address: str) -> bool:
        return self._avoid_until.get(address, float("-inf")) > self._monotonic()

    def _choose(self, addresses: Sequence[str]) -> str:
        return addresses[0] if len(addresses) == 1 else self._rng.choice(addresses)
