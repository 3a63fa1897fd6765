"""Cells as a leaderless database keeps them: the newest timestamp wins, on whatever replica.

The rules of ties are Cassandra's (org.apache.cassandra.db.rows.Cells): a deletion beats a value
of its own timestamp, and of two values the greater one stays.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from chinwag_server.chat.sequenced.tables import Delete, Key, Put, Row, Value

# A cell: timestamp, value (None: deleted), when it is gone (seconds, 0: never).
Cell = tuple[int, Value | None, float]


@dataclass(slots=True)
class Partition:
    """One partition of one table: rows in the order of their keys, and what was deleted."""

    keys: list[Key] = field(default_factory=list)
    rows: dict[Key, dict[str, Cell]] = field(default_factory=dict)
    deletes: list[tuple[Key, Key, int]] = field(default_factory=list)

    def put(self, key: Key, name: str, cell: Cell) -> None:
        """Keeps the winner of what is there and a new cell."""
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = {}
            insort(self.keys, key)
        old = row.get(name)
        if old is None or _beats(cell, old):
            row[name] = cell

    def delete(self, first: Key, last: Key, timestamp: int) -> None:
        """Adds a deletion of a range of rows."""
        if (first, last, timestamp) not in self.deletes:
            self.deletes.append((first, last, timestamp))

    def merge(self, other: Partition) -> None:
        """Takes in what another replica has."""
        for key, row in other.rows.items():
            for name, cell in row.items():
                self.put(key, name, cell)
        for first, last, timestamp in other.deletes:
            self.delete(first, last, timestamp)

    def part(self, after: Key, to: Key) -> Partition:
        """A copy of the rows between two keys, and of all that was deleted."""
        keys = list(self._between(after, to, False))
        return Partition(keys, {key: dict(self.rows[key]) for key in keys}, list(self.deletes))

    def select(self, after: Key, to: Key, limit: int, newest_first: bool, now: float) -> list[Row]:
        """As `Tables.read`."""
        found: list[Row] = []
        for key in self._between(after, to, newest_first):
            deleted = max(
                (ts for first, last, ts in self.deletes if _covers(first, last, key)), default=0
            )
            cells = {
                name: value
                for name, (timestamp, value, gone) in self.rows[key].items()
                if value is not None and timestamp > deleted and not (gone and gone <= now)
            }
            if cells:
                found.append(Row(key, cells))
                if len(found) == limit:
                    break
        return found

    def _between(self, after: Key, to: Key, newest_first: bool) -> Iterator[Key]:
        start = bisect_left(self.keys, after) if after else 0
        keys = [
            key
            for key in self.keys[start:]
            if not (after and key[: len(after)] == after) and not (to and key[: len(to)] > to)
        ]
        return reversed(keys) if newest_first else iter(keys)


class Replica:
    """All partitions of one copy of the data.

    Args:
        now: Seconds, for cells that are kept for a time.
    """

    def __init__(self, now: Callable[[], float] = lambda: 0.0) -> None:
        self._now = now
        self._partitions: dict[tuple[str, Key], Partition] = {}

    def apply(self, writes: Sequence[Put | Delete]) -> None:
        """Applies a batch."""
        for write in writes:
            table = write.table
            partition = self._partitions.setdefault((table.name, write.partition), Partition())
            if isinstance(write, Delete):
                partition.delete(write.first, write.last, write.timestamp)
                continue
            gone = self._now() + table.ttl_s if table.ttl_s else 0.0
            for name, value in write.cells.items():
                partition.put(write.key, name, (write.timestamp, value, gone))

    def repair(self, table: str, partition: Key, newer: Partition) -> None:
        """Takes in what a read has merged."""
        self._partitions.setdefault((table, partition), Partition()).merge(newer)

    def partition(self, table: str, partition: Key) -> Partition:
        """A partition as it is; empty if nothing was ever written to it."""
        return self._partitions.get((table, partition)) or Partition()


def _beats(new: Cell, old: Cell) -> bool:
    if new[0] != old[0]:
        return new[0] > old[0]
    if new[1] is None or old[1] is None:
        return new[1] is None
    if new[2] != old[2]:
        # Of two that are kept for a time, the longer life.
        return new[2] > old[2]
    return _as_bytes(new[1]) > _as_bytes(old[1])  # type: ignore[operator]


def _as_bytes(value: Value) -> Value:
    """What orders as the value's bytes do, which are what is compared: -1 is above 1."""
    return value % 2**64 if isinstance(value, int) else value


def _covers(first: Key, last: Key, key: Key) -> bool:
    return first <= key[: len(first)] and key[: len(last)] <= last
