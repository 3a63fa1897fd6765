"""Forgetting what is too old: one partition at a time, so that no transaction spans two."""

from __future__ import annotations

from chinwag_server.account.postgres.driver import Connection
from chinwag_server.account.postgres.server import Server
from chinwag_server.account.postgres.tables import partitions

# ruff: noqa: S608 - statements are put together from constants and numbered places

# (tables, which rows are older than the parameter).
_OLD: tuple[tuple[list[str], str], ...] = (
    ([*partitions("requests"), "key_requests"], "time_us < $1"),
    (partitions("sessions"), "ended_time_us > 0 AND ended_time_us < $1"),
    (partitions("relations"), "state = 0 AND time_us < $1"),
    (
        ["api_keys"],
        "(revoked_time_us > 0 AND revoked_time_us < $1) "
        "OR (expire_time_us > 0 AND expire_time_us < $1)",
    ),
)
_OLD_EVENTS = (partitions("events"), "time_us < $1")


async def expire(server: Server, before_us: int, events_before_us: int, limit: int) -> int:
    """The work of `AccountStore.expire`."""
    old = [(*kind, before_us) for kind in _OLD] + [(*_OLD_EVENTS, events_before_us)]
    count = 0
    for tables, where, time_us in old:
        count += await _forget(server, tables, where, time_us, limit)
    return count


async def _forget(server: Server, tables: list[str], where: str, time_us: int, limit: int) -> int:
    count = 0
    for table in tables:
        if count >= limit:
            break
        count += await _forget_in(server, table, where, time_us, limit - count)
    return count


async def _forget_in(server: Server, table: str, where: str, time_us: int, limit: int) -> int:
    # Rows that a commit holds are left to the next time: nobody waits for anybody, so no
    # deadlock. Expired rows are found anew by a repeat, whose count is as good as the first's.
    sql = (
        f"DELETE FROM {table} WHERE ctid = ANY (ARRAY (SELECT ctid FROM {table} "
        f"WHERE {where} LIMIT $2 FOR UPDATE SKIP LOCKED))"
    )

    async def job(connection: Connection, again: bool) -> int:
        return int((await connection.execute(sql, time_us, limit)).rpartition(" ")[2])

    return await server.run(job)
