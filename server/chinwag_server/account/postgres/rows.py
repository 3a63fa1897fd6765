"""Records as rows of the tables, and back; statements over them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from chinwag_server.account.postgres.driver import Row
from chinwag_server.account.records import (
    ApiKeyRecord,
    BanRecord,
    BlockRecord,
    ChoreRecord,
    EventRecord,
    NameRecord,
    RelationRecord,
    RelationState,
    RequestRecord,
    SessionRecord,
    SigningKeyRecord,
    UserRecord,
)

# ruff: noqa: S608 - statements are put together from constants and numbered places

# Of partitions of requests that are an API key's.
KEY_PREFIX = "key:"

USER_COLUMNS = (
    "user_id, version, username, password_hash, profile, privacy, create_time_us, "
    "update_time_us, deleted, event_id, ban_time_us, ban_reason, ban_expire_time_us, "
    "ban_api_key_id, status, status_time_us"
)


def places(count: int, first: int = 1) -> str:
    """$1, $2, ..."""
    return ", ".join(f"${number}" for number in range(first, first + count))


def columns(record_type: Any) -> str:
    """The names of a record's fields: its table has the same ones in the same order."""
    return ", ".join(field.name for field in dataclasses.fields(record_type))


def values(record: Any) -> tuple[Any, ...]:
    """A record's fields, in order."""
    return tuple(getattr(record, field.name) for field in dataclasses.fields(record))


def upsert(table: str, names: str, keys: int) -> str:
    """A statement that makes or replaces a row.

    Args:
        names: The columns.
        keys: How many of them, from the first on, are the primary key.
    """
    listed = names.split(", ")
    news = ", ".join(f"{name} = excluded.{name}" for name in listed[keys:])
    return (
        f"INSERT INTO {table} ({names}) VALUES ({places(len(listed))}) "
        f"ON CONFLICT ({', '.join(listed[:keys])}) DO UPDATE SET {news}"
    )


REQUEST_COLUMNS = "user_id, scope, request_id, time_us, content_hash, response"
KEY_REQUEST_COLUMNS = columns(RequestRecord)
API_KEY_COLUMNS = columns(ApiKeyRecord)

PUT_SESSION = upsert("sessions", columns(SessionRecord), 2)
PUT_RELATION = upsert("relations", columns(RelationRecord), 2)
PUT_BLOCK = upsert("blocks", columns(BlockRecord), 2)
PUT_EVENT = upsert("events", columns(EventRecord), 2)
PUT_CHORE = upsert("chores", columns(ChoreRecord), 3)
PUT_API_KEY = upsert("api_keys", API_KEY_COLUMNS, 1)
PUT_SIGNING_KEY = upsert("signing_keys", columns(SigningKeyRecord), 1)


def put_request(partition: str) -> str:
    """The statement that makes or replaces an answer of a partition."""
    if partition.startswith(KEY_PREFIX):
        return upsert("key_requests", KEY_REQUEST_COLUMNS, 3)
    return upsert("requests", REQUEST_COLUMNS, 3)


# --- users ---


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
            (ban.create_time_us, ban.reason.encode(), ban.expire_time_us, ban.api_key_id)
            if ban
            else (None, None, None, None)
        ),
        user.status,
        user.status_time_us,
    )


def read_user(row: Row) -> UserRecord:
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
        deleted=row[8],
        event_id=row[9],
        ban=None
        if ban_time_us is None
        else BanRecord(ban_time_us, reason.decode(), expire_time_us, api_key_id),
        status=row[14],
        status_time_us=row[15],
    )


# --- what hangs on them, and what stands beside them ---


def relation_row(record: RelationRecord) -> tuple[Any, ...]:
    return (*values(record)[:-1], record.message.encode())


def read_relation(row: Row) -> RelationRecord:
    user_id, other_id, state, revision, time_us, message = row
    return RelationRecord(
        user_id, other_id, RelationState(state), revision, time_us, message.decode()
    )


def request_row(record: RequestRecord) -> tuple[Any, ...]:
    partition, scope, request_id, *rest = values(record)
    return (partition, scope, request_id.encode(), *rest)


def read_request(row: Row) -> RequestRecord:
    partition, scope, request_id, *rest = row
    return RequestRecord(partition, scope, request_id.decode(), *rest)


def read_name(row: Row) -> NameRecord:
    return NameRecord(*row)


def read_api_key(row: Row) -> ApiKeyRecord:
    key_id, name, scopes, *rest = row
    return ApiKeyRecord(key_id, name, tuple(scopes), *rest)


def has_nul(parameters: Sequence[Any]) -> bool:
    """Whether a text among them holds a NUL, as no stored one does."""
    return any(isinstance(value, str) and "\0" in value for value in parameters)
