"""The inbox in memory: for nodes that live in one process, as in tests and simulations."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from chinwag_server.clock import Clock
from chinwag_server.mesh.inbox import Change, Changes, RaiseGeneration, Stamp
from chinwag_server.mesh.unavailable import Unavailable

DAY_US = 86_400_000_000


@dataclass(slots=True)
class UserInbox:
    """What changed for a user.

    Attributes:
        floor_us: The highest stamp that was trimmed away.
        channels: Channel -> stamp, the oldest first.
    """

    floor_us: int = 0
    channels: dict[str, int] = field(default_factory=dict)


class InboxServer:
    """What holds the inboxes of all users.

    Attributes:
        away: Whether every call fails.
        generation: Of the data; 0: it is lost.
    """

    def __init__(self, clock: Clock) -> None:
        self.away = False
        self.generation = 0
        self.users: dict[str, UserInbox] = {}
        self._clock = clock
        self._high_us = 0

    def now_us(self) -> int:
        """Its clock, which never falls."""
        self._high_us = max(self._high_us, self._clock.time_us())
        return self._high_us

    def next_us(self) -> int:
        """A stamp that no other change has."""
        self._high_us = self.now_us() + 1
        return self._high_us

    def wipe(self) -> None:
        """Loses everything."""
        self.generation = 0
        self.users.clear()
        self._high_us = 0

    def fail_over(self, missing_us: int) -> None:
        """Another server takes over, which lacks the changes of the last so many microseconds."""
        last_us = self.now_us() - missing_us
        self.generation = 0
        for inbox in self.users.values():
            kept = {channel: us for channel, us in inbox.channels.items() if us <= last_us}
            inbox.channels = kept


class MemoryInbox:
    """One node's access.

    Args:
        generation: The agreed one, as far as it is known; 0: it is not.
        max_channels: Kept a user.
        keep_days: For how long a device may be away and still learn only what changed.
    """

    def __init__(
        self,
        server: InboxServer,
        raise_generation: RaiseGeneration,
        *,
        generation: int = 0,
        max_channels: int = 5000,
        keep_days: int = 30,
    ) -> None:
        self._server = server
        self._raise_generation = raise_generation
        self._agreed = generation
        self._max_channels = max_channels
        self._keep_us = keep_days * DAY_US

    async def touch(self, user_ids: Collection[str], channel_id: str) -> None:
        await self._check()
        for user_id in user_ids:
            inbox = self._server.users.setdefault(user_id, UserInbox())
            inbox.channels.pop(channel_id, None)
            inbox.channels[channel_id] = self._server.next_us()
            while len(inbox.channels) > self._max_channels:
                inbox.floor_us = inbox.channels.pop(next(iter(inbox.channels)))

    async def changed_since(self, user_id: str, stamp: Stamp, limit: int) -> Changes:
        generation = await self._check()
        now_us = self._server.now_us()
        inbox = self._server.users.get(user_id, UserInbox())
        if (
            stamp.generation != generation
            or not inbox.floor_us <= stamp.time_us <= now_us
            or stamp.time_us < now_us - self._keep_us
        ):
            return Changes(False, (), False, Stamp(generation, now_us))
        found = [Change(*item) for item in inbox.channels.items() if item[1] > stamp.time_us]
        more = len(found) > limit
        next_us = found[limit - 1].time_us if more else now_us
        return Changes(True, tuple(found[:limit]), more, Stamp(generation, next_us))

    async def now(self) -> Stamp:
        generation = await self._check()
        return Stamp(generation, self._server.now_us())

    async def generation(self) -> int:
        return await self._check()

    def agree(self, generation: int) -> None:
        self._agreed = max(self._agreed, generation)

    async def _check(self) -> int:
        """The generation, raised if it was lost. What follows without a wait is of it."""
        while True:
            if self._server.away:
                raise Unavailable("the inbox is away")
            held = self._server.generation
            if held and held >= self._agreed:
                self._agreed = held
                return held
            try:
                raised = await self._raise_generation()
            except Exception as error:
                raise Unavailable(
                    f"the inbox was lost, and its generation cannot be raised: {error}"
                ) from error
            self.agree(raised)
            if not self._server.away:
                self._server.generation = max(self._server.generation, raised)
