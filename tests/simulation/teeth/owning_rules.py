"""The rules of owning, taken out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from chinwag_server.mesh import ownership
from chinwag_server.mesh.coordination import CoordinationUnavailable, LeaseGone
from chinwag_server.mesh.epoch import Epoch, EpochRefused
from chinwag_server.mesh.lease import HeldLease
from chinwag_server.mesh.memory_coordination import MemoryCoordination
from chinwag_server.mesh.ownership import NONCE_BYTES, Ownership
from chinwag_server.mesh.shards import owners_of
from tests.simulation import world
from tests.simulation.teeth.tooth import method, nothing, tooth
from tests.simulation.world import Node

NAME_BYTES = 4


@tooth("repeated")
def stored_epoch() -> Sequence[Any]:
    """An epoch that is lower than the stored one is refused."""
    return [method(Node, "_confirm", nothing)]


@tooth("repeated")
def nonce_in_it() -> Sequence[Any]:
    """And so is an equal one of another claim."""

    async def confirm(self: Node, epoch: Epoch) -> None:
        stored = await self.tables.claim(epoch.shard, epoch.number, epoch.nonce)
        if stored[0] != epoch.number:
            raise EpochRefused("another epoch")

    return [method(Node, "_confirm", confirm)]


@tooth("woken")
def conditional_delete() -> Sequence[Any]:
    """An owner deletes its own key alone."""

    async def delete_if(
        self: MemoryCoordination, key: str, create_revision: int, value: bytes
    ) -> None:
        def apply() -> None:
            if self._cluster.get(key) is not None:
                self._cluster.delete(key)

        await self._call(apply)

    return [method(MemoryCoordination, "delete_if", delete_if)]


@tooth("leaving")
def release_before_delete() -> Sequence[Any]:
    """An owner stops to count as one before it deletes its key."""

    async def release(self: Ownership, epoch: Epoch) -> None:
        value = self._value(epoch.nonce)
        await self._coordination.delete_if(self._keys.key(epoch.shard), epoch.revision, value)
        with contextlib.suppress(Exception):
            await self._owning.hand_over(epoch)
        self._lose(epoch)

    return [method(Ownership, "_release", release)]


async def _keep_on(held: HeldLease, coordination: Any) -> None:
    """Renews a lease for as long as there is one, also when it has lapsed here."""
    while not held.over.is_set():
        try:
            held.renewed(await coordination.keep_alive(held.id))
        except LeaseGone:
            held.end()
            return
        except CoordinationUnavailable:
            pass
        await asyncio.sleep(held.ttl_s / 3)


@tooth("revived")
def lapsed_is_over() -> Sequence[Any]:
    """An ownership that has lapsed is over for good: it may have been another's in between."""

    def alive(self: HeldLease) -> bool:
        return self._clock.monotonic() < self._until and not self.over.is_set()

    def renewed(self: HeldLease, sent: float) -> None:
        self._until = max(self._until, sent + self._life_s)

    return [
        method(HeldLease, "alive", alive),
        method(HeldLease, "renewed", renewed),
        method(ownership, "keep", _keep_on),
    ]


@tooth("adrift")
def lease_runs_on_the_own_clock() -> Sequence[Any]:
    """An owner counts its lease by its own clock, from when the keep-alive was sent (here it waits
    to be told that it has ended)."""
    init = HeldLease.__init__

    def init_for_ever(self: HeldLease, lease: Any, *args: Any) -> None:
        init(self, lease, *args)
        self._until = self._life_s = 1e9

    return [method(HeldLease, "__init__", init_for_ever)]


class _AnyLease(HeldLease):
    """Lives while any lease of its process does."""

    leases: ClassVar[WeakKeyDictionary[Any, list[HeldLease]]] = WeakKeyDictionary()

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.leases.setdefault(self._clock, []).append(self)

    def alive(self) -> bool:
        return any(HeldLease.alive(lease) for lease in self.leases[self._clock])


@tooth("adrift")
def lease_bound_to_epoch() -> Sequence[Any]:
    """An epoch lasts no longer than the lease under which its key was made; a newer lease of the
    process does not revive it."""

    def end_lease(self: Ownership) -> None:
        if self._held is not None:
            self._held.end()

    async def keep(held: HeldLease, coordination: Any) -> None:
        # As it is, but for this lease alone.
        while HeldLease.alive(held):
            try:
                async with asyncio.timeout(1.0):
                    held.renewed(await coordination.keep_alive(held.id))
            except LeaseGone:
                held.end()
            except (CoordinationUnavailable, TimeoutError):
                pass
            await asyncio.sleep(held.ttl_s / 3)

    return [
        method(ownership, "HeldLease", _AnyLease),
        method(ownership, "keep", keep),
        method(Ownership, "_end_lease", end_lease),
    ]


@tooth("reborn")
def predecessors_key_is_not_adopted() -> Sequence[Any]:
    """A restarted process does not go on under the key of the one before it: what that has under
    way has the same epoch. (Here a node's share goes by its name, so that it wants the same.)"""
    start, init, step = Node.start, Ownership.__init__, Ownership._step
    starting: list[str] = []

    def start_named(self: Node) -> None:
        starting.append(self.name)
        start(self)

    def init_marked(self: Ownership, *args: Any, **named: Any) -> None:
        init(self, *args, **named)
        self._mark = blake2b(starting[-1].encode(), digest_size=NONCE_BYTES // 2).digest()

    async def adopt(self: Ownership, shard: int) -> None:
        entry, holder, held = self._keys.entries[shard], self._keys.holders[shard], self._held
        assert held is not None
        nonce = bytes.fromhex(holder.nonce)
        epoch = self._epochs[shard] = Epoch(
            shard, entry.create_revision, nonce, held, base=self._keys.base
        )
        if await self._confirmed(epoch):
            self._won[shard] = epoch
            self._tell(self._owning.won, epoch)
        else:
            self._lose(epoch)

    def step_adopting(self: Ownership, shard: int) -> Callable[[], Any] | None:
        entry, held = self._keys.entries.get(shard), self._held
        before = born.setdefault(self, self._keys.revision) if self._keys.revision else 0
        if entry is None or shard in self._epochs or entry.create_revision > before:
            return step(self, shard)
        if not self._is_mine(shard):
            return step(self, shard)
        may = shard in self._wanted and held is not None and held.alive()
        return partial(adopt, self, shard) if may else None

    born: WeakKeyDictionary[Ownership, int] = WeakKeyDictionary()

    def named_id(random_bytes: Callable[[int], bytes]) -> str:
        name = blake2b(starting[-1].encode(), digest_size=NAME_BYTES).hexdigest()
        return name + random_bytes(NAME_BYTES).hex()

    def assign_by_name(self: Ownership, nodes: Mapping[str, float]) -> None:
        names = {node_id[: 2 * NAME_BYTES]: capacity for node_id, capacity in nodes.items()}
        own = self._node_id[: 2 * NAME_BYTES]
        owners = owners_of(names)
        self._wanted = frozenset(shard for shard, name in enumerate(owners) if name == own)
        self._look_at_all()

    return [
        method(world, "new_node_id", named_id),
        method(Ownership, "assign", assign_by_name),
        method(Node, "start", start_named),
        method(Ownership, "__init__", init_marked),
        method(Ownership, "_step", step_adopting),
    ]
