"""Coordination in memory, for tests and simulations: one cluster, and a client for each node."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from chinwag_server.clock import Clock
from chinwag_server.mesh.coordination import (
    Changes,
    CoordinationUnavailable,
    Deleted,
    Entry,
    Lease,
    LeaseGone,
    Snapshot,
)

MAX_PENDING = 1024  # changes that wait for a watcher; with more it gets a Snapshot
RETRY_S = 0.1

_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class _Watcher:
    prefix: str
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    pending: deque[Changes] = field(default_factory=deque)
    whole: bool = True  # it gets a Snapshot next


@dataclass(slots=True)
class _Lease:
    ttl_s: float
    until: float
    keys: set[str] = field(default_factory=set)


@dataclass(slots=True, frozen=True)
class Saved:
    """A cluster as it was at one moment."""

    revision: int
    entries: tuple[Entry, ...]
    ttls: tuple[tuple[int, float], ...]


class MemoryCluster:
    """What etcd would hold. Leases run by `clock`; they end at the next call, or when a watcher
    waits."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._revision = 1
        self._last_lease = 0
        self._entries: dict[str, Entry] = {}
        self._leases: dict[int, _Lease] = {}
        self._watchers: dict[_Watcher, None] = {}

    def forget_history(self) -> None:
        """Every watcher gets a Snapshot next, as after a compaction."""
        for watcher in self._watchers:
            watcher.whole = True
            watcher.wake.set()

    def save(self) -> Saved:
        """A backup."""
        self.expire()
        ttls = tuple((number, held.ttl_s) for number, held in self._leases.items())
        return Saved(self._revision, tuple(self._entries.values()), ttls)

    def restore(self, saved: Saved, *, leases: bool = True) -> None:
        """Goes back to a backup; its leases begin anew, or are gone with their keys."""
        now = self._clock.monotonic()
        ttls = saved.ttls if leases else ()
        self._leases = {number: _Lease(ttl_s, now + ttl_s) for number, ttl_s in ttls}
        self._entries = {}
        for entry in saved.entries:
            if not entry.lease or entry.lease in self._leases:
                self._entries[entry.key] = entry
            if entry.lease in self._leases:
                self._leases[entry.lease].keys.add(entry.key)
        self._revision = saved.revision
        self.forget_history()

    def grant(self, ttl_s: float) -> int:
        self.expire()
        self._last_lease += 1
        self._leases[self._last_lease] = _Lease(ttl_s, self._clock.monotonic() + ttl_s)
        return self._last_lease

    def keep_alive(self, lease: int) -> None:
        held = self._lease(lease)
        held.until = self._clock.monotonic() + held.ttl_s

    def revoke(self, lease: int) -> None:
        self.expire()
        if lease in self._leases:
            self._end(lease)

    def get(self, key: str) -> Entry | None:
        self.expire()
        return self._entries.get(key)

    def write(self, key: str, value: bytes, lease: int) -> Entry:
        """Makes or replaces a key.

        Raises:
            LeaseGone: Nothing was written.
        """
        if lease:
            self._lease(lease)
        old = self.get(key)
        if old is not None and old.lease:
            self._leases[old.lease].keys.discard(key)
        self._revision += 1
        created = old.create_revision if old is not None else self._revision
        entry = self._entries[key] = Entry(key, value, created, self._revision, lease)
        if lease:
            self._leases[lease].keys.add(key)
        self._tell([entry])
        return entry

    def delete(self, *keys: str) -> None:
        """Deletes keys that are there, in one revision."""
        self._revision += 1
        for key in keys:
            gone = self._entries.pop(key)
            if gone.lease in self._leases:
                self._leases[gone.lease].keys.discard(key)
        self._tell([Deleted(key, self._revision) for key in keys])

    def snapshot(self, prefix: str) -> Snapshot:
        self.expire()
        keys = sorted(key for key in self._entries if key.startswith(prefix))
        return Snapshot(self._revision, tuple(self._entries[key] for key in keys))

    def attach(self, prefix: str) -> _Watcher:
        watcher = _Watcher(prefix)
        self._watchers[watcher] = None
        return watcher

    def detach(self, watcher: _Watcher) -> None:
        self._watchers.pop(watcher, None)

    def expire(self) -> float:
        """Ends the leases whose time has come; seconds until the next one."""
        now = self._clock.monotonic()
        for lease in [number for number, held in self._leases.items() if held.until <= now]:
            self._end(lease)
        return min((held.until - now for held in self._leases.values()), default=float("inf"))

    def _lease(self, lease: int) -> _Lease:
        self.expire()
        if lease not in self._leases:
            raise LeaseGone(f"there is no lease {lease:x}")
        return self._leases[lease]

    def _end(self, lease: int) -> None:
        keys = sorted(self._leases.pop(lease).keys)
        if keys:
            self.delete(*keys)

    def _tell(self, changes: list[Entry | Deleted]) -> None:
        for watcher in self._watchers:
            mine = tuple(change for change in changes if change.key.startswith(watcher.prefix))
            if not mine:
                continue
            if len(watcher.pending) == MAX_PENDING:
                watcher.whole = True
            if not watcher.whole:
                watcher.pending.append(Changes(self._revision, mine))
            watcher.wake.set()


async def _at_once() -> None:
    pass


class MemoryCoordination:
    """A node's way to a cluster.

    Args:
        clock: The node's.
        travel: Awaited on the way there and on the way back of every call, and before a watch
            gives something. It may wait, or raise CoordinationUnavailable: then a request or an
            answer is lost.
    """

    def __init__(
        self,
        cluster: MemoryCluster,
        clock: Clock,
        travel: Callable[[], Awaitable[None]] = _at_once,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._travel = travel
        self._watchers: dict[_Watcher, None] = {}
        self._closed = False

    async def grant(self, ttl_s: int) -> Lease:
        sent = self._clock.monotonic()
        return await self._call(lambda: Lease(self._cluster.grant(ttl_s), ttl_s, sent))

    async def keep_alive(self, lease: int) -> float:
        sent = self._clock.monotonic()
        await self._call(lambda: self._cluster.keep_alive(lease))
        return sent

    async def revoke(self, lease: int) -> None:
        await self._call(lambda: self._cluster.revoke(lease))

    async def put(self, key: str, value: bytes, lease: int = 0) -> int:
        entry = await self._call(lambda: self._cluster.write(key, value, lease))
        return entry.mod_revision

    async def create(self, key: str, value: bytes, lease: int = 0) -> Entry:
        cluster = self._cluster
        return await self._call(lambda: cluster.get(key) or cluster.write(key, value, lease))

    async def replace(
        self, key: str, mod_revision: int, value: bytes, lease: int = 0
    ) -> Entry | None:
        def apply() -> Entry | None:
            old = self._cluster.get(key)
            if old is None or old.mod_revision != mod_revision:
                return old
            return self._cluster.write(key, value, lease)

        return await self._call(apply)

    async def delete_if(self, key: str, create_revision: int, value: bytes) -> None:
        def apply() -> None:
            old = self._cluster.get(key)
            if old is not None and (old.create_revision, old.value) == (create_revision, value):
                self._cluster.delete(key)

        await self._call(apply)

    async def list(self, prefix: str) -> Snapshot:
        return await self._call(lambda: self._cluster.snapshot(prefix))

    async def watch(self, prefix: str) -> AsyncGenerator[Snapshot | Changes, None]:
        watcher = self._cluster.attach(prefix)
        self._watchers[watcher] = None
        try:
            while not self._closed:
                try:
                    await self._travel()
                except CoordinationUnavailable:
                    watcher.whole = True
                    await asyncio.sleep(RETRY_S)
                    continue
                if watcher.whole:
                    watcher.whole = False
                    watcher.pending.clear()
                    yield self._cluster.snapshot(prefix)
                elif watcher.pending:
                    arrived, watcher.pending = watcher.pending, deque()
                    for changes in arrived:
                        yield changes
                else:
                    await self._wait(watcher)
        finally:
            self._cluster.detach(watcher)
            self._watchers.pop(watcher, None)

    async def close(self) -> None:
        self._closed = True
        for watcher in self._watchers:
            watcher.wake.set()

    async def _wait(self, watcher: _Watcher) -> None:
        """Until something may have happened; leases end while somebody waits here."""
        watcher.wake.clear()
        next_end = self._cluster.expire()
        if watcher.wake.is_set():
            return
        try:
            # At least a millisecond: two clocks may never agree on less.
            async with asyncio.timeout(max(next_end, 0.001) if next_end < float("inf") else None):
                await watcher.wake.wait()
        except TimeoutError:
            self._cluster.expire()

    async def _call(self, apply: Callable[[], _T]) -> _T:
        if self._closed:
            raise CoordinationUnavailable("this client is closed")
        await self._travel()
        done = apply()
        await self._travel()
        return done
