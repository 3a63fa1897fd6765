"""A client store in an SQLite file: a killed client goes on where it was."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from chinwag.chat.v1 import channel_pb2, connect_pb2, entry_pb2
from chinwag.events import Cursor
from chinwag.store import Saved, SavedSend, apply, target_of

_VERSION = 1
_APPLICATION_ID = 0x63686E63  # "chnc"

_SCHEMA = """
CREATE TABLE cursors (channel_id TEXT PRIMARY KEY, generation INTEGER, id INTEGER) WITHOUT ROWID;
CREATE TABLE stamp (one INTEGER PRIMARY KEY CHECK (one = 1), stamp TEXT);
CREATE TABLE outbox (ord INTEGER PRIMARY KEY, client_message_id TEXT UNIQUE, time_s REAL,
                     request BLOB);
CREATE TABLE messages (channel_id TEXT, id INTEGER, entry BLOB, PRIMARY KEY (channel_id, id));
CREATE TABLE states (channel_id TEXT PRIMARY KEY, state BLOB) WITHOUT ROWID;
"""


class SqliteStore:
    """`ClientStore` in a file for one device and one process at a time.

    Commits survive a kill of the process. They are not fsynced one by one: after a power cut the
    last ones may be handed out again, never lost.

    Args:
        path: The file; made for the owner's eyes only.

    Raises:
        ValueError: The file is not a client store, or of a newer version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        file = Path(path)
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
        self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        try:
            self._open(file)
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise ValueError(f"{file} is no chinwag client store: {error}") from error

    def _open(self, file: Path) -> None:
        db = self._db
        # A second process on the same file would send the same outbox: it waits, then fails.
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("PRAGMA secure_delete=ON")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            db.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA application_id={_APPLICATION_ID};"
                f"PRAGMA user_version={_VERSION}; COMMIT;"
            )
            return
        if db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
            raise sqlite3.DatabaseError("it holds something else")
        if version > _VERSION:
            raise ValueError(
                f"{file} is of version {version}, this chinwag knows {_VERSION}: upgrade chinwag"
            )

    def load(self) -> Saved:
        rows = self._db.execute("SELECT channel_id, generation, id FROM cursors")
        cursors = {row[0]: Cursor(*row) for row in rows}
        stamp = self._db.execute("SELECT stamp FROM stamp").fetchone()
        outbox = [
            SavedSend(ord_, time_s, connect_pb2.SendMessageRequest.FromString(request))
            for ord_, time_s, request in self._db.execute(
                "SELECT ord, time_s, request FROM outbox ORDER BY ord"
            )
        ]
        return Saved(cursors, stamp[0] if stamp else "", outbox)

    def add_send(self, send: SavedSend) -> None:
        self._db.execute(
            "INSERT INTO outbox VALUES (?, ?, ?, ?)",
            (
                send.order,
                send.request.client_message_id,
                send.time_s,
                send.request.SerializeToString(),
            ),
        )

    def remove_send(self, client_message_id: str) -> None:
        self._db.execute("DELETE FROM outbox WHERE client_message_id = ?", (client_message_id,))

    def commit(self, cursor: Cursor, entry: entry_pb2.Entry | None) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._put_cursor(cursor)
            if entry is not None:
                self._apply(cursor.channel_id, entry)
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def _put_cursor(self, cursor: Cursor) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)",
            (cursor.channel_id, cursor.generation, cursor.id),
        )

    def _apply(self, channel_id: str, entry: entry_pb2.Entry) -> None:
        known = None
        if target := target_of(entry):
            row = self._db.execute(
                "SELECT entry FROM messages WHERE channel_id = ? AND id = ?", (channel_id, target)
            ).fetchone()
            known = entry_pb2.Entry.FromString(row[0]) if row else None
        changed = apply(entry, known)
        if changed is not None:
            self._db.execute(
                "INSERT OR REPLACE INTO messages VALUES (?, ?, ?)",
                (channel_id, changed[0], changed[1].SerializeToString()),
            )

    def reset(self, channel_id: str, cursor: Cursor | None) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.execute("DELETE FROM messages WHERE channel_id = ?", (channel_id,))
            if cursor is None:
                self._db.execute("DELETE FROM cursors WHERE channel_id = ?", (channel_id,))
                self._db.execute("DELETE FROM states WHERE channel_id = ?", (channel_id,))
            else:
                self._put_cursor(cursor)
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def set_stamp(self, stamp: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO stamp VALUES (1, ?)", (stamp,))

    def set_state(self, state: channel_pb2.ChannelState) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO states VALUES (?, ?)",
            (state.channel_id, state.SerializeToString()),
        )

    def state(self, channel_id: str) -> channel_pb2.ChannelState | None:
        row = self._db.execute(
            "SELECT state FROM states WHERE channel_id = ?", (channel_id,)
        ).fetchone()
        return channel_pb2.ChannelState.FromString(row[0]) if row else None

    def messages(
        self, channel_id: str, before_id: int = 0, limit: int = 50
    ) -> list[entry_pb2.Entry]:
        rows = self._db.execute(
            "SELECT entry FROM messages WHERE channel_id = ? AND id < ? ORDER BY id DESC LIMIT ?",
            (channel_id, before_id or 1 << 62, limit),
        ).fetchall()
        return [entry_pb2.Entry.FromString(row[0]) for row in reversed(rows)]

    def close(self) -> None:
        self._db.close()
