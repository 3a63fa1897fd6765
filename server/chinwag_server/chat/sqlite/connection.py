"""How connections to a chat store's file are set up."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from chinwag_server.chat.sqlite.schema import MIN_SQLITE, PAGE_SIZE, check_ours
from chinwag_server.chat.store import StoreError

BUSY_MS = 5_000
WRITER_CACHE_KIB = 64 << 10
READER_CACHE_KIB = 16 << 10
# Left to a crash of the writer thread: it checkpoints by itself, between commits.
BACKSTOP_PAGES = 50_000
MAX_IDLE_WAL_BYTES = 64 << 20


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
    try:
        connection = _connect(path.absolute().as_uri() + "?mode=rwc")
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        check_ours(connection, path)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be opened: {error}") from error
    if mode != "wal":
        raise StoreError(
            f"{path}: expected journal_mode wal, got {mode}: the data directory must be on a "
            "local disk"
        )
    # FULL: a commit fsyncs the WAL, so that what is acked survives a power cut.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute(f"PRAGMA wal_autocheckpoint = {BACKSTOP_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {MAX_IDLE_WAL_BYTES}")
    connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads, to be used by one thread at a time."""
    # Not mode=ro: a reader has to be able to make the -shm file again after a crash.
    connection = _connect(path.absolute().as_uri() + "?mode=rw")
    connection.execute("PRAGMA query_only = ON")
    connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    return connection
