"""Message ids: UUIDs of version 7, rising within a process (RFC 9562, section 5.7)."""

from __future__ import annotations

import random


class MessageIds:
    """Draws client_message_ids.

    Args:
        rng: Where the random bits come from.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.SystemRandom()
        self._last_ms = 0
        self._counter = 0

    def draw(self, time_s: float) -> str:
        """A new id.

        Args:
            time_s: Seconds since 1970, by the server's clock as far as it is known.
        """
        ms = max(int(time_s * 1000), self._last_ms)
        if ms == self._last_ms:
            # The 12 bits after the version count within a millisecond (method 1 of section 6.2).
            self._counter += 1
            if self._counter > 0xFFF:
                ms, self._counter = ms + 1, 0
        else:
            self._counter = 0
        self._last_ms = ms
        tail = self._rng.getrandbits(62) | 1 << 63
        text = f"{ms:012x}7{self._counter:03x}{tail:016x}"
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
