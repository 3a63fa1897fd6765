"""Whether the peer lives, and what has to be done about it by when.

All times are of the monotonic clock.
"""

from __future__ import annotations

WELCOME_TIMEOUT_S = 15.0
PONG_TIMEOUT_S = 10.0
# An answer to a send that does not come for so long never will: resume over a new connection.
ANSWER_TIMEOUT_S = 60.0
# A token is renewed when so much of its life has passed.
RENEW_AT = 0.8


class Liveness:
    """The times of one connection: begun by `connected`, anew for each."""

    def __init__(self, now: float) -> None:
        self.ping_interval_s = 30.0
        self.is_welcomed = False
        self._is_paused = False
        self._renew_at: float | None = None
        self.connected(now)

    def connected(self, now: float) -> None:
        """A stream was opened."""
        self.is_welcomed = False
        self._connected_at = self._wrote_at = now
        self._pinged_at: float | None = None
        self._renew_at = None

    def heard(self) -> None:
        """A frame came: whatever it says, the peer lives."""
        self._pinged_at = None

    def wrote(self, now: float) -> None:
        """A frame went out."""
        self._wrote_at = now

    def token_ends_in(self, left_s: float, now: float) -> None:
        """The server told how long the token lives."""
        self._renew_at = now + max(left_s * RENEW_AT, 1.0)

    def renew_in(self, wait_s: float, now: float) -> None:
        """The renewal is to be tried again."""
        self._renew_at = now + wait_s

    def pause(self) -> None:
        """Nothing is read: silence is no sign of death now."""
        self._is_paused = True

    def unpause(self, now: float) -> None:
        """It is read again; an answer that waits gets its time anew."""
        if self._is_paused:
            self._is_paused = False
            if self._pinged_at is not None:
                self._pinged_at = now

    def is_dead(self, now: float, oldest_send: float | None) -> bool:
        """Whether the connection is to be given up.

        Args:
            oldest_send: When the first of the sends under way went out.
        """
        if not self.is_welcomed:
            return now - self._connected_at >= WELCOME_TIMEOUT_S
        if self._is_paused:
            return False
        no_pong = self._pinged_at is not None and now - self._pinged_at >= PONG_TIMEOUT_S
        return no_pong or (oldest_send is not None and now - oldest_send >= ANSWER_TIMEOUT_S)

    def must_ping(self, now: float) -> bool:
        """Whether a ping has to go out; it counts as sent."""
        if not self.is_welcomed or now - self._wrote_at < self.ping_interval_s:
            return False
        if self._pinged_at is None:
            self._pinged_at = now
        return True

    def must_renew(self, now: float) -> bool:
        """Whether the token has to be renewed; told once."""
        if not self.is_welcomed or self._renew_at is None or now < self._renew_at:
            return False
        self._renew_at = None
        return True

    def next_time(self, oldest_send: float | None) -> float:
        """When something of the above is due."""
        if not self.is_welcomed:
            return self._connected_at + WELCOME_TIMEOUT_S
        times = [self._wrote_at + self.ping_interval_s]
        if self._renew_at is not None:
            times.append(self._renew_at)
        if not self._is_paused:
            if self._pinged_at is not None:
                times.append(self._pinged_at + PONG_TIMEOUT_S)
            if oldest_send is not None:
                times.append(oldest_send + ANSWER_TIMEOUT_S)
        return min(times)
