"""A lease as its holder may count on it: it ends here before it can end there."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from chinwag_server.clock import Clock
from chinwag_server.mesh.coordination import (
    Coordination,
    CoordinationUnavailable,
    Lease,
    LeaseGone,
)

RETRY_S = 0.5

log = logging.getLogger(__name__)


def check_margin(ttl_s: float, margin_s: float) -> None:
    """Checks what a lease is to be held with.

    Raises:
        ValueError: Nothing would be left of it.
    """
    if not 0 < margin_s < ttl_s:
        raise ValueError(f"expected a margin above 0 and below the TTL {ttl_s}, got {margin_s}")


class HeldLease:
    """A lease and until when it certainly lives: the last keep-alive that was answered, counted
    from when it was sent, plus TTL minus margin. Once that has passed it is over for good,
    whatever is answered later.

    Attributes:
        over: Set by the first look that finds it over.

    Args:
        margin_s: For clocks that run at different rates, and the way from the last look at this
            to what was done on the strength of it; less than the TTL.
    """

    def __init__(self, lease: Lease, margin_s: float, clock: Clock) -> None:
        check_margin(lease.ttl_s, margin_s)
        self.id = lease.id
        self.ttl_s = lease.ttl_s
        self._life_s = lease.ttl_s - margin_s
        self._until = lease.sent + self._life_s
        self._clock = clock
        self.over = asyncio.Event()

    def alive(self) -> bool:
        """Whether it certainly lives now. Once this is false it stays so."""
        if self._clock.monotonic() >= self._until:
            self.over.set()
        return not self.over.is_set()

    def left_s(self) -> float:
        """For how long it certainly lives."""
        return max(0.0, self._until - self._clock.monotonic()) if self.alive() else 0.0

    def renewed(self, sent: float) -> None:
        """A keep-alive sent then, in monotonic seconds, was answered."""
        if self.alive():
            self._until = max(self._until, sent + self._life_s)

    def end(self) -> None:
        """It is over."""
        self.over.set()


async def keep(held: HeldLease, coordination: Coordination) -> None:
    """Renews a lease; returns when it is over."""
    while held.alive():
        # A third of the TTL leaves time for a second try and a third.
        pause_s = held.ttl_s / 3
        try:
            async with asyncio.timeout(held.left_s()):
                held.renewed(await coordination.keep_alive(held.id))
        except LeaseGone as error:
            log.warning("the lease %x is gone: %s", held.id, error)
            held.end()
        except CoordinationUnavailable as error:
            log.warning("the lease %x could not be renewed: %s", held.id, error)
            pause_s = RETRY_S
        except TimeoutError:
            log.warning("the lease %x was not renewed in time", held.id)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(pause_s, held.left_s())):
                await held.over.wait()
