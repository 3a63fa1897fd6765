"""When and from where devices call: noted once an hour, or when the address changes."""

from __future__ import annotations

from chinwag_server.account.cache import Cache
from chinwag_server.account.chores import Chores
from chinwag_server.account.sessions import Sessions
from chinwag_server.clock import Clock
from chinwag_server.rpc.caller import Caller

HOUR_US = 3_600_000_000
REMEMBERED = 100_000


class Activity:
    """Notes calls in the background."""

    def __init__(self, sessions: Sessions, chores: Chores, clock: Clock) -> None:
        self._sessions = sessions
        self._chores = chores
        self._clock = clock
        self._noted: Cache[tuple[str, str], tuple[int, str]] = Cache(REMEMBERED)

    def called(self, caller: Caller) -> None:
        """A device calls."""
        if not caller.device_id:
            return
        key = (caller.user_id, caller.device_id)
        hour = self._clock.time_us() // HOUR_US
        noted = self._noted.get(key)
        address = caller.address or (noted[1] if noted else "")
        if noted != (hour, address):
            self._noted.put(key, (hour, address))
            self._chores.spawn(self._sessions.touch(*key, address))

    def active(self, user_id: str, device_id: str) -> None:
        """A device calls, from where is not known yet."""
        self.called(Caller(user_id, device_id))
