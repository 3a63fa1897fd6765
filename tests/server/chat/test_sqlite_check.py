"""`check` finds nothing in a sound store, and each thing that cannot be."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from chinwag_server.chat.sqlite.check import check
from chinwag_server.chat.sqlite.schema import entry_key
from chinwag_server.chat.store import StoreError
from tests.server.chat.sqlite_store import opened
from tests.server.chat.store_writes import BROADCAST, Author, commit


async def make(directory: Path) -> None:
    """Channel "c" (number 1): messages 2, 3, 4 (deleted), 5 a reply to 2, 6 edits 3, 7 deletes 4,
    8 a reaction to 2, 9 bob leaves. "gone" is deleted, "news" is a broadcast channel."""
    room, gone, news = Author("c"), Author("gone"), Author("news", kind=BROADCAST)
    async with opened(directory) as store:
        await commit(store, room.create())
        await commit(store, [*room.send("ann"), *room.send("bob", mentions=("ann", ""))])
        await commit(store, room.send("ann"))
        await commit(store, room.send("bob", root_id=2))
        await commit(store, room.edit("bob", 3, "better"))
        await commit(store, room.delete("ann", 4))
        await commit(store, room.react("bob", 2, "+1"))
        await commit(store, room.leave("bob"))
        await commit(store, [*gone.create(), *news.create()])
        await commit(store, gone.end("ann"))


async def test_a_sound_store_has_no_violations(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    await make(tmp_path)
    assert check(tmp_path, lambda *step: steps.append(step)) == []
    assert steps == [(9, 12), (11, 12), (12, 12)]
    async with opened(tmp_path):
        assert check(tmp_path) == []


def key(entry_id: int) -> int:
    return entry_key(1, entry_id)


OTHER_PAYLOAD = f"(SELECT payload FROM entries WHERE key = {key(3)})"

PLANTED = [
    (f"DELETE FROM entries WHERE key = {key(5)}", 6, "a hole"),
    (f"DELETE FROM entries WHERE key = {key(9)}", 9, "the head says"),
    ("UPDATE heads SET head_id = 8 WHERE no = 1", 8, "the head says"),
    ("UPDATE heads SET head_count = 9 WHERE no = 1", 9, "the head says"),
    ("UPDATE heads SET last_message_id = 5 WHERE no = 1", 9, "the head says"),
    ("UPDATE heads SET entry_stamp = 1 WHERE no = 1", 9, "entry_stamp"),
    ("UPDATE heads SET receipt_stamp = 99 WHERE no = 1", 0, "in the future"),
    (f"UPDATE entries SET timeline_count = 7 WHERE key = {key(5)}", 5, "timeline_count"),
    (f"UPDATE entries SET time_us = 1 WHERE key = {key(5)}", 5, "is before"),
    (f"UPDATE entries SET payload = x'ff' WHERE key = {key(5)}", 5, "no Entry"),
    (f"UPDATE entries SET payload = {OTHER_PAYLOAD} WHERE key = {key(2)}", 2, "id is 3"),
    (f"UPDATE entries SET kind = 24 WHERE key = {key(9)}", 9, "kind is 25"),
    (f"UPDATE entries SET sender_id = 'eve' WHERE key = {key(2)}", 2, "actor_id"),
    (f"UPDATE entries SET redacted = 0 WHERE key = {key(4)}", 4, "is not redacted"),
    (f"UPDATE entries SET redacted = 1 WHERE key = {key(2)}", 2, "redacted is False"),
    (f"UPDATE entries SET thread_key = {key(9)} WHERE key = {key(5)}", 5, "no main message"),
    (f"UPDATE entries SET message_key = {key(9)} WHERE key = {key(6)}", 6, "which is no message"),
    ("UPDATE channels SET deleted = 1 WHERE no = 1", 9, "deleted is 1"),
    ("UPDATE channels SET member_count = 5 WHERE no = 1", 0, "member_count is 5"),
    ("UPDATE sends SET message_id = 9 WHERE no = 1 AND message_id = 2", 9, "no message"),
    ("UPDATE sends SET message_id = 3 WHERE no = 1 AND message_id = 2", 3, "is not of the entry"),
    ("UPDATE sends SET sender_id = 'eve' WHERE message_id = 2", 2, "is not of the entry"),
    ("UPDATE members SET read_id = 99 WHERE no = 1 AND user_id = 'ann'", 4, "head 9"),
    ("UPDATE members SET read_count = 9 WHERE no = 1 AND user_id = 'ann'", 4, "read_count"),
    ("UPDATE members SET join_id = 99 WHERE no = 1 AND user_id = 'ann'", 99, "joined above"),
    ("UPDATE members SET stamp = 99 WHERE no = 1 AND user_id = 'ann'", 0, "in the future"),
    ("UPDATE members SET ranges = x'' WHERE no = 1 AND user_id = 'ann'", 0, "have ended"),
    ("UPDATE members SET ranges = x'01' WHERE no = 1 AND user_id = 'bob'", 0, "not pairs"),
    ("UPDATE members SET role = 3 WHERE no = 1 AND user_id = 'bob'", 0, "have ended"),
    ("UPDATE members SET pinned = 1 WHERE no = 1 AND user_id = 'ann'", 0, "preferences"),
    (f"UPDATE messages SET key = {key(9)} WHERE key = {key(3)}", 9, "is no message"),
    (f"DELETE FROM messages WHERE key = {key(3)}", 3, "has no state"),
    (f"UPDATE messages SET state = x'' WHERE key = {key(2)}", 2, "is as of"),
    (f"UPDATE messages SET content_key = NULL WHERE key = {key(3)}", 3, "expected 6"),
    (f"DELETE FROM reactions WHERE key = {key(2)}", 2, "has the reactions"),
    (f"UPDATE reactions SET entry_id = 7 WHERE key = {key(2)}", 2, "which is another"),
    (f"INSERT INTO mentions VALUES ('ann', {key(9)})", 9, "a mention"),
    ("DELETE FROM feed WHERE stamp = 4", 6, "expected 5"),
    ("DELETE FROM feed WHERE stamp = 8", 8, "the feed ends at 8"),
    ("UPDATE feed SET ranges = x'01' WHERE stamp = 8", 0, "no list of ranges"),
    ("UPDATE store SET stamp = 1", 0, "the newest is 1"),
    ("DELETE FROM heads WHERE no = 1", 0, "no row in heads"),
    ("DELETE FROM channels WHERE no = 1", 0, "which is not there"),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("sound")
    asyncio.run(make(directory))
    return (directory / "chat.db").read_bytes()


@pytest.mark.parametrize(("sql", "entry_id", "text"), PLANTED)
def test_a_planted_fault_is_found(
    tmp_path: Path, sound: bytes, sql: str, entry_id: int, text: str
) -> None:
    path = tmp_path / "chat.db"
    path.write_bytes(sound)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(sql)
        assert connection.total_changes > 0
        connection.commit()
    found = check(tmp_path)
    assert any(v.id == entry_id and text in v.text for v in found), [str(v) for v in found]


async def test_a_damaged_file_is_found(tmp_path: Path) -> None:
    room = Author("c")
    async with opened(tmp_path) as store:
        await commit(store, [*room.create(), *room.send("ann", "x" * 100_000)])
    path = tmp_path / "chat.db"
    raw = bytearray(path.read_bytes())
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'members_by_user'"
        ).fetchone()
    raw[(page - 1) * 4096 : (page - 1) * 4096 + 200] = b"\xff" * 200
    path.write_bytes(raw)
    assert "the file is damaged" in check(tmp_path)[0].text


def test_where_there_is_no_store_there_is_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no chat store"):
        check(tmp_path)
