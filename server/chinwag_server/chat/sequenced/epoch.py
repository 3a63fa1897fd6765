"""What the sequencer asks of whoever says which shards this process owns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Epoch(Protocol):
    """One stay of a shard with this process, from its claim to its end."""

    @property
    def shard(self) -> int: ...

    @property
    def number(self) -> int:
        """Greater than that of every earlier owner of the shard; positive."""

    def alive(self) -> bool:
        """Whether nobody else can own the shard yet, by this process's monotonic clock. Once it
        was not so, it never is again."""


# Ends an epoch that failed a check, and says why: nobody may count on it again.
GiveUp = Callable[[Epoch, str], None]


class EpochOver(Exception):
    """The epoch ended while something was under way. What that had begun may take effect or not:
    the next owner decides."""
