"""The adapter: every write is written to be sent twice, since a lost reply tells nothing.

All of a user's rows are in partitions of one number (`tables`); a statement names the user, so it
touches that partition alone, and so does a transaction.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Coroutine, Sequence
from typing import Any, TypeVar

from chinwag_server.account.postgres import (
    address,
    commits,
    errors,
    names,
    rows,
    schema,
)
from chinwag_server.account.postgres.commits import Outcome
from chinwag_server.account.postgres.driver import Connection, Row
from chinwag_server.account.postgres.expiry import expire
from chinwag_server.account.postgres.migrate import migrate
from chinwag_server.account.postgres.replica import Replica
from chinwag_server.account.postgres.server import PostgresSettings, Server
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
from chinwag_server.account.store import Conflict, Position, StoreUnavailable

# ruff: noqa: S608 - statements are put together from constants and numbered places

_SESSION = f"SELECT {rows.columns(SessionRecord)} FROM sessions"
_RELATION = f"SELECT {rows.columns(RelationRecord)} FROM relations"
_BLOCK = f"SELECT {rows.columns(BlockRecord)} FROM blocks"
_EVENT = f"SELECT {rows.columns(EventRecord)} FROM events"
_REQUEST = f"SELECT {rows.REQUEST_COLUMNS} FROM requests WHERE user_id = $1"
_KEY_REQUEST = f"SELECT {rows.KEY_REQUEST_COLUMNS} FROM key_requests WHERE partition = $1"
_CHORE = f"SELECT {rows.columns(ChoreRecord)} FROM chores"
_USER = f"SELECT {rows.USER_COLUMNS} FROM users"
# OFFSET 0 has each looked up in their own partition: any other plan goes through all of them.
_MANY_USERS = (
    f"SELECT found.* FROM unnest($1::text[]) AS asked (u), "
    f"LATERAL ({_USER} WHERE user_id = u OFFSET 0) AS found"
)
_API_KEY = f"SELECT {rows.API_KEY_COLUMNS} FROM api_keys"
_SIGNING_KEY = f"SELECT {rows.columns(SigningKeyRecord)} FROM signing_keys"
_LIVE_KEY = "revoked_time_us = 0 AND (expire_time_us = 0 OR expire_time_us > $1)"
_CHORE_KEY = "user_id = $1 AND kind = $2 AND target = $3 AND revision = $4"
_SECRET = "SELECT value FROM secrets WHERE name = $1"  # noqa: S105 - a statement

# What `Replica` calls the API keys as a whole; no user has this id.
_API_KEYS = "api keys"

COMMIT_ID_BYTES = 12
# As many are looked up in the partitions that hold any of them.
FEW_USERS = 32

Result = TypeVar("Result")


class PostgresAccountStore:
    """`AccountStore` in a PostgreSQL database.

    Args:
        url: Of the primary. It may name several hosts: the one that takes writes is used.
        replica_url: Of a streaming replica, for reads that may be old; "": there is none.
        cluster_id: Of this mesh: a new database gets it, and one with another id is refused.
            Empty: drawn, and any is right.
    """

    def __init__(
        self,
        url: str,
        *,
        replica_url: str = "",
        cluster_id: str = "",
        settings: PostgresSettings | None = None,
    ) -> None:
        self.shown = address.shown(url)
        self._url = url
        self._replica_url = replica_url
        self._wanted_id = cluster_id
        self._settings = settings or PostgresSettings()
        self._identity: schema.Identity | None = None
        self._primary: Server | None = None
        self._replica: Replica | None = None
        self._writing: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"PostgresAccountStore({self.shown!r})"

    @property
    def generation(self) -> int:
        return self._identity.generation if self._identity else 0

    @property
    def cluster_id(self) -> str:
        """Of the mesh that the store belongs to; known once it is open."""
        return self._identity.cluster_id if self._identity else ""

    # --- opening and closing ---

    async def open(self) -> None:
        for url in filter(None, (self._url, self._replica_url)):
            address.check(url)
        done = await migrate(self._url, cluster_id=self._wanted_id, settings=self._settings)
        self._identity = done.identity
        primary = self._server(self._url, "read-write")
        await primary.open()
        if self._replica_url:
            server = self._server(self._replica_url, "any")
            self._replica = Replica(server, primary, self._settings.replica_lag_s)
            await self._replica.open()
        self._primary = primary

    async def close(self) -> None:
        primary, self._primary = self._primary, None
        if self._writing:
            await asyncio.wait(self._writing, timeout=self._settings.patience_s)
        if self._replica is not None:
            await self._replica.close()
            self._replica = None
        if primary is not None:
            await primary.close()

    def _server(self, url: str, attributes: str) -> Server:
        return Server(url, self._settings, attributes=attributes, check=self._check)

    async def _check(self, connection: Connection) -> None:
        """Of every new connection: the URL may lead to another database than it did."""
        found = await schema.identity(connection)
        if found != self._identity:
            raise errors.Astray(
                f"a connection led to another store: expected {self._identity}, found {found}"
            )

    # --- how it reads and writes ---

    async def _rows(self, sql: str, *values: Any) -> list[Row]:
        if rows.has_nul(values):
            return []

        async def job(connection: Connection, again: bool) -> list[Row]:
            return await connection.fetch(sql, *values)

        return await self._running().run(job)

    async def _row(self, sql: str, *values: Any) -> Row | None:
        found = await self._rows(sql, *values)
        return found[0] if found else None

    async def _count(self, sql: str, *values: Any) -> int:
        row = await self._row(sql, *values)
        return int(row[0]) if row else 0

    async def _old_rows(self, keys: Collection[str], sql: str, *values: Any) -> list[Row]:
        """`_rows` of what may be old; `keys`: of whom they are."""
        if self._replica is not None and not rows.has_nul(values) and self._replica.shows(keys):
            found = await self._replica.fetch(sql, values)
            if found is not None:
                return found
        return await self._rows(sql, *values)

    async def _write(self, work: Coroutine[Any, Any, Result], *keys: str) -> Result:
        """Runs a write that a caller who gives up does not stop, and `close` waits for."""
        task = asyncio.ensure_future(self._noted(work, keys))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return await asyncio.shield(task)

    async def _noted(self, work: Coroutine[Any, Any, Result], keys: Sequence[str]) -> Result:
        try:
            return await work
        finally:
            # Also when it failed: it may have been done.
            for key in keys:
                if self._replica is not None:
                    self._replica.wrote(key)

    async def _execute(self, sql: str, *values: Any) -> None:
        """Runs one statement that can be run twice without harm."""
        primary = self._running()

        async def job(connection: Connection, again: bool) -> None:
            await connection.execute(sql, *values)

        await self._write(primary.run(job))

    def _running(self) -> Server:
        if self._primary is None:
            raise StoreUnavailable("the account store is closed")
        return self._primary

    # --- users ---

    async def user(self, user_id: str) -> UserRecord | None:
        row = await self._row(f"{_USER} WHERE user_id = $1", user_id)
        return rows.read_user(row) if row else None

    async def users(
        self, user_ids: Collection[str], *, may_be_old: bool = False
    ) -> dict[str, UserRecord]:
        ids = [user_id for user_id in user_ids if "\0" not in user_id]
        if not ids:
            return {}
        sql = f"{_USER} WHERE user_id = ANY ($1)" if len(ids) <= FEW_USERS else _MANY_USERS
        found = await (self._old_rows(ids, sql, ids) if may_be_old else self._rows(sql, ids))
        return {user.user_id: user for user in map(rows.read_user, found)}

    def changed_elsewhere(self, user_id: str) -> None:
        if self._replica is not None:
            self._replica.wrote(user_id)

    async def commit(self, user: UserRecord, writes: Sequence[Write] = ()) -> None:
        primary = self._running()
        writes = tuple(writes)
        commit_id = secrets.token_bytes(COMMIT_ID_BYTES)

        async def job(connection: Connection, again: bool) -> Outcome:
            return await commits.commit(connection, user, writes, commit_id, again)

        outcome = await self._write(primary.run(job), user.user_id)
        if outcome is Outcome.CONFLICT:
            raise Conflict(user.user_id)
        if outcome is Outcome.UNKNOWN:
            raise StoreUnavailable(
                f"whether a commit of {user.user_id} is stored is not known: its reply was lost "
                "and others came after it; repeat the call with its request_id"
            )

    async def session(self, user_id: str, device_id: str) -> SessionRecord | None:
        row = await self._row(
            f"{_SESSION} WHERE user_id = $1 AND device_id = $2", user_id, device_id
        )
        return SessionRecord(*row) if row else None

    async def sessions(self, user_id: str) -> list[SessionRecord]:
        sql = (
            f"{_SESSION} WHERE user_id = $1 AND ended_time_us = 0 "
            "ORDER BY create_time_us DESC, device_id DESC"
        )
        return [SessionRecord(*row) for row in await self._rows(sql, user_id)]

    async def live_sessions(
        self, devices: Collection[tuple[str, str]], now_us: int
    ) -> set[tuple[str, str]]:
        asked = [device for device in devices if not rows.has_nul(device)]
        sql = (
            "SELECT u, d FROM unnest($1::text[], $2::text[]) AS asked (u, d), "
            "LATERAL (SELECT ended_time_us, expire_time_us FROM sessions "
            "WHERE user_id = u AND device_id = d OFFSET 0) AS found "  # as _MANY_USERS
            "WHERE ended_time_us = 0 AND expire_time_us > $3"
        )
        values = [user_id for user_id, _ in asked], [device_id for _, device_id in asked], now_us
        return {(row[0], row[1]) for row in await self._rows(sql, *values)}

    async def expired_sessions(self, now_us: int, limit: int) -> list[SessionRecord]:
        sql = f"{_SESSION} WHERE ended_time_us = 0 AND expire_time_us <= $1 LIMIT $2"
        return [SessionRecord(*row) for row in await self._rows(sql, now_us, limit)]

    async def relation(self, user_id: str, other_id: str) -> RelationRecord:
        sql = f"{_RELATION} WHERE user_id = $1 AND other_id = $2"
        row = await self._row(sql, user_id, other_id)
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
        query = _page(
            f"{_RELATION} WHERE user_id = $1 AND state = ANY ($2)",
            [user_id, list(map(int, states))],
            ("time_us", "other_id"),
            after,
            limit,
        )
        found = await (self._old_rows([user_id], *query) if may_be_old else self._rows(*query))
        return [rows.read_relation(row) for row in found]

    async def count_relations(self, user_id: str, states: Collection[RelationState]) -> int:
        sql = "SELECT count(*) FROM relations WHERE user_id = $1 AND state = ANY ($2)"
        return await self._count(sql, user_id, list(map(int, states)))

    async def block(self, user_id: str, other_id: str) -> BlockRecord | None:
        row = await self._row(f"{_BLOCK} WHERE user_id = $1 AND other_id = $2", user_id, other_id)
        return BlockRecord(*row) if row else None

    async def blocks(self, user_id: str, after: Position | None, limit: int) -> list[BlockRecord]:
        query = _page(
            f"{_BLOCK} WHERE user_id = $1", [user_id], ("time_us", "other_id"), after, limit
        )
        return [BlockRecord(*row) for row in await self._old_rows([user_id], *query)]

    async def count_blocks(self, user_id: str) -> int:
        return await self._count("SELECT count(*) FROM blocks WHERE user_id = $1", user_id)

    async def events(self, user_id: str, after_id: int, limit: int) -> list[EventRecord]:
        sql = f"{_EVENT} WHERE user_id = $1 AND id > $2 ORDER BY id LIMIT $3"
        return [EventRecord(*row) for row in await self._rows(sql, user_id, after_id, limit)]

    async def bans(self, now_us: int, after: Position | None, limit: int) -> list[UserRecord]:
        query = _page(
            f"{_USER} WHERE ban_time_us IS NOT NULL "
            "AND (ban_expire_time_us = 0 OR ban_expire_time_us > $1)",
            [now_us],
            ("ban_time_us", "user_id"),
            after,
            limit,
        )
        return [rows.read_user(row) for row in await self._rows(*query)]

    # --- answers and chores ---

    async def request(self, partition: str, scope: str, request_id: str) -> RequestRecord | None:
        select = _KEY_REQUEST if partition.startswith(rows.KEY_PREFIX) else _REQUEST
        sql = f"{select} AND scope = $2 AND request_id = $3"
        row = await self._row(sql, partition, scope, request_id.encode())
        return rows.read_request(row) if row else None

    async def put_request(self, request: RequestRecord) -> None:
        # Without its second half the statement leaves what is there.
        sql = rows.put_request(request.partition).partition(" DO UPDATE ")[0] + " DO NOTHING"
        await self._execute(sql, *rows.request_row(request))

    async def chores(self, now_us: int, limit: int) -> list[ChoreRecord]:
        sql = f"{_CHORE} WHERE due_time_us <= $1 ORDER BY due_time_us LIMIT $2"
        return [ChoreRecord(*row) for row in await self._rows(sql, now_us, limit)]

    async def finish_chore(self, chore: ChoreRecord) -> None:
        await self._execute(f"DELETE FROM chores WHERE {_CHORE_KEY}", *rows.values(chore)[:4])

    async def put_off_chore(self, chore: ChoreRecord, due_time_us: int) -> None:
        sql = f"UPDATE chores SET due_time_us = $5 WHERE {_CHORE_KEY}"
        await self._execute(sql, *rows.values(chore)[:4], due_time_us)

    # --- names ---

    async def name(self, name: str) -> NameRecord | None:
        row = await self._row(f"{names.SELECT} WHERE name = $1", name)
        return rows.read_name(row) if row else None

    async def put_name(self, record: NameRecord, expected: NameRecord | None) -> bool:
        primary = self._running()

        async def job(connection: Connection, again: bool) -> bool:
            return await names.put(connection, record, expected, again)

        return await self._write(primary.run(job))

    async def delete_name(self, expected: NameRecord) -> bool:
        primary = self._running()

        async def job(connection: Connection, again: bool) -> bool:
            return await names.delete(connection, expected, again)

        return await self._write(primary.run(job))

    async def unconfirmed_names(self, before_us: int, limit: int) -> list[NameRecord]:
        sql = f"{names.SELECT} WHERE NOT confirmed AND time_us < $1 LIMIT $2"
        return [rows.read_name(row) for row in await self._rows(sql, before_us, limit)]

    # --- keys ---

    async def api_key(self, key_id: str) -> ApiKeyRecord | None:
        row = await self._row(f"{_API_KEY} WHERE key_id = $1", key_id)
        return rows.read_api_key(row) if row else None

    async def api_keys(self, now_us: int, after: Position | None, limit: int) -> list[ApiKeyRecord]:
        query = _page(
            f"{_API_KEY} WHERE {_LIVE_KEY}", [now_us], ("create_time_us", "key_id"), after, limit
        )
        return [rows.read_api_key(row) for row in await self._old_rows([_API_KEYS], *query)]

    async def count_api_keys(self, now_us: int) -> int:
        return await self._count(f"SELECT count(*) FROM api_keys WHERE {_LIVE_KEY}", now_us)

    async def put_api_key(self, record: ApiKeyRecord, request: RequestRecord | None = None) -> None:
        primary = self._running()

        async def job(connection: Connection, again: bool) -> None:
            await connection.execute("BEGIN")
            await connection.execute(rows.PUT_API_KEY, *rows.values(record))
            if request is not None:
                sql = rows.put_request(request.partition)
                await connection.execute(sql, *rows.request_row(request))
            await connection.execute("COMMIT")

        await self._write(primary.run(job), _API_KEYS)

    async def signing_keys(self) -> list[SigningKeyRecord]:
        found = await self._rows(f"{_SIGNING_KEY} ORDER BY use_from_us DESC, key_id DESC")
        return [SigningKeyRecord(*row) for row in found]

    async def put_signing_key(self, record: SigningKeyRecord) -> None:
        await self._execute(rows.PUT_SIGNING_KEY, *rows.values(record))

    async def delete_signing_key(self, key_id: str) -> None:
        await self._execute("DELETE FROM signing_keys WHERE key_id = $1", key_id)

    async def secret(self, name: str, proposed: bytes) -> bytes:
        sql = "INSERT INTO secrets VALUES ($1, $2) ON CONFLICT DO NOTHING"
        await self._execute(sql, name, proposed)
        row = await self._row(_SECRET, name)
        assert row is not None
        return bytes(row[0])

    # --- expiry ---

    async def expire(self, *, before_us: int, events_before_us: int, limit: int) -> int:
        primary = self._running()
        return await self._write(expire(primary, before_us, events_before_us, limit))


def _page(
    select: str,
    values: Sequence[Any],
    order: tuple[str, str],
    after: Position | None,
    limit: int,
) -> tuple[Any, ...]:
    """A statement for one page of rows, newest first, and its values."""
    time, other = order
    sql, all_values = select, list(values)
    if after is not None:
        place = len(all_values) + 1
        sql += f" AND ({time}, {other}) < (${place}, ${place + 1})"
        all_values += after
    sql += f" ORDER BY {time} DESC, {other} DESC LIMIT ${len(all_values) + 1}"
    return (sql, *all_values, limit)
