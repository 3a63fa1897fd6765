"""The file: who may open it, its schema, backups and restores."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from chinwag_server.chat.sqlite import SqliteChatStore
from chinwag_server.chat.sqlite.backup import backup, restore
from chinwag_server.chat.sqlite.check import check
from chinwag_server.chat.sqlite.schema import (
    APPLICATION_ID,
    MIGRATIONS,
    SCHEMA_VERSION,
    migrate,
)
from chinwag_server.chat.store import StoreError
from chinwag_server.datadir import DataDir, DataDirError
from tests.server.chat.sqlite_store import opened
from tests.server.chat.store_writes import Author, commit


def run_script(script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, directory], capture_output=True, text=True, check=False
    )


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from chinwag_server.datadir import DataDir\n"
        "DataDir(Path(sys.argv[1])).open()"
    )
    async with opened(tmp_path):
        with pytest.raises(DataDirError, match="in use by another process"):
            DataDir(tmp_path).open()
        second = await asyncio.to_thread(run_script, script, tmp_path)
        assert second.returncode != 0
        assert "stop that one, or name another directory" in second.stderr
    DataDir(tmp_path).open()


async def test_a_store_needs_the_lock(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="open the data directory first"):
        await SqliteChatStore(DataDir(tmp_path)).open()


async def test_a_foreign_file_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("CREATE TABLE theirs (x)")
        foreign.commit()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a chinwag chat store"):
        async with opened(tmp_path):
            pass
    assert path.read_bytes() == before
    path.write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    with pytest.raises(StoreError, match="not a chinwag chat store"):
        async with opened(tmp_path):
            pass


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "chat.db")) as newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StoreError, match="written by a newer chinwag"):
        async with opened(tmp_path):
            pass


def test_migrations_run_once_each_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    second = "CREATE TABLE more (x); INSERT INTO more VALUES (1);"
    broken = "CREATE TABLE half (x); INSERT INTO nowhere VALUES (1);"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, MIGRATIONS)
        generation = connection.execute("SELECT generation FROM store").fetchone()
        with pytest.raises(sqlite3.OperationalError):
            migrate(connection, path, (*MIGRATIONS, broken))
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert (
            connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'half'").fetchall() == []
        )
        migrate(connection, path, (*MIGRATIONS, second))
        assert connection.execute("SELECT x FROM more").fetchall() == [(1,)]
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("SELECT generation FROM store").fetchone() == generation


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    room = Author("c")
    async with opened(tmp_path) as store:
        generation = store.generation
        await commit(store, [*room.create(), *room.send("ann", "x" * 100_000)])
        stamp = await commit(store, [room.member("bob", read_id=2, read_count=1, delivered_id=2)])
    async with opened(tmp_path) as store:
        assert (store.generation, store.stamp) == (generation, stamp)
        assert await store.entry("c", 2) == room.payloads[2]
        assert await commit(store, room.send("bob")) == stamp + 1
    assert check(tmp_path) == []


async def test_a_backup_while_writing_is_one_moment(tmp_path: Path) -> None:
    room, file = Author("c"), tmp_path / "backup.db"
    steps: list[tuple[int, int]] = []
    async with opened(tmp_path / "data") as store:
        await commit(store, room.create())
        for _ in range(30):
            await commit(store, room.send("ann", "x" * 100_000))
        copying = asyncio.ensure_future(
            asyncio.to_thread(backup, tmp_path / "data", file, lambda *step: steps.append(step))
        )
        sent = 0
        while not copying.done():
            await commit(store, room.send("bob"))
            sent += 1
        await copying
        assert sent > 0
        with pytest.raises(StoreError, match="there already"):
            backup(tmp_path / "data", file)
    assert len(steps) > 1
    assert not (tmp_path / "backup.db.partial").exists()
    data_dir = DataDir(tmp_path / "restored")
    data_dir.open()
    restore(file, data_dir)
    data_dir.close()
    assert check(tmp_path / "restored") == []
    async with opened(tmp_path / "restored") as store:
        record = await store.channel("c")
        assert record is not None
        assert 31 <= record.head_id <= room.head


async def test_a_restore_gives_a_new_generation_and_overwrites_only_if_told(
    tmp_path: Path,
) -> None:
    room, file = Author("c"), tmp_path / "backup.db"
    async with opened(tmp_path / "data") as store:
        generation = store.generation
        await commit(store, room.create())
        backup(tmp_path / "data", file)
        await commit(store, room.send("ann"))
    data_dir = DataDir(tmp_path / "data")
    with pytest.raises(StoreError, match="is not locked"):
        restore(file, data_dir)
    data_dir.open()
    with pytest.raises(StoreError, match="ask to overwrite it"):
        restore(file, data_dir)
    restored = restore(file, data_dir, overwrite=True)
    data_dir.close()
    assert restored not in (generation, 0)
    async with opened(tmp_path / "data") as store:
        assert store.generation == restored
        record = await store.channel("c")
        assert record is not None
        assert (record.head_id, record.generation) == (1, restored)


async def test_what_is_no_backup_is_not_restored(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path / "data")
    data_dir.open()
    file = tmp_path / "file"
    file.write_bytes(b"no backup " * 1000)
    with pytest.raises(StoreError):
        restore(file, data_dir)
    with pytest.raises(StoreError):
        restore(tmp_path / "none", data_dir)
    data_dir.close()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["lock"]
