"""Forgetting what is too old."""

from __future__ import annotations

import sqlite3

# (table, its key, which rows are older than the parameter).
_OLD = (
    ("requests", "partition, scope, request_id", "time_us < ?"),
    ("sessions", "user_id, device_id", "ended_time_us > 0 AND ended_time_us < ?"),
    ("relations", "user_id, other_id", "state = 0 AND time_us < ?"),
    ("api_keys", "key_id", "revoked_time_us BETWEEN 1 AND ? - 1"),
    ("api_keys", "key_id", "expire_time_us BETWEEN 1 AND ? - 1"),
)
_OLD_EVENTS = ("events", "user_id, id", "time_us < ?")


def expire(
    connection: sqlite3.Connection, before_us: int, events_before_us: int, limit: int
) -> int:
    """The work of `AccountStore.expire`, in the caller's transaction."""
    old = [(rows, before_us) for rows in _OLD] + [(_OLD_EVENTS, events_before_us)]
    return sum(_delete(connection, *rows, time_us, limit) for rows, time_us in old)


def _delete(
    connection: sqlite3.Connection, table: str, key: str, where: str, time_us: int, limit: int
) -> int:
    found = f"SELECT {key} FROM {table} WHERE {where} LIMIT ?"  # noqa: S608 - constants
    sql = f"DELETE FROM {table} WHERE ({key}) IN ({found})"  # noqa: S608
    return connection.execute(sql, (time_us, limit)).rowcount
