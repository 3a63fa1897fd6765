"""The port to what the nodes of a mesh agree through: keys under leases, with revisions.

It is what etcd gives and no more. Every write has a revision, greater than all before it in the
life of one cluster; a restored cluster may repeat revisions, so whoever relies on one also puts a
nonce into the value. Every adapter passes tests/mesh/coordination_contract.py.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol


class CoordinationUnavailable(Exception):
    """A call did not succeed within its deadline: the text says what was tried and what came. Of
    a write nothing is known then: it may have happened, or may still happen."""


class CoordinationRefused(CoordinationUnavailable):
    """It answers, and will not let us in: waiting does not help, the text says what to change."""


class LeaseGone(Exception):
    """There is no such lease, and with it went all its keys."""


@dataclass(slots=True, frozen=True)
class Lease:
    """A lease as it was granted.

    Attributes:
        ttl_s: It lives at least this long after each keep-alive was sent.
        sent: The caller's monotonic time, in seconds, just before the request went out.
    """

    id: int
    ttl_s: float
    sent: float


@dataclass(slots=True, frozen=True)
class Entry:
    """A key with what it holds.

    Attributes:
        create_revision: When the key was made; another one after a deletion.
        mod_revision: When it was last written.
        lease: With which it goes; 0: it stays.
    """

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int = 0


@dataclass(slots=True, frozen=True)
class Deleted:
    """A key that is gone.

    Attributes:
        revision: Of the deletion.
    """

    key: str
    revision: int


@dataclass(slots=True, frozen=True)
class Snapshot:
    """All keys of a prefix, in their order, as they were at a revision."""

    revision: int
    entries: tuple[Entry, ...]


@dataclass(slots=True, frozen=True)
class Changes:
    """What happened to a prefix, in order; whole revisions only.

    Attributes:
        revision: Of the last change.
    """

    revision: int
    changes: tuple[Entry | Deleted, ...]


class Coordination(Protocol):
    """Linearizable. Each call ends within the adapter's deadline, with an answer or with
    CoordinationUnavailable; adapters try again by themselves until then."""

    async def grant(self, ttl_s: int) -> Lease:
        """A new lease, of this many seconds or more.

        Raises:
            CoordinationUnavailable: There may be a lease that nobody knows; it ends by itself.
        """

    async def keep_alive(self, lease: int) -> float:
        """Renews a lease.

        Returns:
            The caller's monotonic time, in seconds, just before the request that was answered
            went out: the lease lives at least its TTL from then on.

        Raises:
            LeaseGone: It has ended.
            CoordinationUnavailable: It may have been renewed.
        """

    async def revoke(self, lease: int) -> None:
        """Ends a lease and deletes its keys; one that has ended already is no error.

        Raises:
            CoordinationUnavailable: It may have ended.
        """

    async def put(self, key: str, value: bytes, lease: int = 0) -> int:
        """Writes a key, whatever it holds. A put that failed may still happen, also after a
        later one: what must not go back uses `replace`.

        Returns:
            The revision.

        Raises:
            LeaseGone: Nothing was written.
            CoordinationUnavailable: It may have been written, or may be later.
        """

    async def create(self, key: str, value: bytes, lease: int = 0) -> Entry:
        """Makes a key if it is absent.

        Returns:
            The key as it is then. Whoever puts a nonce into the value sees by it whether this is
            the own one, also when the first answer was lost.

        Raises:
            LeaseGone: Nothing was written.
            CoordinationUnavailable: It may have been made, or may be later.
        """

    async def replace(
        self, key: str, mod_revision: int, value: bytes, lease: int = 0
    ) -> Entry | None:
        """Writes a key if it was last written at `mod_revision`.

        Returns:
            The key as it is then, by whomever; None: there is none.

        Raises:
            LeaseGone: Nothing was written.
            CoordinationUnavailable: It may have been written, or may be later.
        """

    async def delete_if(self, key: str, create_revision: int, value: bytes) -> None:
        """Deletes a key if it was made at this revision and holds this value: afterwards there is
        no such key.

        Raises:
            CoordinationUnavailable: It may be deleted, or may be later.
        """

    async def list(self, prefix: str) -> Snapshot:
        """All keys that start with `prefix`.

        Raises:
            CoordinationUnavailable: It is not known what there is.
        """

    def watch(self, prefix: str) -> AsyncGenerator[Snapshot | Changes, None]:
        """All keys that start with `prefix`, and from then on what happens to them.

        First comes a Snapshot. It goes on by itself over broken connections and restarts, for as
        long as the caller iterates; where the changes in between are not to be had, another
        Snapshot comes, which stands for all that was missed. A Snapshot of a lower revision than
        what came before says that the cluster was restored or replaced.
        """

    async def close(self) -> None:
        """Ends connections; watches end too."""
