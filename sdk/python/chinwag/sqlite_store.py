"""A client store in an SQLite file: a killed client goes on where it was."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from chinwag import events as ev
from chinwag.chat.v1 import channel_pb2, connect_pb2, message_pb2
from chinwag.errors import StoreMismatch
from chinwag.outbox import Send
from chinwag.store import Saved, apply

_VERSION = 1
_APPLICATION_ID = 0x63686E63  # "chnc"

_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE cursors (channel_id TEXT PRIMARY KEY, generation INTEGER NOT NULL,
    id INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE sends (number INTEGER PRIMARY KEY, client_message_id TEXT NOT NULL UNIQUE,
    create_time_s REAL NOT NULL, request BLOB NOT NULL);
CREATE TABLE messages (channel_id TEXT NOT NULL, thread_root_id INTEGER NOT NULL,
    id INTEGER NOT NULL, message BLOB NOT NULL, PRIMARY KEY (channel_id, id)) WITHOUT ROWID;
CREATE INDEX timeline ON messages (channel_id, thread_root_id, id);
CREATE TABLE channels (channel_id TEXT PRIMARY KEY, channel BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE states (channel_id TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
"""


class SqliteStore:
    """A store in a file, for one device and one process at a time: implements `ClientStore`.

    What was committed survives a kill of the process. Commits are not fsynced one by one: a power
    cut may undo the last ones together, and their events are then handed out again.

    Args:
        path: The file; made for the owner's eyes only if it does not exist.

    Raises:
        StoreMismatch: The file is no client store, one of a newer version, or in use.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        if not self._path.exists():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        self._db = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, timeout=0.5
        )
        self._next = 0
        try:
            self._open()
        except sqlite3.Error as error:
            self._db.close()
            busy = "locked" in str(error)
            problem = "is used by another process" if busy else "is no chinwag client store"
            raise StoreMismatch(f"{self._path} {problem}: {error}") from error
        except StoreMismatch:
            self._db.close()
            raise

    def _open(self) -> None:
        db = self._db
        # Two processes on one file would send the same outbox and drop each other's events.
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        # What a deletion removes must not be left in free pages.
        db.execute("PRAGMA secure_delete=ON")
        with self._transaction():
            version = db.execute("PRAGMA user_version").fetchone()[0]
            is_empty = not db.execute("SELECT 1 FROM sqlite_master").fetchone()
            if version == 0 and is_empty:
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
                db.execute(f"PRAGMA user_version={_VERSION}")
            elif db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                raise StoreMismatch(f"{self._path} is a database of something else")
            elif version != _VERSION:
                raise StoreMismatch(
                    f"{self._path} has version {version}, this chinwag knows {_VERSION}: use a "
                    "newer chinwag, or another file"
                )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # --- ClientStore ---

    def load(self) -> Saved:
        cursors = self._db.execute("SELECT channel_id, generation, id FROM cursors")
        sends = self._db.execute("SELECT number, request, create_time_s FROM sends ORDER BY number")
        return Saved(
            [ev.Cursor(*row) for row in cursors],
            self._fact("stamp"),
            self._fact("account_cursor"),
            [
                Send(number, connect_pb2.SendMessageRequest.FromString(request), create_time_s)
                for number, request, create_time_s in sends
            ],
        )

    def bind(self, user_id: str) -> None:
        known = self._fact("user_id")
        if known not in ("", user_id):
            raise StoreMismatch(
                f"{self._path} is {known}'s, not {user_id}'s: give each user a file of their own"
            )
        if not known:
            self._put_fact("user_id", user_id)

    def add_send(self, send: Send) -> None:
        request = send.request
        self._db.execute(
            "INSERT INTO sends VALUES (?, ?, ?, ?)",
            (
                send.number,
                request.client_message_id,
                send.create_time_s,
                request.SerializeToString(),
            ),
        )

    def remove_sends(self, client_message_ids: Sequence[str]) -> None:
        with self._transaction():
            self._db.executemany(
                "DELETE FROM sends WHERE client_message_id = ?",
                [(client_message_id,) for client_message_id in client_message_ids],
            )

    def commit(self, events: Sequence[ev.Event]) -> None:
        with self._transaction():
            for event in events:
                apply(event, self)
        if any(isinstance(event, ev.MessageDeleted) for event in events):
            # The log of changes holds the old text until it is written over.
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def messages(
        self, channel_id: str, *, before_id: int = 0, limit: int = 50, thread_root_id: int = 0
    ) -> list[message_pb2.Message]:
        rows = self._db.execute(
            "SELECT message FROM messages WHERE channel_id = ? AND thread_root_id = ? AND id < ?"
            " ORDER BY id DESC LIMIT ?",
            (channel_id, thread_root_id, before_id or 1 << 62, limit),
        ).fetchall()
        return [message_pb2.Message.FromString(row[0]) for row in reversed(rows)]

    def channels(self) -> list[channel_pb2.Channel]:
        rows = self._db.execute("SELECT channel FROM channels ORDER BY channel_id")
        return [channel_pb2.Channel.FromString(row[0]) for row in rows]

    def state(self, channel_id: str) -> channel_pb2.ChannelState | None:
        row = self._db.execute(
            "SELECT state FROM states WHERE channel_id = ?", (channel_id,)
        ).fetchone()
        return channel_pb2.ChannelState.FromString(row[0]) if row else None

    def close(self) -> None:
        self._db.close()

    # --- Tables ---

    def _fact(self, name: str) -> str:
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def _put_fact(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def put_cursor(self, cursor: ev.Cursor) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)",
            (cursor.channel_id, cursor.generation, cursor.id),
        )

    def put_stamp(self, stamp: str) -> None:
        self._put_fact("stamp", stamp)

    def put_account_cursor(self, cursor: str) -> None:
        self._put_fact("account_cursor", cursor)

    def get_message(self, channel_id: str, message_id: int) -> message_pb2.Message | None:
        row = self._db.execute(
            "SELECT message FROM messages WHERE channel_id = ? AND id = ?",
            (channel_id, message_id),
        ).fetchone()
        return message_pb2.Message.FromString(row[0]) if row else None

    def put_message(self, message: message_pb2.Message) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO messages VALUES (?, ?, ?, ?)",
            (
                message.channel_id,
                message.thread_root_id,
                message.id,
                message.SerializeToString(),
            ),
        )

    def get_channel(self, channel_id: str) -> channel_pb2.Channel | None:
        row = self._db.execute(
            "SELECT channel FROM channels WHERE channel_id = ?", (channel_id,)
        ).fetchone()
        return channel_pb2.Channel.FromString(row[0]) if row else None

    def put_channel(self, channel: channel_pb2.Channel) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO channels VALUES (?, ?)",
            (channel.id, channel.SerializeToString()),
        )

    def put_state(self, state: channel_pb2.ChannelState) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO states VALUES (?, ?)",
            (state.channel_id, state.SerializeToString()),
        )

    def drop_messages(self, channel_id: str) -> None:
        self._db.execute("DELETE FROM messages WHERE channel_id = ?", (channel_id,))

    def drop_channel(self, channel_id: str) -> None:
        for table in ("cursors", "messages", "channels", "states"):
            self._db.execute(f"DELETE FROM {table} WHERE channel_id = ?", (channel_id,))  # noqa: S608 - our own names
