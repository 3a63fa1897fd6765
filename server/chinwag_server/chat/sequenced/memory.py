"""`Tables` in memory: one replica that never fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from chinwag_server.chat.sequenced.cells import Replica
from chinwag_server.chat.sequenced.tables import Delete, Key, Put, Row, Table, one_by_one


class MemoryTables:
    """For tests of what stands on the port.

    Args:
        now: Seconds, for cells that are kept for a time.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._replica = Replica(now)
        self._epochs: dict[int, tuple[int, bytes]] = {}

    async def write(self, writes: Sequence[Put | Delete]) -> None:
        assert len({write.partition for write in writes}) <= 1, "a batch is of one partition"
        self._replica.apply(writes)

    async def write_each(self, batches: Sequence[Sequence[Put | Delete]]) -> None:
        await one_by_one(self.write, batches)

    async def read(
        self,
        table: Table,
        partition: Key,
        *,
        after: Key = (),
        to: Key = (),
        limit: int,
        newest_first: bool = False,
    ) -> list[Row]:
        found = self._replica.partition(table.name, partition)
        return found.select(after, to, limit, newest_first, self._now())

    async def claim(self, shard: int, epoch: int, nonce: bytes) -> tuple[int, bytes]:
        stored = self._epochs.get(shard, (0, b""))
        if epoch > stored[0]:
            stored = self._epochs[shard] = (epoch, nonce)
        return stored
