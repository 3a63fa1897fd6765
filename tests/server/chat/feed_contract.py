"""What holds of the feeds that a sequenced store writes: adapters of tables pass it."""

from __future__ import annotations

import asyncio

import pytest

from chinwag_server.chat.sequenced import schema
from chinwag_server.chat.sequenced.epoch import Epoch
from chinwag_server.chat.sequenced.feed import FeedEnds, Place
from chinwag_server.chat.sequenced.feed_rows import FeedRow, rows_after
from chinwag_server.chat.sequenced.store import SequencedStore
from chinwag_server.chat.sequenced.tables import Tables
from chinwag_server.clock import SystemClock
from tests.server.chat.store_writes import Author, commit

SHARD = 1


class Stay:
    """An epoch that lasts until it is ended."""

    shard = SHARD

    def __init__(self, number: int) -> None:
        self.number = number
        self.over = False

    def alive(self) -> bool:
        return not self.over


def open_store(tables: Tables, epoch: Stay, ends: FeedEnds) -> SequencedStore:
    def give_up(_epoch: Epoch, why: str) -> None:
        raise AssertionError(f"an epoch was given up without need: {why}")

    return SequencedStore(
        tables,
        lambda _channel_id: epoch,
        give_up,
        generation=5,
        clock=SystemClock(),
        feed=ends,
    )


async def read(tables: Tables, place: Place, end: Place, limit: int = 3) -> list[FeedRow]:
    """All rows behind a place, up to an end."""
    found: list[FeedRow] = []
    while place < end:
        rows, after = await rows_after(tables, SHARD, place, end, limit)
        assert len(rows) <= limit
        assert after > place
        found += rows
        place = after
    assert place == end
    return found


def end_of(ends: FeedEnds) -> Place:
    """How far the shard may be read."""
    ((shard, place),) = ends.after(0)
    assert shard == SHARD
    return place


class FeedContract:
    async def test_a_row_for_each_commit(
        self, feed_tables: Tables, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(schema, "FEED_BUCKET", 4)
        ends = FeedEnds()
        store = open_store(feed_tables, Stay(7), ends)
        one, two = Author("c1"), Author("c2")
        expected: list[tuple[str, int, int]] = []
        for author in (one, two):
            await commit(store, author.create())
            expected.append((author.id, 1, 1))
        for number in range(9):
            author = (one, two)[number % 2]
            head = author.record.head_id
            await commit(store, [*author.send("ann", "x"), *author.send("bob", "y")])
            expected.append((author.id, head + 1, head + 2))
        # Marks are no entries.
        await commit(store, [one.member("bob", pinned=True)])
        assert end_of(ends) == Place(7, 11)
        rows = await read(feed_tables, Place(0, 0), Place(7, 11))
        assert [row[1:] for row in rows] == expected
        assert [row.number for row in rows] == list(range(1, 12))
        for after in range(12):
            assert await read(feed_tables, Place(7, after), Place(7, 11)) == rows[after:]
        assert await read(feed_tables, Place(0, 0), Place(7, 5)) == rows[:5]

    async def test_later_epochs_follow(
        self, feed_tables: Tables, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(schema, "FEED_BUCKET", 4)
        author = Author("c1")
        heads: list[int] = []
        for number in (7, 8, 12):
            ends = FeedEnds()
            epoch = Stay(number)
            store = open_store(feed_tables, epoch, ends)
            await store.take_over_touched(epoch)
            for _ in range(5):
                await commit(store, author.create() if not heads else author.send("ann", "x"))
                heads.append(author.record.head_id)
            # Nobody handed over.
        assert author.record.head_id == 15
        rows = await read(feed_tables, Place(0, 0), Place(20, 0))
        # Who takes over tells again of what was kept.
        assert [row[1:] for row in rows if row.last_id > row.first_id] == [
            ("c1", 1, 5),
            ("c1", 6, 10),
        ]
        last = 0
        for row in rows:
            assert row.first_id <= last + 1
            last = max(last, row.last_id)
        assert last == 15
        assert (await read(feed_tables, Place(7, 4), Place(20, 0)))[0] == rows[4]
        # An epoch in which nothing was committed is passed over.
        assert await read(feed_tables, Place(10, 0), Place(11, 0)) == []
        assert await read(feed_tables, Place(20, 0), Place(21, 0)) == []

    async def test_an_end_waits_for_the_rows_before_it(self, feed_tables: Tables) -> None:
        ends = FeedEnds()
        slow, waits = asyncio.Event(), asyncio.Event()
        store = open_store(feed_tables, Stay(7), ends)
        first, second = Author("c1"), Author("c2")
        for author in (first, second):
            await commit(store, author.create())

        async def wait(channel_id: str, _entries: object) -> None:
            if channel_id == first.id:
                waits.set()
                await slow.wait()

        store._open["c1"]._before_ack = wait
        late = asyncio.ensure_future(commit(store, first.send("ann", "x")))
        await waits.wait()
        version = ends.version
        await commit(store, second.send("ann", "y"))
        assert end_of(ends) == Place(7, 2)
        changed = asyncio.ensure_future(ends.change(version, 5))
        slow.set()
        await late
        await changed
        assert end_of(ends) == Place(7, 4)
        assert ends.after(version) == [(SHARD, Place(7, 4))]
        assert ends.after(ends.version) == []
        await ends.change(ends.version, 0.01)
