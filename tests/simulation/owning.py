"""Which shards a simulated node owns: the lease rules alone, whoever is first takes a shard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from chinwag_server.clock import Clock
from chinwag_server.mesh.coordination import Coordination, CoordinationUnavailable, LeaseGone
from chinwag_server.mesh.shards import shard_of

TTL_S = 10
MARGIN_S = 2.0


class SimEpoch:
    def __init__(self, owning: Owning, shard: int, number: int, nonce: bytes, lease: int) -> None:
        self.shard = shard
        self.number = number
        self.nonce = nonce
        self.lease = lease
        self._owning = owning
        self._over = False

    def alive(self) -> bool:
        if not self._over and self._owning.lease_until(self.lease) <= self._owning.now():
            self._over = True
        return not self._over

    def give_up(self) -> None:
        self._over = True


class Owning:
    def __init__(
        self,
        coordination: Coordination,
        clock: Clock,
        nonce: bytes,
        claim: Callable[[int, int, bytes], Awaitable[tuple[int, bytes]]],
        lost: Callable[[int], None],
        shards: int = 4,
    ) -> None:
        self._coordination = coordination
        self._clock = clock
        self._nonce = nonce
        self._claim = claim
        self._lost = lost
        self._shards = shards
        self._until: dict[int, float] = {}
        self.epochs: dict[int, SimEpoch] = {}
        self._claims = 0
        self.ready: Callable[[SimEpoch], Awaitable[None]] | None = None

    def now(self) -> float:
        return self._clock.monotonic()

    def lease_until(self, lease: int) -> float:
        return self._until.get(lease, 0.0)

    def shard_of(self, channel_id: str) -> int:
        return shard_of(channel_id) % self._shards

    def epoch_of(self, channel_id: str) -> SimEpoch | None:
        return self.epochs.get(self.shard_of(channel_id))

    async def run(self) -> None:
        lease = 0
        while True:
            try:
                if not lease:
                    granted = await self._coordination.grant(TTL_S)
                    lease = granted.id
                    self._until[lease] = granted.sent + granted.ttl_s * 0.8 - MARGIN_S
                else:
                    sent = await self._coordination.keep_alive(lease)
                    self._until[lease] = max(self._until[lease], sent + TTL_S * 0.8 - MARGIN_S)
                await self._look(lease)
            except LeaseGone:
                lease = 0
            except CoordinationUnavailable:
                pass
            for epoch in list(self.epochs.values()):
                if not epoch.alive():
                    del self.epochs[epoch.shard]
                    self._lost(epoch.shard)
                    lease = 0
            await asyncio.sleep(1.0)

    async def _look(self, lease: int) -> None:
        for shard in range(self._shards):
            if shard in self.epochs:
                continue
            self._claims += 1
            nonce = self._nonce + self._claims.to_bytes(4, "big")
            entry = await self._coordination.create(f"shard/{shard}", nonce, lease)
            if entry.value != nonce:
                continue
            try:
                stored = await self._claim(shard, entry.create_revision, nonce)
            except Exception:
                continue
            if stored != (entry.create_revision, nonce):
                continue
            epoch = SimEpoch(self, shard, entry.create_revision, nonce, lease)
            if epoch.alive():
                self.epochs[shard] = epoch
                if self.ready is not None:
                    await self.ready(epoch)
