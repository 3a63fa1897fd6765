"""The adapter: writes go to the writer's thread, reads run on the event loop.

Every read is of one key or of a page, some ten microseconds to a millisecond; a change of threads
takes more than most of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any

from chinwag_server.account.records import (
    ApiKeyRecord,
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
    Write,
)
from chinwag_server.account.sqlite import rows
from chinwag_server.account.sqlite.expiry import expire
from chinwag_server.account.sqlite.schema import FILE_NAME, migrate, open_reader, open_writer
from chinwag_server.account.sqlite.writer import Writer
from chinwag_server.account.store import Conflict, Position, StoreError, StoreUnavailable
from chinwag_server.datadir import DataDir, fsync_dir

# ruff: noqa: S608 - statements are put together from constants and question marks

_SESSION = f"SELECT {rows.columns(SessionRecord)} FROM sessions"
_RELATION = f"SELECT {rows.columns(RelationRecord)} FROM relations"
_BLOCK = f"SELECT {rows.columns(BlockRecord)} FROM blocks"
_EVENT = f"SELECT {rows.columns(EventRecord)} FROM events"
_REQUEST = f"SELECT {rows.columns(RequestRecord)} FROM requests"
_CHORE = f"SELECT {rows.columns(ChoreRecord)} FROM chores"
_NAME = f"SELECT {rows.columns(NameRecord)} FROM names"
_USER = f"SELECT {rows.USER_COLUMNS} FROM users"
_API_KEY = f"SELECT {rows.API_KEY_COLUMNS} FROM api_keys"
_LIVE_KEY = "revoked_time_us = 0 AND (expire_time_us = 0 OR expire_time_us > ?)"
_CHORE_KEY = "user_id = ? AND kind = ? AND target = ? AND revision = ?"

IDS_A_STATEMENT = 500


class SqliteAccountStore:
    """`AccountStore` in DIR/account.db.

    Args:
        data_dir: Open, so that no other process writes; stays the caller's to close.
    """

    def __init__(self, data_dir: DataDir) -> None:
        self.path = data_dir.path / FILE_NAME
        self._data_dir = data_dir
        self._generation = 0
        self._connection: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._writer: Writer | None = None

    @property
    def generation(self) -> int:
        return self._generation

    async def open(self) -> None:
        if not self._data_dir.is_open:
            raise StoreError(f"{self._data_dir.path} is not locked: open the data directory first")
        connection = open_writer(self.path)
        try:
            self.path.chmod(0o600)
            migrate(connection, self.path)
            (self._generation,) = connection.execute("SELECT generation FROM store").fetchone()
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.Error | OSError):
                raise StoreError(f"{self.path} cannot be opened: {error}") from error
            raise
        fsync_dir(self.path.parent)
        self._connection = connection
        self._reader = open_reader(self.path)
        self._writer = Writer(connection)
        self._writer.start()

    async def close(self) -> None:
        if self._writer is None:
            return
        await self._writer.stop()
        self._writer = None
        assert self._reader is not None
        assert self._connection is not None
        self._reader.close()
        self._reader = None
        # The last one to close takes the write-ahead log away.
        self._connection.close()

    # --- how it reads and writes ---

    def _rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        if self._reader is None:
            raise StoreUnavailable("the account store is closed")
        try:
            return self._reader.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the account store cannot read: {error}") from error

    def _row(self, sql: str, *parameters: Any) -> tuple[Any, ...] | None:
        found = self._rows(sql, *parameters)
        return found[0] if found else None

    def _page(
        self,
        select: str,
        where: str,
        parameters: Sequence[Any],
        order: tuple[str, str],
        after: Position | None,
        limit: int,
    ) -> list[tuple[Any, ...]]:
        time, other = order
        values = list(parameters)
        if after is not None:
            where += f" AND ({time}, {other}) < (?, ?)"
            values += after
        return self._rows(
            f"{select} WHERE {where} ORDER BY {time} DESC, {other} DESC LIMIT ?", *values, limit
        )

    async def _execute(self, sql: str, *parameters: Any) -> int:
        """Runs one statement; how many rows it changed."""

        def job(connection: sqlite3.Connection) -> int:
            return connection.execute(sql, parameters).rowcount

        return int(await self._run(job))

    async def _run(self, job: Any) -> Any:
        if self._writer is None:
            raise StoreUnavailable("the account store is closed")
        return await self._writer.run(job)

    # --- users ---

    async def user(self, user_id: str) -> UserRecord | None:
        row = self._row(f"{_USER} WHERE user_id = ?", user_id)
        return rows.read_user(row) if row else None

    async def users(
        self, user_ids: Collection[str], *, may_be_old: bool = False
    ) -> dict[str, UserRecord]:
        found: dict[str, UserRecord] = {}
        ids = list(user_ids)
        for start in range(0, len(ids), IDS_A_STATEMENT):
            some = ids[start : start + IDS_A_STATEMENT]
            sql = f"{_USER} WHERE user_id IN ({_places(some)})"
            found |= {row[0]: rows.read_user(row) for row in self._rows(sql, *some)}
        return found

    def changed_elsewhere(self, user_id: str) -> None:
        pass

    async def commit(self, user: UserRecord, writes: Sequence[Write] = ()) -> None:
        row = rows.user_row(user, user.version + 1)
        writes = tuple(writes)

        def job(connection: sqlite3.Connection) -> None:
            stored = connection.execute(
                "SELECT version FROM users WHERE user_id = ?", (user.user_id,)
            ).fetchone()
            if (stored[0] if stored else 0) != user.version:
                raise Conflict(user.user_id)
            connection.execute(
                f"INSERT OR REPLACE INTO users ({rows.USER_COLUMNS}) VALUES ({_places(row)})", row
            )
            for write in writes:
                rows.apply(connection, write)

        await self._run(job)

    async def session(self, user_id: str, device_id: str) -> SessionRecord | None:
        row = self._row(f"{_SESSION} WHERE user_id = ? AND device_id = ?", user_id, device_id)
        return rows.read_session(row) if row else None

    async def sessions(self, user_id: str) -> list[SessionRecord]:
        sql = (
            f"{_SESSION} WHERE user_id = ? AND ended_time_us = 0 "
            "ORDER BY create_time_us DESC, device_id DESC"
        )
        return [rows.read_session(row) for row in self._rows(sql, user_id)]

    async def live_sessions(
        self, devices: Collection[tuple[str, str]], now_us: int
    ) -> set[tuple[str, str]]:
        sql = (
            "SELECT 1 FROM sessions WHERE user_id = ? AND device_id = ? "
            "AND ended_time_us = 0 AND expire_time_us > ?"
        )
        return {device for device in devices if self._row(sql, *device, now_us)}

    async def expired_sessions(self, now_us: int, limit: int) -> list[SessionRecord]:
        sql = f"{_SESSION} WHERE ended_time_us = 0 AND expire_time_us <= ? LIMIT ?"
        return [rows.read_session(row) for row in self._rows(sql, now_us, limit)]

    async def relation(self, user_id: str, other_id: str) -> RelationRecord:
        row = self._row(f"{_RELATION} WHERE user_id = ? AND other_id = ?", user_id, other_id)
        return rows.read_relation(row) if row else RelationRecord(user_id, other_id)

    async def relations(
        self,
        user_id: str,
        states: Collection[RelationState],
        after: Position | None,
        limit: int,
        *,
        may_be_old: bool = False,
    ) -> list[RelationRecord]:
        found = self._page(
            _RELATION,
            f"user_id = ? AND state IN ({_places(states)})",
            (user_id, *map(int, states)),
            ("time_us", "other_id"),
            after,
            limit,
        )
        return [rows.read_relation(row) for row in found]

    async def count_relations(self, user_id: str, states: Collection[RelationState]) -> int:
        sql = f"SELECT count(*) FROM relations WHERE user_id = ? AND state IN ({_places(states)})"
        return int(self._rows(sql, user_id, *map(int, states))[0][0])

    async def block(self, user_id: str, other_id: str) -> BlockRecord | None:
        row = self._row(f"{_BLOCK} WHERE user_id = ? AND other_id = ?", user_id, other_id)
        return BlockRecord(*row) if row else None

    async def blocks(self, user_id: str, after: Position | None, limit: int) -> list[BlockRecord]:
        found = self._page(_BLOCK, "user_id = ?", (user_id,), ("time_us", "other_id"), after, limit)
        return [BlockRecord(*row) for row in found]

    async def count_blocks(self, user_id: str) -> int:
        return int(self._rows("SELECT count(*) FROM blocks WHERE user_id = ?", user_id)[0][0])

    async def events(self, user_id: str, after_id: int, limit: int) -> list[EventRecord]:
        sql = f"{_EVENT} WHERE user_id = ? AND id > ? ORDER BY id LIMIT ?"
        return [EventRecord(*row) for row in self._rows(sql, user_id, after_id, limit)]

    async def bans(self, now_us: int, after: Position | None, limit: int) -> list[UserRecord]:
        found = self._page(
            _USER,
            "ban_time_us IS NOT NULL AND (ban_expire_time_us = 0 OR ban_expire_time_us > ?)",
            (now_us,),
            ("ban_time_us", "user_id"),
            after,
            limit,
        )
        return [rows.read_user(row) for row in found]

    # --- answers and chores ---

    async def request(self, partition: str, scope: str, request_id: str) -> RequestRecord | None:
        sql = f"{_REQUEST} WHERE partition = ? AND scope = ? AND request_id = ?"
        row = self._row(sql, partition, scope, request_id)
        return RequestRecord(*row) if row else None

    async def put_request(self, request: RequestRecord) -> None:
        sql = rows.UPSERTS[RequestRecord].replace("OR REPLACE", "OR IGNORE")
        await self._execute(sql, *rows.values(request))

    async def chores(self, now_us: int, limit: int) -> list[ChoreRecord]:
        sql = f"{_CHORE} WHERE due_time_us <= ? ORDER BY due_time_us LIMIT ?"
        return [ChoreRecord(*row) for row in self._rows(sql, now_us, limit)]

    async def finish_chore(self, chore: ChoreRecord) -> None:
        await self._execute(f"DELETE FROM chores WHERE {_CHORE_KEY}", *rows.values(chore)[:4])

    async def put_off_chore(self, chore: ChoreRecord, due_time_us: int) -> None:
        sql = f"UPDATE chores SET due_time_us = ? WHERE {_CHORE_KEY}"
        await self._execute(sql, due_time_us, *rows.values(chore)[:4])

    # --- names ---

    async def name(self, name: str) -> NameRecord | None:
        row = self._row(f"{_NAME} WHERE name = ?", name)
        return rows.read_name(row) if row else None

    async def put_name(self, record: NameRecord, expected: NameRecord | None) -> bool:
        def job(connection: sqlite3.Connection) -> bool:
            if not _is_still(connection, record.name, expected):
                return False
            connection.execute(rows.UPSERTS[NameRecord], rows.values(record))
            return True

        return bool(await self._run(job))

    async def delete_name(self, expected: NameRecord) -> bool:
        def job(connection: sqlite3.Connection) -> bool:
            if not _is_still(connection, expected.name, expected):
                return False
            connection.execute("DELETE FROM names WHERE name = ?", (expected.name,))
            return True

        return bool(await self._run(job))

    async def unconfirmed_names(self, before_us: int, limit: int) -> list[NameRecord]:
        sql = f"{_NAME} WHERE confirmed = 0 AND time_us < ? LIMIT ?"
        return [rows.read_name(row) for row in self._rows(sql, before_us, limit)]

    # --- keys ---

    async def api_key(self, key_id: str) -> ApiKeyRecord | None:
        row = self._row(f"{_API_KEY} WHERE key_id = ?", key_id)
        return rows.read_api_key(row) if row else None

    async def api_keys(self, now_us: int, after: Position | None, limit: int) -> list[ApiKeyRecord]:
        found = self._page(
            _API_KEY, _LIVE_KEY, (now_us,), ("create_time_us", "key_id"), after, limit
        )
        return [rows.read_api_key(row) for row in found]

    async def count_api_keys(self, now_us: int) -> int:
        sql = f"SELECT count(*) FROM api_keys WHERE {_LIVE_KEY}"
        return int(self._rows(sql, now_us)[0][0])

    async def put_api_key(self, record: ApiKeyRecord, request: RequestRecord | None = None) -> None:
        def job(connection: sqlite3.Connection) -> None:
            rows.put_api_key(connection, record)
            if request is not None:
                rows.apply(connection, request)

        await self._run(job)

    async def signing_keys(self) -> list[SigningKeyRecord]:
        sql = "SELECT key_id, private, use_from_us FROM signing_keys "
        return [
            SigningKeyRecord(*row)
            for row in self._rows(sql + "ORDER BY use_from_us DESC, key_id DESC")
        ]

    async def put_signing_key(self, record: SigningKeyRecord) -> None:
        await self._execute(
            "INSERT OR REPLACE INTO signing_keys VALUES (?, ?, ?)", *rows.values(record)
        )

    async def delete_signing_key(self, key_id: str) -> None:
        await self._execute("DELETE FROM signing_keys WHERE key_id = ?", key_id)

    async def secret(self, name: str, proposed: bytes) -> bytes:
        await self._execute("INSERT OR IGNORE INTO secrets VALUES (?, ?)", name, proposed)
        row = self._row("SELECT value FROM secrets WHERE name = ?", name)
        assert row is not None
        return bytes(row[0])

    # --- expiry ---

    async def expire(self, *, before_us: int, events_before_us: int, limit: int) -> int:
        return int(
            await self._run(
                lambda connection: expire(connection, before_us, events_before_us, limit)
            )
        )


def _places(values: Collection[Any]) -> str:
    return ", ".join("?" * len(values))


def _is_still(connection: sqlite3.Connection, name: str, expected: NameRecord | None) -> bool:
    row = connection.execute(f"{_NAME} WHERE name = ?", (name,)).fetchone()
    return (rows.read_name(row) if row else None) == expected
