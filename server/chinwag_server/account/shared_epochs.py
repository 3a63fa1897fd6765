"""Epochs over a store that other nodes change too: what is remembered holds for a bounded time, or
until an audit has seen that the store still says the same.

Every commit to a user's partition raises the user's version. So one number a user, read from the
store now and then, says whether all that is remembered of them still holds.
"""

from __future__ import annotations

from dataclasses import dataclass

from chinwag_server.account.cache import Epochs
from chinwag_server.clock import Clock


@dataclass(slots=True)
class _Held:
    """What is remembered of a subject.

    Attributes:
        checked: Until then nothing of it had changed, on the monotonic clock.
        version: What was found is of this version or a newer one; None: nothing was found yet.
        used: Whether it was asked for since the last audit.
    """

    epoch: int
    checked: float
    version: int | None = None
    used: bool = True


class SharedEpochs(Epochs):
    """Numbers that change with a subject, and with time.

    Args:
        hold_s: How long what is remembered holds without an audit.
        size: Subjects; above it, all of them count as changed.

    Attributes:
        hold_s: May be changed, also for what is remembered already.
    """

    def __init__(self, clock: Clock, *, hold_s: float, size: int = 200_000) -> None:
        super().__init__(size)
        self.hold_s = hold_s
        self._clock = clock
        self._held: dict[str, _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def of(self, subject: str) -> int:
        held, now = self._held.get(subject), self._clock.monotonic()
        if held is None or now - held.checked >= self.hold_s:
            if len(self._held) >= self._size:
                self._held.clear()
            self._newest += 1
            self._held[subject] = held = _Held(self._newest, now)
        held.used = True
        return held.epoch

    def change(self, subject: str) -> None:
        self._held.pop(subject, None)

    def found(self, subject: str, epoch: int, version: int) -> None:
        held = self._held.get(subject)
        if held is not None and held.epoch == epoch:
            held.version = version if held.version is None else min(held.version, version)

    # --- for the audit ---

    def take_used(self) -> list[str]:
        """The subjects that were asked for since the last call. Forgets what does not hold any
        more."""
        now = self._clock.monotonic()
        used, over = [], []
        for subject, held in self._held.items():
            if now - held.checked >= self.hold_s:
                over.append(subject)
            elif held.used:
                held.used = False
                used.append(subject)
        for subject in over:
            del self._held[subject]
        return used

    def audit(self, subject: str, version: int, asked: float) -> None:
        """The store says that a subject has a version. As versions only rise, nothing has changed
        between the finding of what has the same one and the question.

        Args:
            version: 0: there is no such user.
            asked: When the store was asked, on the monotonic clock.
        """
        held = self._held.get(subject)
        if held is None:
            return
        if held.version == version:
            held.checked = max(held.checked, asked)
        else:
            del self._held[subject]
