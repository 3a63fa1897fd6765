"""When and from where devices call: noted once an hour, and when the address changes, at
most once a minute."""

from __future__ import annotations

from chinwag_server.account.cache import Cache
from chinwag_server.account.chores import Chores
from chinwag_server.account.sessions import Sessions
from chinwag_server.clock import Clock
from chinwag_server.rpc.caller import Caller

HOUR_US = 3_600_000_000
MINUTE_US = 60_000_000
REMEMBERED = 100_000


class Activity:
    """Notes calls in the background."""

    def __init__(self, sessions: Sessions, chores: Chores, clock: Clock) -> None:
        self._sessions = sessions
        self._chores = chores
        self._clock = clock
        # (when, from where), by user and device.
        self._noted: Cache[tuple[str, str], tuple[int, str]] = Cache(REMEMBERED)

    def called(self, caller: Caller) -> None:
        """A device calls; an empty address is one that is not known."""
        if not caller.device_id:
            return
        key = (caller.user_id, caller.device_id)
        now_us = self._clock.time_us()
        noted_us, noted_address = self._noted.get(key) or (0, "")
        address = caller.address or noted_address
        if noted_us // HOUR_US == now_us // HOUR_US and (
            address == noted_address or noted_us + MINUTE_US > now_us
        ):
            return
        self._noted.put(key, (now_us, address))
        self._chores.spawn(self._sessions.touch(*key, address))

    def active(self, user_id: str, device_id: str) -> None:
        """A device calls, from where is not known yet."""
        self.called(Caller(user_id, device_id))
