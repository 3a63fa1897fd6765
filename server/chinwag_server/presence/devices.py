"""The devices that are connected to this node, and what each user's make together.

A device is here while it holds a stream that announces it, and for a while after that: a phone that
goes through a tunnel is not seen to leave.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import count

from chinwag.presence.v1 import presence_pb2 as pb
from chinwag_server.clock import Clock
from chinwag_server.presence.states import (
    AWAY,
    OFFLINE,
    ONLINE,
    Connected,
    Device,
    State,
    reported,
    together,
)

SECOND_US = 1_000_000
# Users of whom it is remembered when they were last here.
MAX_SEEN = 200_000
SWEEP_S = 0.5


class Here:
    """One stream's word that a device is connected. Cheap: there is one for each stream."""

    __slots__ = ("device", "device_id", "due_us", "is_gone", "state", "user_id")

    def __init__(self, user_id: str, device_id: str, device: Device) -> None:
        self.user_id = user_id
        self.device_id = device_id
        self.device = device
        self.state: State = OFFLINE  # as it was judged last
        self.is_gone = False
        self.due_us = 0  # when it is looked at next; 0: never


class Devices:
    """Who is here.

    Args:
        away_after_s: Without activity for so long a device counts as away.
        linger_s: How long a device still counts after its stream has ended.

    Attributes:
        on_change: Called with a user of whom a device came, went, or is in another state.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        away_after_s: float = 300.0,
        linger_s: float = 10.0,
    ) -> None:
        self._clock = clock
        self.on_change: Callable[[str], None] = lambda _user_id: None
        self._away_after_us = int(away_after_s * SECOND_US)
        self._linger_us = int(linger_s * SECOND_US)
        self._here: dict[str, list[Here]] = {}
        self._states: dict[str, State] = {}
        self._seen: OrderedDict[str, int] = OrderedDict()
        self._due: list[tuple[int, int, Here]] = []
        self._numbers = count()
        self._sweeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look at who has gone away."""
        self._sweeper = asyncio.ensure_future(self._sweep())

    async def stop(self) -> None:
        """Ends the background work."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)

    # --- what streams say ---

    def came(self, user_id: str, device_id: str, activity: pb.Activity | None = None) -> Here:
        """A stream announces its device; to be ended by `gone`."""
        now_us = self._clock.time_us()
        mine = self._here.setdefault(user_id, [])
        for other in mine:
            if other.is_gone and other.device_id == device_id:
                # It is back: as if it had never gone.
                mine.remove(other)
                other.user_id = ""
                here = Here(user_id, device_id, reported(other.device, activity, now_us))
                here.state = other.state
                break
        else:
            here = Here(user_id, device_id, reported(None, activity, now_us))
        mine.append(here)
        self._look_at(here, now_us)
        self._judge(here, now_us)
        return here

    def report(self, here: Here, activity: pb.Activity) -> None:
        """A device says what its user does."""
        if here.is_gone:
            return
        now_us = self._clock.time_us()
        here.device = reported(here.device, activity, now_us)
        self._look_at(here, now_us)
        self._judge(here, now_us)

    def gone(self, here: Here, *, at_once: bool = False) -> None:
        """A stream has ended.

        Args:
            at_once: The device will not be back: it was logged out.
        """
        if here.is_gone:
            return
        now_us = self._clock.time_us()
        here.is_gone = True
        if at_once or not self._linger_us:
            self._forget(here, now_us)
        else:
            here.due_us = now_us + self._linger_us
            heapq.heappush(self._due, (here.due_us, next(self._numbers), here))

    # --- what follows from it ---

    def __len__(self) -> int:
        return len(self._here)

    def users(self) -> Iterator[tuple[str, Connected]]:
        """Those who are here."""
        for user_id, state in list(self._states.items()):
            yield user_id, Connected(state)

    def of(self, user_id: str) -> Connected:
        """What a user's devices make."""
        state = self._states.get(user_id, OFFLINE)
        return Connected(state, 0 if state != OFFLINE else self._seen.get(user_id, 0))

    def devices(self, user_id: str) -> list[tuple[str, State, int]]:
        """A user's devices: id, state and when it was last touched, each once."""
        now_us = self._clock.time_us()
        found: dict[str, tuple[str, State, int]] = {}
        for here in self._here.get(user_id, ()):
            state = here.device.state(now_us, self._away_after_us)
            known = found.get(here.device_id)
            if known is None or (state, -here.device.touched_us) < (known[1], -known[2]):
                found[here.device_id] = (here.device_id, state, here.device.touched_us)
        return list(found.values())

    def sweep(self) -> None:
        """Looks at those whose time has come."""
        now_us = self._clock.time_us()
        while self._due and self._due[0][0] <= now_us:
            due_us, _, here = heapq.heappop(self._due)
            if here.due_us != due_us or not here.user_id:
                continue  # it was put off, or is nobody's any more
            here.due_us = 0
            if here.is_gone:
                self._forget(here, due_us - self._linger_us)
            else:
                self._look_at(here, now_us)
                self._judge(here, now_us)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep()

    def _look_at(self, here: Here, now_us: int) -> None:
        """Notes when a device turns away by itself. One note a device: an activity moves the time,
        and the note is put off when it is due."""
        if here.device.state(now_us, self._away_after_us) == AWAY or here.due_us:
            return
        here.due_us = here.device.touched_us + self._away_after_us
        heapq.heappush(self._due, (here.due_us, next(self._numbers), here))

    def _forget(self, here: Here, seen_us: int) -> None:
        user_id, here.user_id = here.user_id, ""
        mine = self._here[user_id]
        mine.remove(here)
        if not mine:
            del self._here[user_id]
            self._seen[user_id] = seen_us
            self._seen.move_to_end(user_id)
            if len(self._seen) > MAX_SEEN:
                self._seen.popitem(last=False)
        self._combine(user_id)
        self.on_change(user_id)

    def _judge(self, here: Here, now_us: int) -> None:
        state = here.device.state(now_us, self._away_after_us)
        if state != here.state:
            here.state = state
            self._combine(here.user_id)
            self.on_change(here.user_id)

    def _combine(self, user_id: str) -> None:
        mine = self._here.get(user_id)
        if mine is None:
            self._states.pop(user_id, None)
        else:
            self._states[user_id] = together(Connected(here.state) for here in mine).state


__all__ = ["AWAY", "OFFLINE", "ONLINE", "Devices", "Here"]
