"""The inbox's port: which channels of a user changed since a stamp.

It can be lost. Its *generation* is a number that the nodes agree on (in etcd) and that stands
beside the data too. When the data's is missing, is lower than the agreed one, or the server that
holds it started again or is another one, the next call raises the agreed number first. A stamp of
another generation is answered with "incomplete", so no loss is ever answered as "nothing changed".
Every adapter passes tests/mesh/inbox_contract.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Protocol

# Raises the agreed generation and gives the new one. It must be higher than any before, below
# 2**53, and never be given twice, also after the place of agreement was restored from a backup:
# let its low bits be random.
RaiseGeneration = Callable[[], Awaitable[int]]


@dataclass(slots=True, frozen=True)
class Stamp:
    """A moment of an inbox.

    Attributes:
        generation: Of the inbox.
        time_us: Microseconds since 1970 on the inbox's clock, which never falls.
    """

    generation: int
    time_us: int


@dataclass(slots=True, frozen=True)
class Change:
    """A channel's last change.

    Attributes:
        time_us: On the inbox's clock; no two changes share one.
    """

    channel_id: str
    time_us: int


@dataclass(slots=True, frozen=True)
class Changes:
    """What changed after a stamp.

    Attributes:
        complete: Whether nothing is missing. If not, the device needs its whole channel list, read
            after this answer came.
        changes: The oldest first; empty when incomplete.
        more: Whether there are further ones, to be asked for with `stamp`.
        stamp: What to ask with next time.
    """

    complete: bool
    changes: tuple[Change, ...]
    more: bool
    stamp: Stamp


class Inbox(Protocol):
    """The inboxes of all users."""

    async def touch(self, user_ids: Collection[str], channel_id: str) -> None:
        """Notes for each user that the channel changed: when this returns, every later answer to
        them has it or is incomplete. One round trip for hundreds of users, and for many calls at
        once.

        Raises:
            Unavailable: Some or all may not have it. Touch again, or raise the generation.
        """

    async def changed_since(self, user_id: str, stamp: Stamp, limit: int) -> Changes:
        """Up to `limit` channels that changed after a stamp.

        Raises:
            Unavailable: It cannot tell.
        """

    async def now(self) -> Stamp:
        """The present moment: whoever reads a channel list afterwards misses nothing.

        Raises:
            Unavailable: It cannot tell.
        """

    async def generation(self) -> int:
        """The present generation; a loss is noticed here as well.

        Raises:
            Unavailable: It cannot tell.
        """

    def agree(self, generation: int) -> None:
        """The agreed generation is now this one or higher, as the caller learned."""
