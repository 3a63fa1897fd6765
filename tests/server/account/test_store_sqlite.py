"""The account store in SQLite: the contract, its file, and copies of it."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
import stat
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from chinwag_server.account.records import (
    BlockRecord,
    EventRecord,
    NameRecord,
    RelationRecord,
    RelationState,
    UserRecord,
)
from chinwag_server.account.sqlite import SqliteAccountStore
from chinwag_server.account.sqlite.backup import backup, restore
from chinwag_server.account.sqlite.check import check
from chinwag_server.account.sqlite.schema import (
    APPLICATION_ID,
    FILE_NAME,
    MIGRATIONS,
    SCHEMA_VERSION,
    migrate,
    open_writer,
)
from chinwag_server.account.store import StoreError, StoreUnavailable
from chinwag_server.datadir import DataDir
from tests.server.account.clock import START_US
from tests.server.account.sqlite_store import opened
from tests.server.account.store_contract import StoreContract, put


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteAccountStore]:
    async with opened(tmp_path / "data") as store:
        yield store


class TestSqliteAccountStore(StoreContract):
    """The contract; what only SQLite does follows."""


def change(directory: Path, *statements: str) -> None:
    with closing(sqlite3.connect(directory / FILE_NAME, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


async def test_what_is_committed_is_there_after_opening_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        generation = store.generation
        await put(store, "ann", BlockRecord("ann", "bob", START_US))
        assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    async with opened(tmp_path) as store:
        assert store.generation == generation
        assert await store.block("ann", "bob") is not None


def test_several_that_make_the_file_at_once_make_one(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME

    def make(_number: int) -> int:
        with closing(open_writer(path)) as connection:
            migrate(connection, path)
            (generation,) = connection.execute("SELECT generation FROM store").fetchone()
            return int(generation)

    with closing(open_writer(path)):  # in WAL mode from here on
        pass
    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(make, range(8)))) == 1


async def test_a_file_of_the_first_schema_is_brought_up(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    with closing(open_writer(path)) as connection:
        connection.executescript(MIGRATIONS[0])
        connection.execute("INSERT INTO store VALUES (1, 77)")
        connection.execute(
            "INSERT INTO users VALUES ('ann', 3, '', '', x'', x'', 1, 2, 0, 0, NULL, NULL, NULL, "
            "NULL)"
        )
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
    async with opened(tmp_path) as store:
        assert store.generation == 77
        found = await store.user("ann")
        assert found == UserRecord("ann", version=3, create_time_us=1, update_time_us=2)
        assert found is not None
        await store.commit(dataclasses.replace(found, status=b"busy", status_time_us=5))
        assert (await store.users(["ann"]))["ann"].status == b"busy"


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    change(tmp_path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StoreError, match="newer chinwag"):
        async with opened(tmp_path):
            pass


async def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    change(tmp_path, "CREATE TABLE other (x)", "PRAGMA application_id = 7")
    with pytest.raises(StoreError, match="not a chinwag account store"):
        async with opened(tmp_path):
            pass
    (tmp_path / FILE_NAME).write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="not a chinwag account store"):
        async with opened(tmp_path):
            pass


async def test_it_needs_the_locked_directory(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not locked"):
        await SqliteAccountStore(DataDir(tmp_path)).open()


async def test_closed_it_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        pass
    with pytest.raises(StoreUnavailable):
        await store.commit(UserRecord("ann"))
    with pytest.raises(StoreUnavailable):
        await store.user("ann")


async def test_commits_that_were_made_before_closing_are_finished(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        commits = [
            asyncio.ensure_future(store.commit(UserRecord(f"u{number}"))) for number in range(300)
        ]
        await asyncio.sleep(0)
    await asyncio.gather(*commits)
    async with opened(tmp_path) as store:
        assert len(await store.users([f"u{number}" for number in range(300)])) == 300


async def test_a_full_disk_stores_nothing_and_mends_itself(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, "ann")
        # A limit of pages fails like a disk without room.
        assert store._connection is not None
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        big = EventRecord("ann", 1, START_US, b"x" * 100_000)
        with pytest.raises(StoreUnavailable):
            await put(store, "ann", big)
        user = await store.user("ann")
        assert user is not None
        assert user.version == 1
        assert await store.events("ann", 0, 1) == []
        store._connection.execute("PRAGMA max_page_count = 1000000")
        await put(store, "ann", big)
        assert await store.events("ann", 0, 1) == [big]


# --- copies ---


async def test_a_backup_is_a_store_with_another_generation(tmp_path: Path) -> None:
    file = tmp_path / "copy.db"
    async with opened(tmp_path / "data") as store:
        await put(store, "ann", BlockRecord("ann", "bob", START_US))
        await asyncio.to_thread(backup, tmp_path / "data", file)
        await put(store, "cid")
        generation = store.generation
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    data_dir = DataDir(tmp_path / "new")
    data_dir.open()
    restored = await asyncio.to_thread(restore, file, data_dir)
    data_dir.close()
    assert restored != generation
    async with opened(tmp_path / "new") as store:
        assert store.generation == restored
        assert await store.block("ann", "bob") is not None
        assert await store.user("cid") is None
    assert stat.S_IMODE((tmp_path / "new" / FILE_NAME).stat().st_mode) == 0o600


async def test_copies_replace_nothing_unasked(tmp_path: Path) -> None:
    file = tmp_path / "copy.db"
    async with opened(tmp_path / "data"):
        await asyncio.to_thread(backup, tmp_path / "data", file)
    with pytest.raises(StoreError, match="there already"):
        backup(tmp_path / "data", file)
    with pytest.raises(StoreError, match="no account store"):
        backup(tmp_path / "nowhere", tmp_path / "other.db")
    data_dir = DataDir(tmp_path / "data")
    with pytest.raises(StoreError, match="not locked"):
        restore(file, data_dir)
    data_dir.open()
    with pytest.raises(StoreError, match="there already"):
        restore(file, data_dir)
    restore(file, data_dir, overwrite=True)
    (tmp_path / "junk").write_bytes(b"junk" * 1000)
    with pytest.raises(StoreError, match="not a chinwag account store"):
        restore(tmp_path / "junk", data_dir, overwrite=True)
    data_dir.close()
    async with opened(tmp_path / "data"):
        pass


# --- check ---


async def test_a_sound_store_has_no_violations(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put_name(NameRecord("ann", "ann", confirmed=True, time_us=START_US), None)
        await store.commit(UserRecord("ann", username="ann"))
        await put(store, "ann", RelationRecord("ann", "bob", RelationState.FRIEND, 1, START_US))
        await put(store, "bob", RelationRecord("bob", "ann", RelationState.FRIEND, 1, START_US))
        assert check(tmp_path) == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE users SET username = 'bob' WHERE user_id = 'ann'", "name table"),
        ("UPDATE users SET username = '' WHERE user_id = 'ann'", "another username"),
        ("UPDATE users SET deleted = 1", "still has a name"),
        ("UPDATE users SET event_id = 1", "above the head"),
        ("DELETE FROM events WHERE id = 2", "a hole"),
        ("UPDATE relations SET state = 2 WHERE user_id = 'bob'", "do not agree"),
        ("DELETE FROM relations WHERE user_id = 'bob'", "do not agree"),
        ("INSERT INTO blocks VALUES ('bob', 'ann', 1)", "has blocked"),
        ("INSERT INTO blocks VALUES ('bob', 'bob', 1)", "to themselves"),
        ("INSERT INTO blocks VALUES ('nobody', 'bob', 1)", "is not there"),
        ("UPDATE users SET profile = x'ff'", "chinwag.account.v1.User"),
        ("INSERT INTO signing_keys VALUES ('k', x'00', 1)", "signing key"),
    ],
)
async def test_what_cannot_be_is_named(tmp_path: Path, statement: str, said: str) -> None:
    async with opened(tmp_path) as store:
        await store.put_name(NameRecord("ann", "ann", confirmed=True, time_us=START_US), None)
        events = [EventRecord("ann", number, START_US, b"") for number in (1, 2, 3)]
        friend = RelationRecord("ann", "bob", RelationState.FRIEND, 1, START_US)
        await store.commit(UserRecord("ann", username="ann", event_id=3), [*events, friend])
        await put(store, "bob", RelationRecord("bob", "ann", RelationState.FRIEND, 1, START_US))
    assert check(tmp_path) == []
    change(tmp_path, statement)
    assert any(said in str(violation) for violation in check(tmp_path))


def test_check_needs_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no account store"):
        check(tmp_path)
