"""The adapter: rows as the port has them, to and from statements."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from cassandra.query import UNSET_VALUE, BatchStatement, BatchType

from chinwag_server.chat.cassandra import schema, statements
from chinwag_server.chat.cassandra.address import Address
from chinwag_server.chat.cassandra.bridge import IN_FLIGHT, WAITING, Bridge
from chinwag_server.chat.cassandra.coalesce import Coalescer
from chinwag_server.chat.sequenced.tables import (
    Delete,
    Key,
    Put,
    Row,
    Table,
    TablesUnavailable,
    one_by_one,
)
from chinwag_server.chat.store import StoreError

TIMEOUT_S = 5.0
OPEN_S = 30.0
# A page of rows with blobs, of 400 KB at most each, and of rows without.
PAGE_ROWS = 50
SMALL_PAGE_ROWS = 2000
# Cassandra refuses a request of 13 MB, with a heap of 512 MB.
MAX_WRITE_BYTES = 8 << 20
# Of what goes to several partitions in one request: Cassandra warns of more than 5 KiB and of more
# than ten partitions, and refuses 50 KiB.
SMALL_BYTES = 3 << 10
SMALL_PARTITIONS = 8
# Raises a shard's epoch. All columns of the condition come back if it is not met: that on the
# nonce is always met.
CLAIM = (
    'UPDATE "{0}".shard_epochs SET epoch = ?, nonce = ? WHERE shard = ? '
    "IF epoch < ? AND nonce >= 0x"
)
FIRST_CLAIM = 'INSERT INTO "{0}".shard_epochs (shard, epoch, nonce) VALUES (?, ?, ?) IF NOT EXISTS'

# Table, partition, after, to, limit, whether the newest come first.
Read = tuple[str, Key, Key, Key, int, bool]


class CassandraTables:
    """`Tables` at a URL (see `address`).

    Args:
        tables: All that will be used.
        cluster_id: Whose the keyspace has to be.
        timeout_s: How long a read, a write or a claim may take.

    Attributes:
        bridge: The connection.
    """

    def __init__(
        self,
        url: str,
        tables: Sequence[Table],
        *,
        cluster_id: str,
        timeout_s: float = TIMEOUT_S,
        in_flight: int = IN_FLIGHT,
        waiting: int = WAITING,
    ) -> None:
        self._address = Address.parse(url)
        self._keyspace = self._address.keyspace
        self._tables = {table.name: table for table in tables}
        self._cluster_id = cluster_id
        self._timeout_s = timeout_s
        self.bridge = Bridge(self._address, in_flight=in_flight, waiting=waiting)
        self._prepared: dict[str, Any] = {}
        self._reads: Coalescer[Read, list[Row]] = Coalescer(self._read, _copy, timeout_s)

    async def open(self) -> None:
        """Connects and makes sure that the keyspace is ours and of this version.

        Raises:
            StoreError: It cannot be used: the text says what to do.
        """
        await self.bridge.open()
        try:
            await self.bridge.run(self._set_up, self._deadline(OPEN_S))
        except TablesUnavailable as error:
            await self.bridge.close()
            raise StoreError(f"{self._address} cannot be opened: {error}") from error
        except BaseException:
            await self.bridge.close()
            raise

    async def close(self) -> None:
        """Disconnects; what is under way fails."""
        await self.bridge.close()

    async def write(self, writes: Sequence[Put | Delete]) -> None:
        """As `Tables.write`.

        Raises:
            TablesUnavailable: What became of them is not known.
            ValueError: They are more than `MAX_WRITE_BYTES`: nothing was sent.
        """
        assert len({write.partition for write in writes}) <= 1, "a batch is of one partition"
        await self._write(writes)

    async def write_each(self, batches: Sequence[Sequence[Put | Delete]]) -> None:
        """As `Tables.write_each`: small ones in one request, which costs this process half as much
        as a request each.

        Raises:
            TablesUnavailable: What became of them is not known.
            ValueError: One is more than `MAX_WRITE_BYTES`.
        """
        await one_by_one(self._write, _packed(batches))

    async def _write(self, writes: Sequence[Put | Delete]) -> None:
        """Writes of one partition, or few and small ones of several."""
        if sum(map(_size, writes)) > MAX_WRITE_BYTES:
            raise ValueError(f"a batch of more than {MAX_WRITE_BYTES} bytes: write it in parts")
        deadline = self._deadline()
        bound = [
            self._delete(write) if isinstance(write, Delete) else self._put(write)
            for write in writes
            if isinstance(write, Delete) or write.cells
        ]
        if not bound:
            return
        if len(bound) == 1:
            await self.bridge.execute(bound[0], deadline)
            return
        # Of one partition key, also over tables, it is one mutation: all or nothing, and its
        # size is not limited as that of other batches.
        batch = BatchStatement(BatchType.UNLOGGED)
        for statement in bound:
            batch.add(statement)
        batch.is_idempotent = True
        await self.bridge.execute(batch, deadline)

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
        """As `Tables.read`; the same read of many at the same time is one query."""
        assert limit > 0, "a read has a limit"
        return await self._reads.get((table.name, partition, after, to, limit, newest_first))

    async def claim(self, shard: int, epoch: int, nonce: bytes) -> tuple[int, bytes]:
        """As `Tables.claim`. It may be repeated: who finds its own nonce has won."""
        deadline = self._deadline()
        update = self._prepared[CLAIM.format(self._keyspace)]
        insert = self._prepared[FIRST_CLAIM.format(self._keyspace)]
        found = await self._claim(update.bind((epoch, nonce, shard, epoch)), deadline)
        if found is not None and "epoch" not in found and epoch > 0:
            # There is no row yet; if another makes it first, that is told.
            found = await self._claim(insert.bind((shard, epoch, nonce)), deadline)
            if found is not None and found["epoch"] < epoch:
                found = await self._claim(update.bind((epoch, nonce, shard, epoch)), deadline)
        if found is None:
            return epoch, nonce
        return found.get("epoch", 0), found.get("nonce", b"")

    # --- reading ---

    async def _read(self, read: Read, deadline: float) -> list[Row]:
        name, partition, after, to, limit, newest_first = read
        table = self._tables[name]
        text = statements.select(
            self._keyspace, table, after=len(after), to=len(to), newest_first=newest_first
        )
        bound = self._prepared[text].bind((*partition, *after, *to, limit))
        bound.fetch_size = PAGE_ROWS if bytes in table.cells.values() else SMALL_PAGE_ROWS
        keys = len(table.clustering)
        names = tuple(table.cells)
        rows: list[Row] = []
        more: bytes | None = None
        while True:
            answer = await self.bridge.execute(bound, deadline, more=more)
            for values in answer.rows:
                cells = zip(names, values[keys:], strict=True)
                rows.append(
                    Row(values[:keys], {name: cell for name, cell in cells if cell is not None})
                )
            more = answer.more
            if more is None:
                return rows

    # --- writing ---

    def _put(self, put: Put) -> Any:
        cells = put.cells
        table = put.table
        if not cells.keys() <= table.cells.keys():
            raise ValueError(f"{table.name} has no {', '.join(cells.keys() - table.cells.keys())}")
        # What is not set stays as it is; None would delete it.
        values = [cells.get(name, UNSET_VALUE) for name in table.cells]
        return self._prepared[statements.update(self._keyspace, table)].bind(
            (put.timestamp, *values, *put.partition, *put.key)
        )

    def _delete(self, delete: Delete) -> Any:
        table, first, last = delete.table, delete.first, delete.last
        if first == last and len(first) == len(table.clustering):
            text = statements.delete_row(self._keyspace, table)
            last = ()
        else:
            text = statements.delete_rows(self._keyspace, table, first=len(first), last=len(last))
        return self._prepared[text].bind((delete.timestamp, *delete.partition, *first, *last))

    async def _claim(self, bound: Any, deadline: float) -> dict[str, Any] | None:
        """Runs a conditional write; what is stored instead, None if it was applied."""
        answer = await self.bridge.execute(bound, deadline)
        found = dict(zip(answer.columns, answer.rows[0], strict=True))
        return None if found.pop("[applied]") else found

    # --- both ---

    def _set_up(self, session: Any) -> None:
        """Looks at the keyspace, and prepares everything: preparing later could hang on a node
        that stands still. Blocks."""
        tables = tuple(self._tables.values())
        schema.check(session, self._address, tables, self._cluster_id)
        texts = [CLAIM.format(self._keyspace), FIRST_CLAIM.format(self._keyspace)]
        for table in tables:
            texts += statements.every(self._keyspace, table)
        for text in texts:
            prepared = session.prepare(text)
            prepared.is_idempotent = True
            self._prepared[text] = prepared

    def _deadline(self, seconds: float | None = None) -> float:
        return asyncio.get_running_loop().time() + (seconds or self._timeout_s)


def _copy(rows: list[Row]) -> list[Row]:
    return [Row(row.key, dict(row.cells)) for row in rows]


def _packed(batches: Sequence[Sequence[Put | Delete]]) -> list[Sequence[Put | Delete]]:
    """Small batches joined, as far as one request takes them."""
    packed: list[Sequence[Put | Delete]] = []
    joined: list[Put | Delete] = []
    partitions = size = 0
    for batch in batches:
        more = sum(map(_size, batch))
        if more > SMALL_BYTES:
            packed.append(batch)
            continue
        if partitions == SMALL_PARTITIONS or size + more > SMALL_BYTES:
            packed.append(joined)
            joined, partitions, size = [], 0, 0
        joined.extend(batch)
        partitions, size = partitions + 1, size + more
    if joined:
        packed.append(joined)
    return packed


def _size(write: Put | Delete) -> int:
    if isinstance(write, Delete):
        return 0
    return sum(len(value) for value in write.cells.values() if isinstance(value, str | bytes))
