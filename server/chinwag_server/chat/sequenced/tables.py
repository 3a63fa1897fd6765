"""The port to a leaderless database: partitions of rows, rows of cells; a cell's newest write wins.

This is what Cassandra gives at QUORUM, no more: no order between writes but their timestamps, no
transaction over partitions, and a write that failed may still take effect, also much later. The
sequencer builds an order on it. Every adapter passes tests/server/chat/tables_contract.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Value = int | str | bytes | bool
Key = tuple[Value, ...]


class TablesUnavailable(Exception):
    """A read or write did not reach a quorum in time. Of a write nothing is known then: it may
    have been stored, may be stored later, or never."""


@dataclass(slots=True, frozen=True)
class Table:
    """A table's shape.

    Attributes:
        name: In lower case.
        partition: Columns that choose the partition, with their types.
        clustering: Columns that order the rows of a partition, rising; may be empty.
        cells: The other columns.
        ttl_s: After which every cell is gone; 0: never.
    """

    name: str
    partition: Mapping[str, type]
    clustering: Mapping[str, type]
    cells: Mapping[str, type]
    ttl_s: int = 0


@dataclass(slots=True, frozen=True)
class Put:
    """Sets some cells of a row, each at one timestamp.

    Attributes:
        key: Values of the clustering columns.
        cells: None deletes a cell; one that is not named stays as it is.
        timestamp: Positive. Of two writes of a cell with one timestamp, a deletion wins over a
            value and the greater value over the smaller.
    """

    table: Table
    partition: Key
    key: Key
    cells: Mapping[str, Value | None]
    timestamp: int


@dataclass(slots=True, frozen=True)
class Delete:
    """Removes what rows `first..last` hold up to and at a timestamp; both bounds belong to it
    and may name fewer columns than there are: () is the whole partition."""

    table: Table
    partition: Key
    first: Key
    last: Key
    timestamp: int


@dataclass(slots=True)
class Row:
    """A row that was read: cells that were never set, or deleted, are not in it."""

    key: Key
    cells: dict[str, Value] = field(default_factory=dict)

    def number(self, name: str) -> int:
        """An integer or a boolean; 0 if the cell is not there."""
        return int(self.cells.get(name, 0))

    def blob(self, name: str) -> bytes:
        """Bytes; none if the cell is not there."""
        value = self.cells.get(name, b"")
        assert isinstance(value, bytes)
        return value


Write = Callable[[Sequence["Put | Delete"]], Awaitable[None]]


async def one_by_one(write: Write, batches: Sequence[Sequence[Put | Delete]]) -> None:
    """`Tables.write_each` for those that can do no better."""
    if len(batches) == 1:
        await write(batches[0])
        return
    results = await asyncio.gather(*map(write, batches), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


class Tables(Protocol):
    """Reads and writes at QUORUM. All methods are called on the event loop."""

    async def write(self, writes: Sequence[Put | Delete]) -> None:
        """Applies writes of one partition key, which may be of several tables, together: a
        reader sees all of them or none.

        Raises:
            TablesUnavailable: What became of them is not known.
        """

    async def write_each(self, batches: Sequence[Sequence[Put | Delete]]) -> None:
        """Several writes, each as of `write`, at the same time. It ends when all have: nothing is
        under way any more.

        Raises:
            TablesUnavailable: What became of each of them is not known.
        """

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
        """Rows with after < key <= to in rising order (or falling), at most `limit`. Bounds may
        name fewer columns than there are; () is no bound.

        Raises:
            TablesUnavailable: It is not known what is stored.
        """

    async def claim(self, shard: int, epoch: int, nonce: bytes) -> tuple[int, bytes]:
        """Raises a shard's stored (epoch, nonce), by a linearizable transaction, if `epoch` is
        greater than what is stored. Gives what is stored then.

        Raises:
            TablesUnavailable: It may have taken effect.
        """
