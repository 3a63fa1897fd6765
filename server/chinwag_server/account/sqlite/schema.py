"""The account store's tables in SQLite, and how a file comes to have them."""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path

from chinwag_server.account.store import StoreError

FILE_NAME = "account.db"
APPLICATION_ID = 0x41434354  # "ACCT"
MIN_SQLITE = (3, 35, 0)
BUSY_MS = 5_000
CACHE_KIB = 16 << 10

# Migration n brings a file from user_version n to n + 1. Never change one that was released.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE store (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        generation INTEGER NOT NULL
    );

    CREATE TABLE users (
        user_id TEXT PRIMARY KEY,
        version INTEGER NOT NULL,
        username TEXT NOT NULL,
        password_hash TEXT NOT NULL,
        profile BLOB NOT NULL,            -- chinwag.account.v1.User
        privacy BLOB NOT NULL,            -- chinwag.account.v1.PrivacySettings
        create_time_us INTEGER NOT NULL,
        update_time_us INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        event_id INTEGER NOT NULL,        -- of the newest event
        ban_time_us INTEGER,              -- NULL: not banned
        ban_reason TEXT,
        ban_expire_time_us INTEGER,
        ban_api_key_id TEXT
    ) WITHOUT ROWID;
    CREATE INDEX users_by_ban ON users (ban_time_us, user_id) WHERE ban_time_us IS NOT NULL;

    CREATE TABLE sessions (
        user_id TEXT NOT NULL,
        device_id TEXT NOT NULL,
        info BLOB NOT NULL,               -- chinwag.account.v1.DeviceInfo
        salt BLOB NOT NULL,
        refresh_count INTEGER NOT NULL,
        refreshable INTEGER NOT NULL,
        create_time_us INTEGER NOT NULL,
        active_time_us INTEGER NOT NULL,
        address TEXT NOT NULL,
        token_time_us INTEGER NOT NULL,
        expire_time_us INTEGER NOT NULL,
        ended_time_us INTEGER NOT NULL,   -- 0: it has not
        end_reason INTEGER NOT NULL,      -- chinwag.account.v1.DeviceRevokeReason
        acked_event_id INTEGER NOT NULL,
        PRIMARY KEY (user_id, device_id)
    ) WITHOUT ROWID;
    CREATE INDEX sessions_by_expiry ON sessions (expire_time_us) WHERE ended_time_us = 0;
    CREATE INDEX sessions_by_end ON sessions (ended_time_us) WHERE ended_time_us > 0;

    CREATE TABLE relations (
        user_id TEXT NOT NULL,
        other_id TEXT NOT NULL,
        state INTEGER NOT NULL,           -- RelationState
        revision INTEGER NOT NULL,
        time_us INTEGER NOT NULL,
        message TEXT NOT NULL,
        PRIMARY KEY (user_id, other_id)
    ) WITHOUT ROWID;
    CREATE INDEX relations_by_time ON relations (user_id, state, time_us, other_id);
    CREATE INDEX relations_ended ON relations (time_us) WHERE state = 0;

    CREATE TABLE blocks (
        user_id TEXT NOT NULL,
        other_id TEXT NOT NULL,
        time_us INTEGER NOT NULL,
        PRIMARY KEY (user_id, other_id)
    ) WITHOUT ROWID;
    CREATE INDEX blocks_by_time ON blocks (user_id, time_us, other_id);

    CREATE TABLE events (
        user_id TEXT NOT NULL,
        id INTEGER NOT NULL,
        time_us INTEGER NOT NULL,
        payload BLOB NOT NULL,            -- chinwag.account.v1.AccountEvent
        PRIMARY KEY (user_id, id)
    ) WITHOUT ROWID;
    CREATE INDEX events_by_time ON events (time_us);

    CREATE TABLE requests (
        partition TEXT NOT NULL,          -- a user, or 'key:' and an API key
        scope TEXT NOT NULL,
        request_id TEXT NOT NULL,
        time_us INTEGER NOT NULL,
        content_hash BLOB NOT NULL,
        response BLOB NOT NULL,
        PRIMARY KEY (partition, scope, request_id)
    ) WITHOUT ROWID;
    CREATE INDEX requests_by_time ON requests (time_us);

    CREATE TABLE chores (
        user_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        target TEXT NOT NULL,
        revision INTEGER NOT NULL,
        due_time_us INTEGER NOT NULL,
        PRIMARY KEY (user_id, kind, target)
    ) WITHOUT ROWID;
    CREATE INDEX chores_by_time ON chores (due_time_us);

    CREATE TABLE names (
        name TEXT PRIMARY KEY,
        user_id TEXT NOT NULL,
        confirmed INTEGER NOT NULL,
        time_us INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX names_unconfirmed ON names (time_us) WHERE confirmed = 0;

    CREATE TABLE api_keys (
        key_id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        scopes TEXT NOT NULL,             -- with a space between
        secret_hash BLOB NOT NULL,        -- SHA-256
        create_time_us INTEGER NOT NULL,
        expire_time_us INTEGER NOT NULL,  -- 0: never
        used_time_us INTEGER NOT NULL,
        creator_key_id TEXT NOT NULL,
        revoked_time_us INTEGER NOT NULL  -- 0: it is not
    ) WITHOUT ROWID;

    CREATE TABLE signing_keys (
        key_id TEXT PRIMARY KEY,
        private BLOB NOT NULL,
        use_from_us INTEGER NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE secrets (
        name TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) WITHOUT ROWID;
    """,
    """
    -- chinwag.presence.v1.UserStatus
    ALTER TABLE users ADD COLUMN status BLOB NOT NULL DEFAULT x'';
    ALTER TABLE users ADD COLUMN status_time_us INTEGER NOT NULL DEFAULT 0;
    """,
)

SCHEMA_VERSION = len(MIGRATIONS)


def new_generation() -> int:
    """A random positive int64."""
    return secrets.randbelow(2**63 - 1) + 1


def open_writer(path: Path) -> sqlite3.Connection:
    """The connection that writes: WAL, every commit fsynced, deleted bytes overwritten.

    Raises:
        StoreError: SQLite is too old, or the file cannot be opened.
    """
    if sqlite3.sqlite_version_info < MIN_SQLITE:
        raise StoreError(
            f"chinwag needs SQLite {'.'.join(map(str, MIN_SQLITE))} or newer, this Python has "
            f"{sqlite3.sqlite_version}: use another build of Python"
        )
    connection = None
    try:
        connection = _connect(path.absolute().as_uri() + "?mode=rwc")
        check_ours(connection, path)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreError(
                f"{path}: expected journal_mode wal, got {mode}: the data directory must be on a "
                "local disk"
            )
        # FULL: a commit fsyncs the WAL, so that what is acked survives a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        _tune(connection)
    except (sqlite3.Error, StoreError) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise StoreError(f"{path} cannot be opened: {error}") from error
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads."""
    # Not mode=ro: a reader has to be able to make the -shm file again after a crash.
    connection = _connect(path.absolute().as_uri() + "?mode=rw")
    connection.execute("PRAGMA query_only = ON")
    _tune(connection)
    return connection


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    return connection


def _tune(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute("PRAGMA temp_store = MEMORY")


def check_ours(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the schema in a file, 0 if the file is new.

    Raises:
        StoreError: The file is not an account store, or is one of a newer program.
    """
    try:
        # All from one snapshot: another process may be making the file.
        alone = not connection.in_transaction
        if alone:
            connection.execute("BEGIN")
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if alone:
            connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"{path} is not a chinwag account store ({error}): name another data directory, or "
            "restore a backup"
        ) from error
    if application_id == 0 and version == 0 and tables == 0:
        return 0
    if application_id != APPLICATION_ID:
        raise StoreError(
            f"{path} is not a chinwag account store: expected application_id "
            f"{APPLICATION_ID:#x}, found {application_id:#x}; name another data directory"
        )
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema {version}, this program knows up to {SCHEMA_VERSION}: it was "
            "written by a newer chinwag; run that one, or restore a backup made before the upgrade"
        )
    return int(version)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Brings a file to the newest schema, each step in a transaction of its own.

    Raises:
        StoreError: As `check_ours`.
    """
    while check_ours(connection, path) < SCHEMA_VERSION:
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Read again: `chinwag apikey create` may do the same at this moment.
            number = check_ours(connection, path)
            if number < SCHEMA_VERSION:
                _step(connection, number)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _step(connection: sqlite3.Connection, number: int) -> None:
    for statement in _statements(MIGRATIONS[number]):
        connection.execute(statement)
    if number == 0:
        connection.execute("INSERT INTO store VALUES (1, ?)", (new_generation(),))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {number + 1}")


def _statements(script: str) -> list[str]:
    # executescript() would commit first, and the step would not be one transaction.
    statements, begun = [], ""
    for part in script.split(";"):
        begun += part + ";"
        if sqlite3.complete_statement(begun):
            statements.append(begun)
            begun = ""
    return statements
