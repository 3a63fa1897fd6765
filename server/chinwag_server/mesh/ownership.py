"""Which shards this process owns: by a key for each in the coordination, under one lease.

A key alone is not safe: its owner may be paused and wake up late. So an owner counts as one only
while its lease certainly lives, by its own clock; what it writes elsewhere carries the epoch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from chinwag_server.clock import Clock
from chinwag_server.mesh.coordination import (
    Changes,
    Coordination,
    CoordinationUnavailable,
    Entry,
    LeaseGone,
    Snapshot,
)
from chinwag_server.mesh.epoch import Epoch, EpochRefused
from chinwag_server.mesh.lease import HeldLease, check_margin, keep
from chinwag_server.mesh.pace import Pace
from chinwag_server.mesh.shard_keys import Holder, ShardKeys
from chinwag_server.mesh.shards import SHARDS, owners_of

TTL_S = 10
MARGIN_S = 2.0
PARALLEL = 32  # shards of which something is done at the same time
CLAIMS_AT_ONCE = 16  # more would wait for each other at the database
CONFIRM_S = 5.0
HAND_OVER_S = 10.0
RETRY_S = 0.2
REVOKE_S = 2.0
REFUSED_RETRY_S = 30.0
NONCE_BYTES = 16
PREFIX = "/chinwag/"

__all__ = ["Epoch", "EpochRefused", "Ownership", "Owning"]

log = logging.getLogger(__name__)


def _accept(epoch: Epoch) -> None:
    pass


async def _accept_later(epoch: Epoch) -> None:
    pass


@dataclass(slots=True, frozen=True)
class Owning:
    """What an owner does as its epochs come and go.

    Attributes:
        confirm: Raises the epoch that is stored where the shard's data is. Until it returns the
            shard is not won. EpochRefused gives the shard up, other errors are tried again.
        won: The shard is ours from now on.
        hand_over: The shard is to go to another node: ends what is under way. The epoch counts
            until it returns, or for HAND_OVER_S.
        lost: The epoch has ended, whyever.
    """

    confirm: Callable[[Epoch], Awaitable[None]] = _accept_later
    won: Callable[[Epoch], None] = _accept
    hand_over: Callable[[Epoch], Awaitable[None]] = _accept_later
    lost: Callable[[Epoch], None] = _accept


class Ownership:
    """The shards of this process.

    Args:
        node_id: Drawn anew for each process.
        random_bytes: So many random bytes.
    """

    def __init__(
        self,
        coordination: Coordination,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        node_id: str,
        owning: Owning,
        *,
        prefix: str = PREFIX,
        ttl_s: int = TTL_S,
        margin_s: float = MARGIN_S,
        parallel: int = PARALLEL,
    ) -> None:
        check_margin(ttl_s, margin_s)
        self._coordination = coordination
        self._clock = clock
        self._random_bytes = random_bytes
        self._node_id = node_id
        self._owning = owning
        self._keys = ShardKeys(prefix)
        self._ttl_s = ttl_s
        self._margin_s = margin_s
        self._parallel = parallel
        # Every nonce of this process begins alike, so that it knows its own keys, and those of a
        # process before it, whatever its id, as another's.
        self._mark = random_bytes(NONCE_BYTES // 2)

        self._wanted: frozenset[int] = frozenset()
        self._held: HeldLease | None = None
        self._epochs: dict[int, Epoch] = {}  # claimed: won, or about to be confirmed
        self._won: dict[int, Epoch] = {}
        self._refused: set[int] = set()  # not claimed for a while

        self._due: dict[int, None] = {}  # shards to look at, in order
        self._leaving: dict[int, None] = {}  # shards to hand over, in order
        self._wake = asyncio.Event()
        self._pace = Pace(clock, self._wake.set)
        self._moved = asyncio.Event()  # a shard was done with
        self._busy: dict[int, asyncio.Task[None]] = {}
        self._claims = asyncio.Semaphore(CLAIMS_AT_ONCE)
        self._tasks: list[asyncio.Task[None]] = []

    # --- what others ask ---

    def epoch_of(self, shard: int) -> Epoch | None:
        """Our epoch of a shard, if we own it now."""
        epoch = self._won.get(shard)
        return epoch if epoch is not None and epoch.alive() else None

    def owned(self) -> list[int]:
        """The shards we own now."""
        return sorted(shard for shard, epoch in self._won.items() if epoch.alive())

    def holder_of(self, shard: int) -> str | None:
        """The node that holds a shard, as last seen: where its sends go. It may be gone."""
        holder = self._keys.holders.get(shard)
        return holder.node_id if holder is not None else None

    def assign(self, nodes: Mapping[str, float]) -> None:
        """Shares the shards out anew.

        Args:
            nodes: Capacity by id of all nodes that serve; without this one it hands all over, a
                few at a time if anybody is there to take them.
        """
        self._pace.is_kept = bool(nodes.keys() - {self._node_id})
        owners = owners_of(nodes)
        self._wanted = frozenset(
            shard for shard, node_id in enumerate(owners) if node_id == self._node_id
        )
        self._look_at_all()

    def give_up(self, epoch: Epoch, why: str) -> None:
        """Ends an epoch that failed a check; the shard is claimed again with a new one, by
        whoever should have it."""
        log.error("%r is given up: %s", epoch, why)
        self._lose(epoch)

    # --- life ---

    def start(self) -> None:
        """Begins to follow and to claim."""
        self._tasks = [
            asyncio.create_task(self._hold_leases()),
            asyncio.create_task(self._follow()),
            asyncio.create_task(self._work()),
        ]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def hand_over(self, timeout_s: float, nodes: Mapping[str, float]) -> None:
        """Hands all shards over, for so long at most, and goes on to follow who owns them.

        Args:
            nodes: As `assign` has them, without this one.
        """
        self.assign(nodes)
        try:
            async with asyncio.timeout(timeout_s):
                while self._epochs or self._busy:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            log.warning("%d shards were not handed over in %g s", len(self._epochs), timeout_s)

    async def stop(self, timeout_s: float) -> None:
        """Hands all shards over; what is not over by then ends, and its key with the lease."""
        await self.hand_over(timeout_s, {})
        tasks = [*self._tasks, *self._busy.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        held = self._held
        # None may count any more when their keys go.
        self._end_lease()
        if held is not None:
            await self._revoke(held)

    async def _revoke(self, held: HeldLease) -> None:
        """Deletes what keys are left, so that nobody waits for the lease to end."""
        try:
            async with asyncio.timeout(REVOKE_S):
                await self._coordination.revoke(held.id)
        except (CoordinationUnavailable, LeaseGone, TimeoutError) as error:
            log.warning("keys of shards may be left for another %g s: %s", held.ttl_s, error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("owning shards failed: this node owns none from now on", exc_info=error)
            self._end_lease()

    # --- the lease ---

    async def _hold_leases(self) -> None:
        """One lease after the other; with each all epochs of the one before end."""
        while True:
            try:
                lease = await self._coordination.grant(self._ttl_s)
            except CoordinationUnavailable as error:
                log.warning("no lease for shards: %s", error)
                await asyncio.sleep(RETRY_S)
                continue
            self._held = HeldLease(lease, self._margin_s, self._clock)
            self._look_at_all()
            await keep(self._held, self._coordination)
            log.warning("the lease %x is over, and with it all shards of this node", lease.id)
            self._end_lease()
            await asyncio.sleep(RETRY_S)

    def _end_lease(self) -> None:
        if self._held is not None:
            self._held.end()
        for epoch in list(self._epochs.values()):
            self._lose(epoch)

    def _lose(self, epoch: Epoch) -> None:
        """The epoch counts no more; its key, if there is one, is deleted after that."""
        epoch.end()
        if self._epochs.get(epoch.shard) is epoch:
            del self._epochs[epoch.shard]
        if self._won.get(epoch.shard) is epoch:
            del self._won[epoch.shard]
            self._tell(self._owning.lost, epoch)
        self._look_at(epoch.shard)

    def _tell(self, callback: Callable[[Epoch], None], epoch: Epoch) -> None:
        try:
            callback(epoch)
        except Exception:
            log.exception("what follows from %r failed", epoch)

    # --- the keys ---

    async def _follow(self) -> None:
        async with aclosing(self._coordination.watch(self._keys.prefix)) as watch:
            async for news in watch:
                if isinstance(news, Snapshot):
                    self._see_whole(news)
                else:
                    self._see_changes(news)

    def _see_whole(self, news: Snapshot) -> None:
        if news.revision < self._keys.revision:
            log.error(
                "the coordination was restored or replaced: it was at revision %d and is at %d",
                self._keys.revision,
                news.revision,
            )
            self._end_lease()
        base = self._keys.base
        self._keys.replace(news)
        for epoch in list(self._epochs.values()):
            self._check(epoch)
        self._see_base(base)
        self._look_at_all()

    def _see_changes(self, news: Changes) -> None:
        # All of them before any check: what a batch ends with is how it is at its revision.
        base, self._keys.revision = self._keys.base, news.revision
        touched: dict[int, None] = {}
        for change in news.changes:
            shard = self._keys.note(change.key, change if isinstance(change, Entry) else None)
            if shard is not None:
                touched[shard] = None
        for shard in touched:
            epoch = self._epochs.get(shard)
            if epoch is not None:
                self._check(epoch)
            if shard in self._keys.entries and not self._is_mine(shard):
                self._pace.arrived(shard)
            self._look_at(shard)
        self._see_base(base)

    def _see_base(self, before: int) -> None:
        """Claims again what was refused, once epochs were raised. Epochs that count go on: each
        is above those before it of its shard, whatever its base."""
        if self._keys.base == before:
            return
        log.info("epochs are revisions plus %d, before this plus %d", self._keys.base, before)
        self._refused.clear()
        self._look_at_all()

    def _check(self, epoch: Epoch) -> None:
        """An epoch whose key is gone, or is another's, is over."""
        entry = self._keys.entries.get(epoch.shard)
        holder = self._keys.holders.get(epoch.shard)
        if entry is None or holder is None:
            fits = False
        else:
            fits = (entry.create_revision, holder.nonce) == (epoch.revision, epoch.nonce.hex())
        if not fits and self._keys.revision >= epoch.revision:
            log.error("%r lost its key: %s", epoch, "it is gone" if entry is None else entry)
            self._lose(epoch)

    # --- the work ---

    def _look_at_all(self) -> None:
        self._due.update(dict.fromkeys(range(SHARDS)))
        self._wake.set()

    def _look_at(self, shard: int) -> None:
        self._due[shard] = None
        self._wake.set()
        self._moved.set()

    async def _work(self) -> None:
        """Starts what is to be done, one thing a shard at a time."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._due and len(self._busy) < self._parallel:
                shard = next(iter(self._due))
                del self._due[shard]
                if shard in self._busy:
                    continue  # it is looked at again when it is done
                if self._is_leaving(shard):
                    self._leaving[shard] = None
                else:
                    self._begin(shard)
            while self._leaving and len(self._busy) < self._parallel and self._pace.may_begin():
                shard = next(iter(self._leaving))
                del self._leaving[shard]
                if shard not in self._busy and self._is_leaving(shard):
                    self._pace.begin(shard)
                    self._begin(shard)

    def _begin(self, shard: int) -> None:
        step = self._step(shard)
        if step is not None:
            self._busy[shard] = asyncio.create_task(self._run(shard, step))

    def _is_leaving(self, shard: int) -> bool:
        return shard in self._epochs and (shard not in self._wanted or shard in self._refused)

    async def _run(self, shard: int, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except CoordinationUnavailable as error:
            # Said once, by the lease and the watch, and not for a thousand shards.
            log.debug("shard %d has to wait: %s", shard, error)
            await asyncio.sleep(RETRY_S)
        except Exception:
            log.exception("shard %d has to wait", shard)
            await asyncio.sleep(RETRY_S)
        finally:
            self._busy.pop(shard, None)
            self._look_at(shard)

    def _step(self, shard: int) -> Callable[[], Awaitable[None]] | None:
        """What is to be done with a shard now."""
        epoch, entry, held = self._epochs.get(shard), self._keys.entries.get(shard), self._held
        wanted = shard in self._wanted and shard not in self._refused
        if epoch is not None:
            return None if wanted else partial(self._release, epoch)
        if entry is not None:
            if self._is_mine(shard):
                return partial(self._delete, shard, entry.create_revision, entry.value)
            return None
        if not wanted or self._keys.revision == 0 or held is None or not held.alive():
            return None
        return partial(self._claim_in_turn, shard, held)

    def _is_mine(self, shard: int) -> bool:
        holder = self._keys.holders.get(shard)
        return holder is not None and holder.nonce.startswith(self._mark.hex())

    async def _claim_in_turn(self, shard: int, held: HeldLease) -> None:
        async with self._claims:
            # Of what has changed meanwhile it is looked at again.
            if held.alive() and shard in self._wanted and shard not in self._keys.entries:
                await self._claim(shard, held)
        if shard not in self._epochs and self._step(shard) is not None:
            # Over as soon as it was made: the coordination may have been restored, and the watch
            # has not told yet. Until it has, it would be the same again and again.
            await asyncio.sleep(RETRY_S)

    async def _claim(self, shard: int, held: HeldLease) -> None:
        nonce = self._mark + self._random_bytes(NONCE_BYTES // 2)
        entry = await self._create(shard, self._value(nonce), held)
        if entry is None:
            return
        # A base that is just being raised is the old one here, or the new one: whichever, what is
        # stored with the data judges the epoch that comes of it.
        base = self._keys.base
        epoch = self._epochs[shard] = Epoch(shard, entry.create_revision, nonce, held, base=base)
        if entry.mod_revision <= self._keys.revision:
            self._check(epoch)
        if await self._confirmed(epoch):
            self._won[shard] = epoch
            self._tell(self._owning.won, epoch)
        else:
            self._lose(epoch)
            await self._delete(shard, entry.create_revision, entry.value)

    async def _create(self, shard: int, value: bytes, held: HeldLease) -> Entry | None:
        """Makes the shard's key if it is absent; None if it is not ours then. What failed is
        repeated with the same value: it may have succeeded."""
        while held.alive() and shard in self._wanted:
            try:
                entry = await self._coordination.create(self._keys.key(shard), value, held.id)
            except LeaseGone:
                held.end()
                return None
            except CoordinationUnavailable as error:
                log.debug("shard %d could not be claimed: %s", shard, error)
                await asyncio.sleep(RETRY_S)
                continue
            self._keys.note_ahead(entry)
            return entry if entry.value == value else None
        return None

    async def _confirmed(self, epoch: Epoch) -> bool:
        while epoch.alive() and epoch.shard in self._wanted:
            try:
                async with asyncio.timeout(CONFIRM_S):
                    await self._owning.confirm(epoch)
            except EpochRefused as error:
                log.error("%r is refused, the shard is not served: %s", epoch, error)
                self._refuse(epoch.shard)
                return False
            except Exception as error:
                log.warning("%r is not confirmed yet: %r", epoch, error)
                await asyncio.sleep(RETRY_S)
            else:
                return epoch.alive()
        return False

    def _refuse(self, shard: int) -> None:
        """Leaves a shard alone for a while: by then somebody may have put it right."""

        def again() -> None:
            self._refused.discard(shard)
            self._look_at(shard)

        self._refused.add(shard)
        asyncio.get_running_loop().call_later(REFUSED_RETRY_S, again)

    async def _release(self, epoch: Epoch) -> None:
        try:
            async with asyncio.timeout(HAND_OVER_S):
                await self._owning.hand_over(epoch)
        except TimeoutError:
            log.warning("%r was not handed over in %g s: it ends now", epoch, HAND_OVER_S)
        except Exception:
            log.exception("%r was not handed over: it ends now", epoch)
        # It must not count any more when the delete goes out.
        self._lose(epoch)
        await self._delete(epoch.shard, epoch.revision, self._value(epoch.nonce))

    async def _delete(self, shard: int, create_revision: int, value: bytes) -> None:
        """Deletes a key of ours of which no epoch counts."""
        assert shard not in self._epochs, f"shard {shard} is still owned"
        await self._coordination.delete_if(self._keys.key(shard), create_revision, value)
        self._keys.note_deleted(shard, create_revision)

    def _value(self, nonce: bytes) -> bytes:
        return Holder(self._node_id, nonce.hex()).to_json()
