"""Reading a whole store and naming everything in it that cannot be.

Works on a store in use: it reads one snapshot. Blocks, for about a second per 100,000 entries.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

from chinwag_server.chat.ids import client_message_id_bytes
from chinwag_server.chat.sqlite.check_channel import ChannelCheck, Violation, parse_entry
from chinwag_server.chat.sqlite.check_members import check_members
from chinwag_server.chat.sqlite.check_messages import check_messages
from chinwag_server.chat.sqlite.connection import open_reader
from chinwag_server.chat.sqlite.schema import (
    ENTRY_BITS,
    FILE_NAME,
    MAX_ENTRY_ID,
    SCHEMA_VERSION,
    check_ours,
)
from chinwag_server.chat.store import StoreError

MAX_VIOLATIONS = 1000

# Called now and then: (entries read, entries in all).
Progress = Callable[[int, int], None]


def check(
    directory: Path, progress: Progress | None = None, max_violations: int = MAX_VIOLATIONS
) -> list[Violation]:
    """Verifies every invariant that the rows of a data directory's store can show.

    Returns:
        The first `max_violations` violations; empty: the store is sound.

    Raises:
        StoreError: There is no store that this program can read.
    """
    path = directory / FILE_NAME
    if not path.exists():
        raise StoreError(f"there is no chat store in {directory}: name a data directory")
    with closing(open_reader(path)) as connection:
        version = check_ours(connection, path)
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"{path} has schema {version}, this program checks {SCHEMA_VERSION}: open the "
                "store once with this program, it brings the file up"
            )
        connection.execute("BEGIN")
        return list(islice(_violations(connection, progress), max_violations))


def _violations(connection: sqlite3.Connection, progress: Progress | None) -> Iterator[Violation]:
    try:
        damages = [text for (text,) in connection.execute("PRAGMA integrity_check(100)")]
        if damages != ["ok"]:
            # What rows say means nothing then.
            for text in damages:
                yield Violation("", 0, f"the file is damaged: {text}")
        else:
            yield from _check_rows(connection, progress)
    except sqlite3.DatabaseError as error:
        yield Violation("", 0, f"the file is damaged: {error}")


def _check_rows(connection: sqlite3.Connection, progress: Progress | None) -> Iterator[Violation]:
    yield from _check_owners(connection)
    (total,) = connection.execute("SELECT coalesce(sum(head_id), 0) FROM heads").fetchone()
    stamps = _FeedCheck(connection)
    yield from stamps.run()
    read = 0
    for (no,) in connection.execute("SELECT no FROM channels ORDER BY no").fetchall():
        channel = ChannelCheck(connection, no)
        yield from channel.run()
        yield from check_messages(connection, channel)
        yield from check_members(connection, channel, stamps.newest)
        yield from stamps.check_head(channel)
        read += channel.head_id
        if progress is not None:
            progress(read, total)
    yield from _check_sends(connection)


def _check_owners(connection: sqlite3.Connection) -> Iterator[Violation]:
    """Every row belongs to a channel that is there."""
    for table, no in (
        ("heads", "no"),
        ("members", "no"),
        ("sends", "no"),
        ("entries", f"key >> {ENTRY_BITS}"),
        ("messages", f"key >> {ENTRY_BITS}"),
        ("reactions", f"key >> {ENTRY_BITS}"),
        ("mentions", f"key >> {ENTRY_BITS}"),
    ):
        for lost, rows in connection.execute(
            f"SELECT {no} AS owner, count(*) FROM {table}"  # noqa: S608
            " WHERE owner NOT IN (SELECT no FROM channels) GROUP BY owner"
        ):
            yield Violation(
                "", 0, f"{table} has {rows} rows of channel number {lost}, which is not there"
            )
    for (channel_id,) in connection.execute(
        "SELECT channel_id FROM channels WHERE no NOT IN (SELECT no FROM heads)"
    ):
        yield Violation(channel_id, 0, "the channel has no row in heads")


class _FeedCheck:
    """The feed covers each entry once, in order."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        (self.newest,) = connection.execute("SELECT stamp FROM store").fetchone()
        self._covered: dict[int, int] = {}
        self._stamps: dict[int, int] = {}

    def run(self) -> Iterator[Violation]:
        for stamp, packed in self._connection.execute("SELECT stamp, ranges FROM feed"):
            if stamp > self.newest:
                yield Violation("", 0, f"the feed has stamp {stamp}, the newest is {self.newest}")
            if not packed or len(packed) % 24:
                yield Violation("", 0, f"the feed's row {stamp} is no list of ranges")
                continue
            for no, first_id, last_id in struct.iter_unpack("<3q", packed):
                expected = self._covered.get(no, 0) + 1
                if first_id != expected or last_id < first_id:
                    yield Violation(
                        self._name(no),
                        first_id,
                        f"the feed has {first_id}..{last_id} at stamp {stamp}, expected {expected}",
                    )
                self._covered[no] = last_id
                self._stamps[no] = stamp

    def check_head(self, channel: ChannelCheck) -> Iterator[Violation]:
        covered = self._covered.get(channel.no, 0)
        if covered != channel.head_id:
            yield channel.violation(
                covered, f"the feed ends at {covered}, the head is {channel.head_id}"
            )
        stamp = self._stamps.get(channel.no, 0)
        if channel.entry_stamp != stamp:
            yield channel.violation(
                channel.head_id, f"entry_stamp is {channel.entry_stamp}, the feed has {stamp}"
            )
        if channel.receipt_stamp > self.newest:
            yield channel.violation(0, f"receipt_stamp {channel.receipt_stamp} is in the future")

    def _name(self, no: int) -> str:
        row = self._connection.execute(
            "SELECT channel_id FROM channels WHERE no = ?", (no,)
        ).fetchone()
        return row[0] if row else f"number {no}"


def _check_sends(connection: sqlite3.Connection) -> Iterator[Violation]:
    """Each idempotency row points at the entry of that sender and client_message_id."""
    for channel_id, key, sender_id, stored, row_us, kind, entry_us, payload in connection.execute(
        f"SELECT c.channel_id, s.no << {ENTRY_BITS} | s.message_id, s.sender_id,"  # noqa: S608
        " s.client_message_id, s.time_us, e.kind, e.time_us, e.payload FROM sends s"
        " CROSS JOIN channels c ON c.no = s.no"
        f" LEFT JOIN entries e ON e.key = s.no << {ENTRY_BITS} | s.message_id"
    ):
        message_id = key & MAX_ENTRY_ID
        entry = parse_entry(payload) if payload is not None and kind == 16 else None
        if entry is None:
            yield Violation(
                channel_id, message_id, "an idempotency row points at what is no message"
            )
            continue
        try:
            sent = client_message_id_bytes(entry.message_sent.client_message_id)
        except ValueError:
            sent = b""
        if sent != stored or entry.actor_id != sender_id or row_us != entry_us:
            yield Violation(
                channel_id,
                message_id,
                f"the idempotency row ({sender_id!r}, {stored.hex()}, {row_us}) is not of the "
                f"entry it points at ({entry.actor_id!r}, {sent.hex()}, {entry_us})",
            )
