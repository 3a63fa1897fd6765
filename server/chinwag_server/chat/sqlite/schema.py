"""The chat store's tables in SQLite, and how a file comes to have them.

Keys: a channel has a number, `no`, inside the file. Where a table is about entries, its key is
`no << ENTRY_BITS | id`, one integer: so entries of a channel lie together, in order, in a
rowid table, whose inner nodes hold keys only. (A WITHOUT ROWID table holds whole rows in its
inner nodes: at 300 bytes a row a million entries would lie six levels deep instead of three.)
Long payloads go to overflow pages by themselves; `payload` is the last column, so reading the
others does not touch them.
"""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path

from chinwag_server.chat.store import StoreError

FILE_NAME = "chat.db"
APPLICATION_ID = 0x43484154  # "CHAT"
MIN_SQLITE = (3, 35, 0)

ENTRY_BITS = 36
MAX_ENTRY_ID = (1 << ENTRY_BITS) - 1  # 68 billion entries a channel
MAX_CHANNEL_NO = (1 << (63 - ENTRY_BITS)) - 1  # 134 million channels a file

# 4 KiB: a commit writes whole pages, and a send touches a page for each table and channel.
PAGE_SIZE = 4096

# Migration n brings a file from user_version n to n + 1. Never change one that was released.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE store (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        generation INTEGER NOT NULL,
        stamp INTEGER NOT NULL           -- of the newest commit
    );

    CREATE TABLE channels (
        no INTEGER PRIMARY KEY,
        channel_id TEXT NOT NULL UNIQUE,
        kind INTEGER NOT NULL,           -- chinwag.chat.v1.ChannelKind
        member_count INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        settings BLOB NOT NULL
    );

    -- What every send changes, apart from `settings`, which can be long.
    CREATE TABLE heads (
        no INTEGER PRIMARY KEY,
        head_id INTEGER NOT NULL,
        head_count INTEGER NOT NULL,
        head_time_us INTEGER NOT NULL,
        last_message_id INTEGER NOT NULL,
        entry_stamp INTEGER NOT NULL,    -- of the newest entry
        receipt_stamp INTEGER NOT NULL   -- of the newest change that members see of each other
    );

    CREATE TABLE entries (
        key INTEGER PRIMARY KEY,         -- no << 36 | id
        kind INTEGER NOT NULL,           -- EntryKind
        timeline_count INTEGER NOT NULL,
        time_us INTEGER NOT NULL,
        thread_key INTEGER,              -- of messages: no << 36 | thread root, or 0
        message_key INTEGER,             -- of edits, deletions, reactions: the message's key
        redacted INTEGER NOT NULL,
        sender_id TEXT,                  -- of messages
        payload BLOB NOT NULL            -- chinwag.chat.v1.Entry
    );
    -- A timeline or a thread: thread_key, then the row's key.
    CREATE INDEX messages_by_thread ON entries (thread_key) WHERE thread_key IS NOT NULL;
    CREATE INDEX edits_by_message ON entries (message_key) WHERE kind = 17;

    CREATE TABLE messages (
        key INTEGER PRIMARY KEY,         -- of the entry that made the message
        content_key INTEGER,             -- of the newest edit's entry
        state BLOB NOT NULL              -- chinwag.chat.v1.Message without content
    );

    CREATE TABLE members (
        no INTEGER NOT NULL,
        user_id TEXT NOT NULL,
        role INTEGER NOT NULL,           -- chinwag.chat.v1.MemberRole; 0: left
        join_id INTEGER NOT NULL,
        join_time_us INTEGER NOT NULL,
        read_id INTEGER NOT NULL,
        read_count INTEGER NOT NULL,
        delivered_id INTEGER NOT NULL,
        archived INTEGER NOT NULL,
        pinned INTEGER NOT NULL,
        stamp INTEGER NOT NULL,          -- of the row's newest change
        ranges BLOB NOT NULL,            -- pairs of little-endian int64
        preferences BLOB NOT NULL,       -- chinwag.chat.v1.ChannelPreferences
        PRIMARY KEY (no, user_id)
    ) WITHOUT ROWID;
    CREATE INDEX members_by_user ON members (user_id);

    CREATE TABLE reactions (
        key INTEGER NOT NULL,            -- of the message
        emoji TEXT NOT NULL,
        user_id TEXT NOT NULL,
        entry_id INTEGER NOT NULL,
        PRIMARY KEY (key, emoji, user_id)
    ) WITHOUT ROWID;
    CREATE INDEX reactions_by_entry ON reactions (key, emoji, entry_id);

    CREATE TABLE mentions (
        user_id TEXT NOT NULL,           -- '': everyone
        key INTEGER NOT NULL,            -- of the entry
        PRIMARY KEY (user_id, key)
    ) WITHOUT ROWID;

    -- client_message_id first: UUIDv7s rise with time, so inserts go to the end.
    CREATE TABLE sends (
        client_message_id BLOB NOT NULL,
        no INTEGER NOT NULL,
        sender_id TEXT NOT NULL,
        message_id INTEGER NOT NULL,
        time_us INTEGER NOT NULL,
        content_hash BLOB NOT NULL,
        PRIMARY KEY (client_message_id, no, sender_id)
    ) WITHOUT ROWID;

    CREATE TABLE requests (
        scope TEXT NOT NULL,
        request_id TEXT NOT NULL,
        time_us INTEGER NOT NULL,
        content_hash BLOB NOT NULL,
        response BLOB NOT NULL,
        PRIMARY KEY (scope, request_id)
    ) WITHOUT ROWID;
    CREATE INDEX requests_by_time ON requests (time_us);

    CREATE TABLE feed (
        stamp INTEGER PRIMARY KEY,
        ranges BLOB NOT NULL             -- triples of little-endian int64: no, first id, last id
    );
    """,
)

SCHEMA_VERSION = len(MIGRATIONS)


def entry_key(no: int, entry_id: int) -> int:
    """The key of an entry; ids outside of what a channel can have are brought to its ends."""
    return no << ENTRY_BITS | min(max(entry_id, 0), MAX_ENTRY_ID)


def new_generation() -> int:
    """A random positive int64."""
    return secrets.randbelow(2**63 - 1) + 1


def check_ours(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the schema in a file, 0 if the file is new.

    Raises:
        StoreError: The file is not a chat store, or is one of a newer program.
    """
    try:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"{path} is not a chinwag chat store ({error}): name another data directory, or "
            "restore a backup"
        ) from error
    if application_id == 0 and version == 0 and tables == 0:
        return 0
    if application_id != APPLICATION_ID:
        raise StoreError(
            f"{path} is not a chinwag chat store: expected application_id {APPLICATION_ID:#x}, "
            f"found {application_id:#x}; name another data directory"
        )
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema {version}, this program knows up to {SCHEMA_VERSION}: it was "
            "written by a newer chinwag; run that one, or restore a backup made before the upgrade"
        )
    return int(version)


def migrate(
    connection: sqlite3.Connection, path: Path, migrations: tuple[str, ...] = MIGRATIONS
) -> None:
    """Brings a file to the newest schema, each step in a transaction of its own.

    Raises:
        StoreError: As `check_ours`.
    """
    version = check_ours(connection, path)
    for number in range(version, len(migrations)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _statements(migrations[number]):
                connection.execute(statement)
            if number == 0:
                connection.execute(
                    "INSERT INTO store (only, generation, stamp) VALUES (1, ?, 0)",
                    (new_generation(),),
                )
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _statements(script: str) -> list[str]:
    # executescript() would commit first, and the step would not be one transaction.
    statements, begun = [], ""
    for part in script.split(";"):
        begun += part + ";"
        if sqlite3.complete_statement(begun):
            statements.append(begun)
            begun = ""
    return statements
