"""Records as rows of the tables, and back."""

from __future__ import annotations

import dataclasses
import sqlite3
from typing import Any

from chinwag_server.account.records import (
    ApiKeyRecord,
    BanRecord,
    BlockRecord,
    ChoreRecord,
    DeleteBlock,
    EraseRows,
    EventRecord,
    NameRecord,
    RelationRecord,
    RelationState,
    RequestRecord,
    SessionRecord,
    TrimEvents,
    UserRecord,
    Write,
)


def columns(record_type: Any) -> str:
    """The names of a record's fields: its table has the same ones in the same order."""
    return ", ".join(field.name for field in dataclasses.fields(record_type))


def values(record: Any) -> tuple[Any, ...]:
    """A record's fields, in order."""
    return tuple(getattr(record, field.name) for field in dataclasses.fields(record))


def _upsert(table: str, record_type: Any) -> str:
    names = columns(record_type)
    places = ", ".join("?" for _ in dataclasses.fields(record_type))
    return f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({places})"  # noqa: S608 - constants


TABLES: dict[type, str] = {
    SessionRecord: "sessions",
    RelationRecord: "relations",
    BlockRecord: "blocks",
    EventRecord: "events",
    RequestRecord: "requests",
    ChoreRecord: "chores",
    NameRecord: "names",
}
UPSERTS: dict[type, str] = {kind: _upsert(table, kind) for kind, table in TABLES.items()}

USER_COLUMNS = (
    "user_id, version, username, password_hash, profile, privacy, create_time_us, "
    "update_time_us, deleted, event_id, ban_time_us, ban_reason, ban_expire_time_us, "
    "ban_api_key_id, status, status_time_us"
)
API_KEY_COLUMNS = columns(ApiKeyRecord)


def user_row(user: UserRecord, version: int) -> tuple[Any, ...]:
    """A user's row, with another version."""
    ban = user.ban
    return (
        user.user_id,
        version,
        user.username,
        user.password_hash,
        user.profile,
        user.privacy,
        user.create_time_us,
        user.update_time_us,
        user.deleted,
        user.event_id,
        *(
            (ban.create_time_us, ban.reason, ban.expire_time_us, ban.api_key_id)
            if ban
            else (None, None, None, None)
        ),
        user.status,
        user.status_time_us,
    )


def read_user(row: tuple[Any, ...]) -> UserRecord:
    ban_time_us, reason, expire_time_us, api_key_id = row[10:14]
    return UserRecord(
        user_id=row[0],
        version=row[1],
        username=row[2],
        password_hash=row[3],
        profile=row[4],
        privacy=row[5],
        create_time_us=row[6],
        update_time_us=row[7],
        deleted=bool(row[8]),
        event_id=row[9],
        ban=None
        if ban_time_us is None
        else BanRecord(ban_time_us, reason, expire_time_us, api_key_id),
        status=row[14],
        status_time_us=row[15],
    )


def read_session(row: tuple[Any, ...]) -> SessionRecord:
    session = SessionRecord(*row)
    return dataclasses.replace(session, refreshable=bool(session.refreshable))


def read_relation(row: tuple[Any, ...]) -> RelationRecord:
    user_id, other_id, state, revision, time_us, message = row
    return RelationRecord(user_id, other_id, RelationState(state), revision, time_us, message)


def read_name(row: tuple[Any, ...]) -> NameRecord:
    name, user_id, confirmed, time_us = row
    return NameRecord(name, user_id, bool(confirmed), time_us)


def api_key_row(record: ApiKeyRecord) -> tuple[Any, ...]:
    return values(dataclasses.replace(record, scopes=" ".join(record.scopes)))  # type: ignore[arg-type]


def put_api_key(connection: sqlite3.Connection, record: ApiKeyRecord) -> None:
    """Makes or replaces a key."""
    row = api_key_row(record)
    places = ", ".join("?" * len(row))
    connection.execute(
        f"INSERT OR REPLACE INTO api_keys ({API_KEY_COLUMNS}) VALUES ({places})",  # noqa: S608
        row,
    )


def read_api_key(row: tuple[Any, ...]) -> ApiKeyRecord:
    key_id, name, scopes, *rest = row
    return ApiKeyRecord(key_id, name, tuple(scopes.split()), *rest)


def apply(connection: sqlite3.Connection, write: Write) -> None:
    """Does one write of a commit."""
    if sql := UPSERTS.get(type(write)):
        connection.execute(sql, values(write))
    elif isinstance(write, DeleteBlock):
        connection.execute("DELETE FROM blocks WHERE user_id = ? AND other_id = ?", values(write))
    elif isinstance(write, TrimEvents):
        connection.execute("DELETE FROM events WHERE user_id = ? AND id <= ?", values(write))
    elif isinstance(write, EraseRows):
        for statement in (
            "DELETE FROM relations WHERE user_id = ?",
            "DELETE FROM blocks WHERE user_id = ?",
            "DELETE FROM events WHERE user_id = ?",
            "DELETE FROM requests WHERE partition = ?",
        ):
            connection.execute(statement, (write.user_id,))
