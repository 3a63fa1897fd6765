"""Reading a whole account store and naming everything in it that cannot be.

Works on a store in use: it reads one snapshot. What a chore still has to bring about counts as
done. Blocks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError, Message

from chinwag.account.v1 import events_pb2, user_pb2
from chinwag_server.account.sqlite.schema import (
    FILE_NAME,
    SCHEMA_VERSION,
    check_ours,
    open_reader,
)
from chinwag_server.account.store import StoreError

MAX_VIOLATIONS = 1000

# Called now and then: (checks done, checks in all).
Progress = Callable[[int, int], None]


@dataclass(slots=True, frozen=True)
class Violation:
    """What is wrong, and with whom: a user's id, a name or a key's id."""

    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.subject or 'the store'}: {self.text}"


# Each gives (subject, ...) rows that must not be, and what is wrong with them.
_QUERIES: tuple[tuple[str, str], ...] = (
    (
        "SELECT u.user_id, u.username FROM users u LEFT JOIN names n ON n.name = u.username "
        "WHERE u.username <> '' AND n.user_id IS NOT u.user_id",
        "has the username {1!r}, which the name table does not give them",
    ),
    (
        "SELECT n.name, n.user_id FROM names n LEFT JOIN users u ON u.user_id = n.user_id "
        "WHERE n.confirmed = 1 AND u.username IS NOT n.name "
        "AND NOT EXISTS (SELECT 1 FROM chores c WHERE c.user_id = n.user_id)",
        "is confirmed for {1!r}, who has another username or is not there",
    ),
    (
        "SELECT user_id FROM users WHERE deleted = 1 "
        "AND (username <> '' OR password_hash <> '' OR length(profile) > 0)",
        "is deleted and still has a name, a password or a profile",
    ),
    (
        "SELECT s.user_id, s.device_id FROM sessions s JOIN users u ON u.user_id = s.user_id "
        "WHERE u.deleted = 1 AND s.ended_time_us = 0",
        "is deleted and device {1!r} is still logged in",
    ),
    (
        "SELECT e.user_id, max(e.id), u.event_id FROM events e "
        "LEFT JOIN users u ON u.user_id = e.user_id GROUP BY e.user_id "
        "HAVING u.event_id IS NULL OR max(e.id) > u.event_id",
        "has event {1}, above the head {2} of the log",
    ),
    (
        "SELECT user_id, min(id), max(id), count(*) FROM events GROUP BY user_id "
        "HAVING max(id) - min(id) + 1 <> count(*)",
        "has a hole in the log of events {1} to {2}",
    ),
    (
        # The truth of a pair is the row of the lower id; a chore may be on its way to the other.
        "SELECT a.user_id, a.other_id FROM relations a "
        "LEFT JOIN relations b ON b.user_id = a.other_id AND b.other_id = a.user_id "
        "WHERE a.state > 0 AND coalesce(b.state, 0) <> CASE a.state "
        "WHEN 2 THEN 3 WHEN 3 THEN 2 ELSE a.state END "
        "AND NOT EXISTS (SELECT 1 FROM chores c WHERE c.user_id IN (a.user_id, a.other_id))",
        "and {1!r} do not agree on what they are to each other",
    ),
    (
        "SELECT r.user_id, r.other_id FROM relations r "
        "JOIN blocks b ON (b.user_id, b.other_id) IN "
        "((r.user_id, r.other_id), (r.other_id, r.user_id)) WHERE r.state > 0 "
        "AND NOT EXISTS (SELECT 1 FROM chores c WHERE c.user_id IN (r.user_id, r.other_id))",
        "and {1!r} are friends or asked, and one has blocked the other",
    ),
    (
        "SELECT user_id, other_id FROM relations WHERE user_id = other_id "
        "UNION ALL SELECT user_id, other_id FROM blocks WHERE user_id = other_id",
        "stands in a relation to themselves",
    ),
    *(
        (
            f"SELECT DISTINCT t.user_id FROM {table} t "  # noqa: S608 - constants
            "LEFT JOIN users u ON u.user_id = t.user_id WHERE u.user_id IS NULL",
            f"has rows in {table} and is not there",
        )
        for table in ("sessions", "relations", "blocks", "chores")
    ),
    (
        "SELECT key_id FROM api_keys WHERE length(secret_hash) <> 32 OR scopes = ''",
        "is an API key without a secret's hash or without scopes",
    ),
    (
        "SELECT key_id FROM signing_keys WHERE length(private) <> 32",
        "is a signing key that is none",
    ),
)

# (subject and bytes, what they are).
_MESSAGES: tuple[tuple[str, type[Message]], ...] = (
    ("SELECT user_id, profile FROM users", user_pb2.User),
    ("SELECT user_id, privacy FROM users", user_pb2.PrivacySettings),
    ("SELECT user_id, info FROM sessions", user_pb2.DeviceInfo),
    ("SELECT user_id, payload FROM events", events_pb2.AccountEvent),
)


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
        raise StoreError(f"there is no account store in {directory}: name a data directory")
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
    done, count = 0, len(_QUERIES) + len(_MESSAGES) + 1

    def step() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, count)

    for (found,) in connection.execute(f"PRAGMA integrity_check({MAX_VIOLATIONS})"):
        if found != "ok":
            yield Violation("", found)
    step()
    for sql, text in _QUERIES:
        for row in connection.execute(sql):
            yield Violation(str(row[0]), text.format(*row))
        step()
    for sql, kind in _MESSAGES:
        for subject, data in connection.execute(sql):
            if not _parses(kind, data):
                yield Violation(subject, f"has bytes that are no {kind.DESCRIPTOR.full_name}")
        step()


def _parses(kind: type[Message], data: Any) -> bool:
    try:
        kind.FromString(data)
    except DecodeError:
        return False
    return True
