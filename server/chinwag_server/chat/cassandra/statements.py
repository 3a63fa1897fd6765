"""CQL for a table's rows. Each write carries its timestamp; there are no row markers, so a row is
there as long as one of its cells is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

from chinwag_server.chat.sequenced.tables import Table

# ruff: noqa: S608 - statements are put together from declared names and question marks


def every(keyspace: str, table: Table) -> Iterator[str]:
    """All statements of a table, of bounds of every length."""
    lengths = range(len(table.clustering) + 1)
    yield update(keyspace, table)
    yield delete_row(keyspace, table)
    for first, last in product(lengths, lengths):
        yield delete_rows(keyspace, table, first=first, last=last)
        for newest_first in (False, True):
            yield select(keyspace, table, after=first, to=last, newest_first=newest_first)


def select(keyspace: str, table: Table, *, after: int, to: int, newest_first: bool) -> str:
    """Reads rows: binds the partition, `after` and `to` columns of the bounds, and the limit."""
    columns = [*table.clustering, *table.cells]
    where = [*_equal(table.partition), *_bound(table, after, ">"), *_bound(table, to, "<=")]
    order = ""
    if newest_first and table.clustering:
        order = " ORDER BY " + ", ".join(f'"{name}" DESC' for name in table.clustering)
    return (
        f"SELECT {_names(columns)} FROM {name_of(keyspace, table)} "
        f"WHERE {' AND '.join(where)}{order} LIMIT ?"
    )


def update(keyspace: str, table: Table) -> str:
    """Sets cells: binds the timestamp, every cell (those that stay as they are: unset), the
    partition and the key."""
    where = [*_equal(table.partition), *_equal(table.clustering)]
    return (
        f"UPDATE {name_of(keyspace, table)} USING TIMESTAMP ? "
        f"SET {', '.join(_equal(table.cells))} WHERE {' AND '.join(where)}"
    )


def delete_row(keyspace: str, table: Table) -> str:
    """Deletes a row: binds the timestamp, the partition and the key."""
    where = [*_equal(table.partition), *_equal(table.clustering)]
    return f"DELETE FROM {name_of(keyspace, table)} USING TIMESTAMP ? WHERE {' AND '.join(where)}"


def delete_rows(keyspace: str, table: Table, *, first: int, last: int) -> str:
    """Deletes a range: binds the timestamp, the partition, `first` and `last` columns of the
    bounds."""
    where = [*_equal(table.partition), *_bound(table, first, ">="), *_bound(table, last, "<=")]
    return f"DELETE FROM {name_of(keyspace, table)} USING TIMESTAMP ? WHERE {' AND '.join(where)}"


def name_of(keyspace: str, table: Table) -> str:
    """A table's full name."""
    return f'"{keyspace}"."{table.name}"'


def _names(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _equal(names: Iterable[str]) -> list[str]:
    return [f'"{name}" = ?' for name in names]


def _bound(table: Table, columns: int, operator: str) -> list[str]:
    """A comparison of the first clustering columns, as a tuple: bounds of different lengths may
    then stand together."""
    if not columns:
        return []
    names = list(table.clustering)[:columns]
    return [f"({_names(names)}) {operator} ({', '.join('?' * columns)})"]
