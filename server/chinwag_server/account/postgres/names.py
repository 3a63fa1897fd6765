"""Changes of the name table: each is of one row, and only if that is as expected."""

from __future__ import annotations

from chinwag_server.account.postgres import rows
from chinwag_server.account.postgres.driver import Connection
from chinwag_server.account.records import NameRecord

# ruff: noqa: S608 - statements are put together from constants and numbered places

SELECT = f"SELECT {rows.columns(NameRecord)} FROM names"
_EXPECTED = "name = $1 AND user_id = $2 AND confirmed = $3 AND time_us = $4"
_INSERT = (
    f"INSERT INTO names ({rows.columns(NameRecord)}) VALUES ({rows.places(4)}) "
    "ON CONFLICT (name) DO NOTHING"
)
_UPDATE = f"UPDATE names SET user_id = $5, confirmed = $6, time_us = $7 WHERE {_EXPECTED}"
_DELETE = f"DELETE FROM names WHERE {_EXPECTED}"


async def put(
    connection: Connection, record: NameRecord, expected: NameRecord | None, again: bool
) -> bool:
    """The work of `AccountStore.put_name`.

    Args:
        again: Whether an earlier try may have done it. The row tells: nobody else writes what
            we write, it has the user's id and the time.
    """
    if expected is None:
        tag = await connection.execute(_INSERT, *rows.values(record))
    else:
        tag = await connection.execute(_UPDATE, *rows.values(expected), *rows.values(record)[1:])
    if not tag.endswith(" 0"):
        return True
    return again and await _find(connection, record.name) == record


async def delete(connection: Connection, expected: NameRecord, again: bool) -> bool:
    """The work of `AccountStore.delete_name`; arguments as of `put`."""
    tag = await connection.execute(_DELETE, *rows.values(expected))
    if not tag.endswith(" 0"):
        return True
    return again and await _find(connection, expected.name) is None


async def _find(connection: Connection, name: str) -> NameRecord | None:
    row = await connection.fetchrow(f"{SELECT} WHERE name = $1", name)
    return rows.read_name(row) if row else None
