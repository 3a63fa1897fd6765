"""Resume stamps of a mesh: moments of the inboxes' clock."""

from __future__ import annotations

import asyncio
import logging

from chinwag_server.clock import Clock
from chinwag_server.mesh.inbox import Inbox, Stamp
from chinwag_server.mesh.unavailable import Unavailable

log = logging.getLogger(__name__)

# How long an entry may be under way to a device after its channel was noted: a stamp says nothing
# of so short a past. A loss is noticed sooner.
MARGIN_US = 15_000_000
LOOK_S = 2.0
# A stamp that another node gave may be so much newer than what this one knows of the time.
AHEAD_US = 60_000_000
PAGE = 1000
_TIME_BITS = 56


def _pack(stamp: Stamp) -> int:
    return stamp.generation << _TIME_BITS | stamp.time_us


def _unpack(number: int) -> Stamp:
    return Stamp(number >> _TIME_BITS, number & ((1 << _TIME_BITS) - 1))


class Stamps:
    """Knows the inboxes' clock without asking for each stamp. While they are away stamps stand
    still: older than need be, never wrong."""

    def __init__(self, inbox: Inbox, clock: Clock) -> None:
        self._inbox = inbox
        self._clock = clock
        self._last: Stamp | None = None
        self._at = 0.0

    async def run(self) -> None:
        """Follows the clock, without an end."""
        while True:
            try:
                self._last = await self._inbox.now()
                self._at = self._clock.monotonic()
            except Unavailable as error:
                log.debug("the inboxes are away: %s", error)
            await asyncio.sleep(LOOK_S)

    def time_us(self) -> int:
        """Microseconds since 1970 on the inboxes' clock; while it is not known, on this one."""
        if self._last is None:
            return self._clock.time_us()
        return self._last.time_us + int((self._clock.monotonic() - self._at) * 1e6)

    def now(self) -> int:
        """The stamp of what has certainly reached this node; -1: none can be given."""
        last = self._last
        if last is None:
            return -1
        # A clock that runs faster than the inboxes' gains less than the margin in this time.
        passed_us = min(self._clock.monotonic() - self._at, 2 * LOOK_S) * 1e6
        return _pack(Stamp(last.generation, max(0, last.time_us + int(passed_us) - MARGIN_US)))

    async def moment(self) -> int:
        """The present moment; -1: the inboxes are away."""
        try:
            return _pack(await self._inbox.now())
        except Unavailable:
            return -1

    def usable(self, number: int) -> bool:
        """Whether it can be a stamp: of the inboxes' time, and not of the future."""
        if number < 0:
            return False
        stamp, last = _unpack(number), self._last
        ahead_us = stamp.time_us - (last.time_us if last is not None else 0)
        return bool(stamp.generation) and (last is None or ahead_us < AHEAD_US)

    async def changed_since(
        self, user_id: str, number: int
    ) -> tuple[frozenset[str], frozenset[str]] | None:
        """The user's channels that changed after a stamp, and those that did a moment before it:
        of these the device may not know yet. None: that is not known, any may have changed."""
        stamp = _unpack(number)
        changed = await self._changed_since(user_id, stamp)
        if changed is None:
            return None
        before = Stamp(stamp.generation, max(0, stamp.time_us - MARGIN_US))
        lately = await self._changed_since(user_id, before)
        return (changed, lately or frozenset()) if lately is not None else None

    async def _changed_since(self, user_id: str, stamp: Stamp) -> frozenset[str] | None:
        found: set[str] = set()
        try:
            while True:
                changes = await self._inbox.changed_since(user_id, stamp, PAGE)
                if not changes.complete:
                    return None
                found.update(change.channel_id for change in changes.changes)
                if not changes.more:
                    return frozenset(found)
                stamp = changes.stamp
        except Unavailable:
            return None
