"""A full disk: writes fail, reads go on, and all is well by itself when there is room again."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chinwag_server.chat.sqlite import SqliteChatStore
from chinwag_server.chat.sqlite.check import check
from chinwag_server.chat.store import StoreUnavailable
from tests.server.chat.sqlite_store import opened
from tests.server.chat.store_contract import all_done
from tests.server.chat.store_writes import Author, commit


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "chinwag-test", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


async def fill(store: SqliteChatStore, room: Author) -> int:
    """Sends until the store fails; gives the last id that was acked."""
    for _ in range(2000):
        head = room.head
        try:
            await commit(store, room.send("ann", "x" * 20_000))
        except StoreUnavailable:
            return head
    raise AssertionError("the disk did not get full")


async def resume(store: SqliteChatStore, room: Author, head: int) -> None:
    """Goes on from what is stored, as the rules do."""
    record = await store.channel("c")
    assert record is not None
    assert record.head_id == head
    assert await store.entry("c", head) == room.payloads[head]
    assert await store.entry("c", head + 1) is None
    room.record = record
    member = await store.member("c", "ann")
    assert member is not None
    room.members["ann"] = member


async def test_a_full_disk_heals_by_itself(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 1_000_000)
    room = Author("c")
    async with opened(small_disk / "data") as store:
        await commit(store, room.create())
        head = await fill(store, room)
        assert head > 5
        await resume(store, room, head)
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await commit(store, room.send("ann", "x" * 1_000_000))
            await resume(store, room, head)
        ballast.unlink()
        await commit(store, room.send("ann", "there is room again"))
        assert (await store.entry("c", head + 1)) == room.payloads[head + 1]
    assert check(small_disk / "data") == []


async def test_a_full_database_fails_the_whole_batch(tmp_path: Path) -> None:
    room, other = Author("c"), Author("other")

    def limit(connection: sqlite3.Connection, pages: int) -> None:
        (used,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {used + pages}")

    async with opened(tmp_path) as store:
        await commit(store, [*room.create(), *other.create()])
        await store.run_in_writer(lambda connection: limit(connection, 5))
        new = Author("new")
        outcomes = await all_done(
            store,
            [
                new.create(),
                room.send("ann", "x" * 100_000),
                *(other.send("ann") for _ in range(20)),
            ],
        )
        assert outcomes[1][0] == 0
        assert all(isinstance(error, StoreUnavailable) for _, error in outcomes[1:])
        await store.run_in_writer(lambda connection: limit(connection, 100_000))
        record = await store.channel("other")
        assert record is not None
        assert record.head_id == 1
        assert store.backlog_bytes == 0
        if outcomes[0][1] is not None:
            assert await store.channel("new") is None
            new = Author("new")
            await commit(store, new.create())
        fresh = Author("fresh")
        await commit(store, [*fresh.create(), *fresh.send("ann", "y" * 100_000)])
        await commit(store, [new.member("ann")])
        assert {r.channel_id for r, _ in await store.user_channels("ann")} == {
            "c",
            "fresh",
            "new",
            "other",
        }
    assert check(tmp_path) == []
