"""Redacted bytes are nowhere in the files: neither in the database nor in the log beside it."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from chinwag_server.chat.sqlite.connection import open_reader
from tests.server.chat.sqlite_store import opened
from tests.server.chat.store_writes import Author, commit

SECRET = "the secret words "


def found_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("repeats", [1, 150, 20_000], ids=["short", "a page", "400 KB"])
async def test_redacted_bytes_are_gone(tmp_path: Path, repeats: int) -> None:
    room = Author("c")
    async with opened(tmp_path) as store:
        await commit(store, room.create())
        for _ in range(5):
            await commit(store, room.send("bob", "what stays"))
        await commit(store, room.send("ann", SECRET * repeats))
        secret_id = room.head
        await commit(store, room.edit("ann", secret_id, SECRET * (repeats + 1)))
        for _ in range(5):
            await commit(store, room.send("bob", "what stays"))
        assert found_in(tmp_path)
        await commit(store, room.delete("ann", secret_id))
        # Soon, while it runs, and also under writes that go on.
        for _ in range(100):
            await commit(store, room.send("bob", "what stays"))
            await asyncio.sleep(0.01)
            if not found_in(tmp_path):
                break
        assert found_in(tmp_path) == []
        assert b"what stays" in (tmp_path / "chat.db").read_bytes()
    assert found_in(tmp_path) == []


async def test_a_reader_of_an_old_snapshot_delays_it_only(tmp_path: Path) -> None:
    room = Author("c")
    async with opened(tmp_path) as store:
        await commit(store, [*room.create(), *room.send("ann", SECRET * 500)])
        with closing(open_reader(tmp_path / "chat.db")) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM entries").fetchone()
            await commit(store, room.delete("ann", 2))
            await asyncio.sleep(0.3)
            assert found_in(tmp_path)
            await commit(store, room.send("ann", "writes go on"))
            reader.execute("COMMIT")
        for _ in range(200):
            await asyncio.sleep(0.01)
            if not found_in(tmp_path):
                break
        assert found_in(tmp_path) == []
