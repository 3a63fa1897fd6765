"""One commit of a user's partition, and what is known of it when its reply was lost.

Every commit writes an id of its own, drawn at random, into the user's row. So it can be sent again
without harm: if the row has the id, the first time did it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum, auto
from itertools import groupby
from operator import itemgetter
from typing import Any

from chinwag_server.account.postgres import rows
from chinwag_server.account.postgres.driver import Connection
from chinwag_server.account.records import (
    BlockRecord,
    ChoreRecord,
    DeleteBlock,
    EraseRows,
    EventRecord,
    RelationRecord,
    RequestRecord,
    SessionRecord,
    TrimEvents,
    UserRecord,
    Write,
)

# ruff: noqa: S608 - statements are put together from constants and numbered places

_COLUMNS = f"{rows.USER_COLUMNS}, commit_id"
_COUNT = len(_COLUMNS.split(", "))
_INSERT = (
    f"INSERT INTO users ({_COLUMNS}) VALUES ({rows.places(_COUNT)}) "
    "ON CONFLICT (user_id) DO NOTHING"
)
_UPDATE = (
    f"UPDATE users SET ({_COLUMNS}) = ({rows.places(_COUNT)}) "
    f"WHERE user_id = $1 AND version = ${_COUNT + 1}"
)
_FOUND = "SELECT version, commit_id FROM users WHERE user_id = $1"

_DELETE_BLOCK = "DELETE FROM blocks WHERE user_id = $1 AND other_id = $2"
_TRIM_EVENTS = "DELETE FROM events WHERE user_id = $1 AND id <= $2"
_ERASE = tuple(
    f"DELETE FROM {table} WHERE user_id = $1"
    for table in ("relations", "blocks", "events", "requests")
)

# A statement and its values.
Step = tuple[str, Sequence[Any]]


class Outcome(Enum):
    """What became of a commit."""

    STORED = auto()
    CONFLICT = auto()
    UNKNOWN = auto()


async def commit(
    connection: Connection,
    user: UserRecord,
    writes: Sequence[Write],
    commit_id: bytes,
    again: bool,
) -> Outcome:
    """Does a commit in a transaction of its own.

    Args:
        commit_id: Drawn for this commit; the same when it is sent again.
        again: Whether an earlier try may have done it. If that one runs still, this waits for
            its end: both want the same row.
    """
    row = (*rows.user_row(user, user.version + 1), commit_id)
    await connection.execute("BEGIN")
    if user.version:
        tag = await connection.execute(_UPDATE, *row, user.version)
    else:
        tag = await connection.execute(_INSERT, *row)
    if tag.endswith(" 0"):
        found = await connection.fetchrow(_FOUND, user.user_id)
        await connection.execute("ROLLBACK")
        return _judge(user, found, commit_id, again)
    # Statements that follow each other and are the same go in one round trip.
    for sql, steps in groupby(_steps(user.user_id, writes), key=itemgetter(0)):
        await connection.executemany(sql, [values for _, values in steps])
    await connection.execute("COMMIT")
    return Outcome.STORED


def _judge(user: UserRecord, found: Any, commit_id: bytes, again: bool) -> Outcome:
    if not again or found is None:
        return Outcome.CONFLICT
    version, stored_id = found
    if stored_id == commit_id:
        return Outcome.STORED
    # Whoever made exactly the next version did so in our place; above that, one of those in
    # between may have been ours.
    return Outcome.CONFLICT if version <= user.version + 1 else Outcome.UNKNOWN


def _steps(user_id: str, writes: Sequence[Write]) -> Iterator[Step]:
    for write in writes:
        owner = write.partition if isinstance(write, RequestRecord) else write.user_id
        assert owner == user_id, f"a commit of {user_id} writes to {owner}"
        match write:
            case SessionRecord():
                yield rows.PUT_SESSION, rows.values(write)
            case RelationRecord():
                yield rows.PUT_RELATION, rows.relation_row(write)
            case BlockRecord():
                yield rows.PUT_BLOCK, rows.values(write)
            case EventRecord():
                yield rows.PUT_EVENT, rows.values(write)
            case RequestRecord():
                yield rows.put_request(write.partition), rows.request_row(write)
            case ChoreRecord():
                yield rows.PUT_CHORE, rows.values(write)
            case DeleteBlock():
                yield _DELETE_BLOCK, rows.values(write)
            case TrimEvents():
                yield _TRIM_EVENTS, rows.values(write)
            case EraseRows():
                for sql in _ERASE:
                    yield sql, (user_id,)
