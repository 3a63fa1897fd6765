"""What every `Tables` guarantees. A module with a `tables` fixture inherits the class."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest

from chinwag_server.chat.sequenced.tables import Delete, Key, Put, Row, Table, Tables, Value

PLAIN = Table(
    "plain",
    {"name": str},
    {"id": int},
    {"number": int, "words": str, "data": bytes, "flag": bool},
)
# Its partitions have the keys of PLAIN's.
BESIDE = Table("beside", {"name": str}, {"id": int}, {"state": bytes})
PAIRS = Table("pairs", {"name": str, "part": int}, {"emoji": str, "user_id": str}, {"number": int})
SINGLE = Table("single", {"name": str, "bucket": int}, {}, {"data": bytes, "number": int})
FLEETING = Table("fleeting", {"name": str}, {"id": int}, {"data": bytes}, ttl_s=2)
TABLES = (PLAIN, BESIDE, PAIRS, SINGLE, FLEETING)

KB = 1000


def put(name: str, key: int, timestamp: int, **cells: Value) -> Put:
    """Cells of a row of PLAIN."""
    return Put(PLAIN, (name,), (key,), cells, timestamp)


def erase(name: str, first: Key, last: Key, timestamp: int) -> Delete:
    """A deletion in PLAIN."""
    return Delete(PLAIN, (name,), first, last, timestamp)


async def rows(tables: Tables, name: str) -> list[Row]:
    """All rows of a partition of PLAIN."""
    return await tables.read(PLAIN, (name,), limit=1000)


async def numbers(tables: Tables, name: str, **bounds: Any) -> list[int]:
    """Keys of rows of PLAIN."""
    bounds.setdefault("limit", 1000)
    return [int(row.key[0]) for row in await tables.read(PLAIN, (name,), **bounds)]


def unset(table: Table, partition: Key, key: Key, names: Sequence[str], timestamp: int) -> Put:
    """Deletes cells."""
    return Put(table, partition, key, dict.fromkeys(names), timestamp)


class TablesContract:
    @pytest.fixture
    def name(self) -> str:
        """A partition's, not used before."""
        return secrets.token_hex(8)

    @pytest.fixture
    def shard(self) -> int:
        """A shard's number, not used before."""
        return secrets.randbits(62)

    # --- values ---

    @pytest.mark.parametrize("size", [10, 9000])
    async def test_writes_of_several_partitions(self, tables: Tables, name: str, size: int) -> None:
        names = [f"{name}.{number}" for number in range(4)]
        batches = [
            [put(each, 1, 5, data=b"a" * size), put(each, 2, 5, data=b"b" * size)] for each in names
        ]
        await tables.write_each(batches)
        await tables.write_each(batches)
        await tables.write_each([])
        for each in names:
            assert [len(row.blob("data")) for row in await rows(tables, each)] == [size, size]
        await tables.write_each([[erase(each, (1,), (1,), 6)] for each in names])
        for each in names:
            assert await numbers(tables, each) == [2]

    async def test_what_was_written_is_read(self, tables: Tables, name: str) -> None:
        cells: dict[str, Value] = {
            "number": 7,
            "words": "grüße, 你好",
            "data": b"\0\xff",
            "flag": True,
        }
        await tables.write([put(name, 1, 10, **cells)])
        found = await rows(tables, name)
        assert found == [Row((1,), cells)]
        assert [type(value) for value in found[0].cells.values()] == [int, str, bytes, bool]

    async def test_what_was_not_written_is_not_there(self, tables: Tables, name: str) -> None:
        await tables.write([put(name, 1, 10, number=1)])
        assert await rows(tables, name + "x") == []
        assert await tables.read(SINGLE, (name, 0), limit=1) == []

    async def test_no_writes_are_none(self, tables: Tables, name: str) -> None:
        await tables.write([])
        await tables.write([put(name, 1, 10)])
        assert await rows(tables, name) == []

    @pytest.mark.parametrize(
        "cells",
        [
            {"number": 0},
            {"number": -(2**63)},
            {"number": 2**63 - 1},
            {"words": ""},
            {"data": b""},
            {"flag": False},
        ],
    )
    async def test_values_at_the_edge(
        self, tables: Tables, name: str, cells: dict[str, Value]
    ) -> None:
        await tables.write([put(name, -5, 10, **cells)])
        assert await rows(tables, name) == [Row((-5,), cells)]

    async def test_large_values(self, tables: Tables, name: str) -> None:
        data = random.Random(1).randbytes(400 * KB)
        await tables.write([put(name, 1, 10, data=data)])
        assert await rows(tables, name) == [Row((1,), {"data": data})]

    async def test_a_table_without_clustering(self, tables: Tables, name: str) -> None:
        await tables.write([Put(SINGLE, (name, 3), (), {"data": b"a", "number": 1}, 10)])
        assert await tables.read(SINGLE, (name, 3), limit=5) == [
            Row((), {"data": b"a", "number": 1})
        ]
        await tables.write([Put(SINGLE, (name, 3), (), {"number": 2}, 11)])
        found = await tables.read(SINGLE, (name, 3), limit=1, newest_first=True)
        assert found == [Row((), {"data": b"a", "number": 2})]
        assert await tables.read(SINGLE, (name, 4), limit=1) == []
        await tables.write([Delete(SINGLE, (name, 3), (), (), 11)])
        assert await tables.read(SINGLE, (name, 3), limit=1) == []

    async def test_what_a_reader_changes_is_its_own(self, tables: Tables, name: str) -> None:
        await tables.write([put(name, 1, 10, number=1)])

        async def spoil() -> Value:
            found = await rows(tables, name)
            number = found[0].cells.pop("number")
            found.clear()
            return number

        assert await asyncio.gather(*(spoil() for _ in range(10))) == [1] * 10

    # --- timestamps ---

    @pytest.mark.parametrize("order", list(permutations((10, 20, 30))))
    async def test_the_newest_timestamp_wins_whatever_the_order(
        self, tables: Tables, name: str, order: Sequence[int]
    ) -> None:
        for timestamp in order:
            await tables.write([put(name, 1, timestamp, number=100 - timestamp)])
        assert await rows(tables, name) == [Row((1,), {"number": 70})]

    async def test_each_cell_has_its_own_timestamp(self, tables: Tables, name: str) -> None:
        await tables.write([put(name, 1, 10, number=1, words="a", data=b"a", flag=True)])
        await tables.write([put(name, 1, 30, words="b")])
        await tables.write([put(name, 1, 20, number=2, words="c")])
        cells: dict[str, Value] = {"number": 2, "words": "b", "data": b"a", "flag": True}
        assert await rows(tables, name) == [Row((1,), cells)]

    @pytest.mark.parametrize(
        ("column", "less", "greater"),
        [
            ("number", 1, 2),
            ("number", 255, 256),
            # By their bytes: a negative number is greater.
            ("number", 1, -1),
            ("words", "a", "b"),
            ("words", "a", "aa"),
            ("words", "z", "é"),
            ("words", "\uffff", "\U0001f600"),
            ("data", b"", b"\0"),
            ("data", b"\x7f", b"\x80"),
            ("data", b"a", b"a\0"),
            ("flag", False, True),
        ],
    )
    @pytest.mark.parametrize("turned", [False, True])
    async def test_of_a_tie_the_greater_value_stays(
        self,
        tables: Tables,
        name: str,
        column: str,
        less: Value,
        greater: Value,
        turned: bool,
    ) -> None:
        values = (greater, less) if turned else (less, greater)
        for value in values:
            await tables.write([Put(PLAIN, (name,), (1,), {column: value}, 10)])
        assert await rows(tables, name) == [Row((1,), {column: greater})]

    async def test_of_a_tie_a_deletion_wins(self, tables: Tables, name: str) -> None:
        await tables.write([put(name, 1, 10, number=1), put(name, 2, 10, number=1)])
        await tables.write([erase(name, (1,), (1,), 10)])
        assert await numbers(tables, name) == [2]
        # Also over what comes later.
        await tables.write([put(name, 1, 10, number=2)])
        assert await numbers(tables, name) == [2]
        await tables.write([put(name, 1, 11, number=2)])
        assert await numbers(tables, name) == [1, 2]

    async def test_of_a_tie_in_one_batch_a_deletion_wins(self, tables: Tables, name: str) -> None:
        await tables.write([erase(name, (), (), 10), put(name, 1, 10, number=1)])
        await tables.write([erase(name, (), (), 20), put(name, 2, 21, number=1)])
        assert await numbers(tables, name) == [2]

    async def test_the_same_write_again_changes_nothing(self, tables: Tables, name: str) -> None:
        for _ in range(3):
            await tables.write([put(name, 1, 10, number=1, data=b"a"), erase(name, (2,), (4,), 9)])
        assert await rows(tables, name) == [Row((1,), {"number": 1, "data": b"a"})]

    # --- deletions ---

    async def test_a_range_is_deleted_up_to_its_timestamp(self, tables: Tables, name: str) -> None:
        writes = [put(name, key, timestamp, number=1) for key, timestamp in _LADDER]
        await tables.write(writes)
        await tables.write([erase(name, (2,), (4,), 10)])
        assert await numbers(tables, name) == [1, 3, 5]

    async def test_a_range_is_deleted_before_it_is_written(self, tables: Tables, name: str) -> None:
        await tables.write([erase(name, (2,), (4,), 10)])
        await tables.write([put(name, key, timestamp, number=1) for key, timestamp in _LADDER])
        assert await numbers(tables, name) == [1, 3, 5]

    async def test_deletions_that_overlap(self, tables: Tables, name: str) -> None:
        await tables.write([put(name, key, 10 + key, number=1) for key in range(10)])
        await tables.write([erase(name, (0,), (6,), 13), erase(name, (5,), (9,), 17)])
        await tables.write([erase(name, (8,), (8,), 30), erase(name, (9,), (9,), 5)])
        assert await numbers(tables, name) == [4, 9]

    @pytest.mark.parametrize(
        ("first", "last", "left"),
        [((), (), []), ((3,), (), [1, 2]), ((), (3,), [4, 5]), ((4,), (2,), [1, 2, 3, 4, 5])],
    )
    async def test_bounds_of_deletions(
        self, tables: Tables, name: str, first: Key, last: Key, left: list[int]
    ) -> None:
        await tables.write([put(name, key, 10, number=1) for key in range(1, 6)])
        await tables.write([erase(name, first, last, 10)])
        assert await numbers(tables, name) == left

    async def test_prefixes_of_deletions(self, tables: Tables, name: str) -> None:
        place = (name, 1)
        keys = [(emoji, user_id) for emoji in "abc" for user_id in ("ann", "bob", "cid")]
        await tables.write([Put(PAIRS, place, key, {"number": 1}, 10) for key in keys])
        await tables.write([Delete(PAIRS, place, ("b",), ("b",), 10)])
        await tables.write([Delete(PAIRS, place, ("c", "bob"), ("c",), 10)])
        await tables.write([Delete(PAIRS, place, (), ("a", "ann"), 10)])
        await tables.write([Delete(PAIRS, place, ("a", "cid"), ("a", "cid"), 10)])
        found = await tables.read(PAIRS, place, limit=10)
        assert [row.key for row in found] == [("a", "bob"), ("c", "ann")]

    async def test_none_deletes_a_cell(self, tables: Tables, name: str) -> None:
        await tables.write([put(name, 1, 10, number=1, words="a")])
        await tables.write([unset(PLAIN, (name,), (1,), ["number"], 9)])
        assert await rows(tables, name) == [Row((1,), {"number": 1, "words": "a"})]
        await tables.write([unset(PLAIN, (name,), (1,), ["number"], 10)])
        assert await rows(tables, name) == [Row((1,), {"words": "a"})]
        await tables.write([put(name, 1, 11, number=2)])
        assert await rows(tables, name) == [Row((1,), {"number": 2, "words": "a"})]

    async def test_a_row_of_deleted_cells_is_none(self, tables: Tables, name: str) -> None:
        await tables.write([put(name, key, 10, number=1) for key in (1, 2, 3)])
        await tables.write([unset(PLAIN, (name,), (2,), ["number", "data"], 10)])
        await tables.write([unset(PLAIN, (name,), (4,), list(PLAIN.cells), 10)])
        assert await numbers(tables, name) == [1, 3]
        # Nor does it take the place of another.
        assert await numbers(tables, name, limit=2) == [1, 3]

    # --- batches ---

    async def test_a_batch_over_two_tables(self, tables: Tables, name: str) -> None:
        await tables.write(
            [put(name, 1, 10, number=1), Put(BESIDE, (name,), (1,), {"state": b"s"}, 12)]
        )
        assert await rows(tables, name) == [Row((1,), {"number": 1})]
        found = await tables.read(BESIDE, (name,), limit=10)
        assert found == [Row((1,), {"state": b"s"})]

    async def test_a_batch_is_seen_whole(self, tables: Tables, name: str) -> None:
        async def write() -> None:
            for version in range(1, 40):
                state = {"state": version.to_bytes(2, "big")}
                await tables.write(
                    [
                        *(put(name, key, version, number=version) for key in range(1, 20)),
                        Put(BESIDE, (name,), (1,), state, version),
                    ]
                )

        writing = asyncio.create_task(write())
        while not writing.done():
            found = await rows(tables, name)
            versions = {int(row.cells["number"]) for row in found}
            assert len(versions) <= 1
            assert len(found) in (0, 19)
            beside = await tables.read(BESIDE, (name,), limit=1)
            if versions:
                assert beside[0].cells["state"] >= versions.pop().to_bytes(2, "big")  # type: ignore[operator]
            await asyncio.sleep(0)
        await writing

    async def test_a_large_batch(self, tables: Tables, name: str) -> None:
        data = bytes(8 * KB)
        await tables.write([put(name, key, 10, data=data) for key in range(500)])
        assert await numbers(tables, name) == list(range(500))

    # --- reads ---

    async def test_ranges(self, tables: Tables, name: str) -> None:
        await tables.write([put(name, key, 10, number=1) for key in range(-2, 8)])
        assert await numbers(tables, name) == list(range(-2, 8))
        assert await numbers(tables, name, after=(3,)) == [4, 5, 6, 7]
        assert await numbers(tables, name, to=(0,)) == [-2, -1, 0]
        assert await numbers(tables, name, after=(-1,), to=(2,)) == [0, 1, 2]
        assert await numbers(tables, name, after=(2,), to=(2,)) == []
        assert await numbers(tables, name, after=(5,), to=(2,)) == []
        assert await numbers(tables, name, after=(7,)) == []
        assert await numbers(tables, name, limit=3) == [-2, -1, 0]
        assert await numbers(tables, name, after=(1,), limit=2) == [2, 3]

    async def test_newest_first(self, tables: Tables, name: str) -> None:
        await tables.write([put(name, key, 10, number=1) for key in range(1, 8)])
        assert await numbers(tables, name, newest_first=True, limit=3) == [7, 6, 5]
        assert await numbers(tables, name, newest_first=True, to=(4,), limit=2) == [4, 3]
        assert await numbers(tables, name, newest_first=True, after=(2,), to=(4,)) == [4, 3]

    @pytest.mark.parametrize("newest_first", [False, True])
    async def test_prefixes(self, tables: Tables, name: str, newest_first: bool) -> None:
        place = (name, 1)
        keys = [(emoji, user_id) for emoji in "abc" for user_id in ("ann", "bob", "cid")]
        await tables.write([Put(PAIRS, place, key, {"number": 1}, 10) for key in keys])
        await tables.write([Put(PAIRS, (name, 2), ("b", "dan"), {"number": 1}, 10)])
        for after, to, want in (
            ((), (), keys),
            (("a",), (), keys[3:]),
            ((), ("b",), keys[:6]),
            (("a",), ("b",), keys[3:6]),
            (("a", "bob"), ("b",), keys[2:6]),
            (("a",), ("c", "ann"), keys[3:7]),
            (("a", "bob"), ("c", "ann"), keys[2:7]),
            (("a", "ben"), ("a", "cia"), keys[1:2]),
            (("b",), ("b",), []),
            (("c",), (), []),
        ):
            found = await tables.read(
                PAIRS, place, after=after, to=to, limit=100, newest_first=newest_first
            )
            assert [row.key for row in found] == (want[::-1] if newest_first else want)

    async def test_many_rows(self, tables: Tables, name: str) -> None:
        for start in range(0, 1000, 250):
            await tables.write([put(name, start + key, 10, number=1) for key in range(250)])
        assert await numbers(tables, name, limit=2000) == list(range(1000))
        assert await numbers(tables, name, limit=130) == list(range(130))
        assert await numbers(tables, name, after=(399,), limit=100) == list(range(400, 500))
        found = await numbers(tables, name, limit=500, newest_first=True)
        assert found == list(range(999, 499, -1))

    async def test_a_page_of_large_rows(self, tables: Tables, name: str) -> None:
        data = random.Random(2).randbytes(400 * KB)
        for key in range(60):
            await tables.write([put(name, key, 10, data=data)])
        found = await tables.read(PLAIN, (name,), limit=60)
        assert [row.key for row in found] == [(key,) for key in range(60)]
        assert all(row.cells == {"data": data} for row in found)

    async def test_who_was_acknowledged_is_read(self, tables: Tables, name: str) -> None:
        """A read that begins after a write sees it, whatever reads are under way."""

        async def watch() -> None:
            while not done:
                await rows(tables, name)

        done = False
        watchers = [asyncio.create_task(watch()) for _ in range(4)]
        try:
            for version in range(1, 100):
                await tables.write([put(name, 1, version, number=version)])
                assert await rows(tables, name) == [Row((1,), {"number": version})]
        finally:
            done = True
            await asyncio.gather(*watchers)

    # --- cells for a time ---

    async def test_cells_for_a_time(self, tables: Tables, name: str) -> None:
        await tables.write([Put(FLEETING, (name,), (1,), {"data": b"a"}, 10)])
        assert await tables.read(FLEETING, (name,), limit=5) == [Row((1,), {"data": b"a"})]
        await asyncio.sleep(2.2)
        assert await tables.read(FLEETING, (name,), limit=5) == []

    async def test_of_a_tie_the_longer_life_wins(self, tables: Tables, name: str) -> None:
        await tables.write([Put(FLEETING, (name,), (1,), {"data": b"z"}, 10)])
        await asyncio.sleep(1.1)
        await tables.write([Put(FLEETING, (name,), (1,), {"data": b"a"}, 10)])
        assert await tables.read(FLEETING, (name,), limit=5) == [Row((1,), {"data": b"a"})]

    # --- claims ---

    async def test_a_claim_raises_the_epoch(self, tables: Tables, shard: int) -> None:
        assert await tables.claim(shard, 5, b"one") == (5, b"one")
        assert await tables.claim(shard, 6, b"two") == (6, b"two")
        assert await tables.claim(shard + 1, 1, b"new") == (1, b"new")

    async def test_a_claim_that_is_not_greater_changes_nothing(
        self, tables: Tables, shard: int
    ) -> None:
        assert await tables.claim(shard, 0, b"zero") == (0, b"")
        await tables.claim(shard, 5, b"one")
        assert await tables.claim(shard, 5, b"two") == (5, b"one")
        assert await tables.claim(shard, 4, b"two") == (5, b"one")
        assert await tables.claim(shard, 0, b"two") == (5, b"one")
        assert await tables.claim(shard, 5, b"one") == (5, b"one")
        assert await tables.claim(shard, 6, b"two") == (6, b"two")

    async def test_of_claims_at_once_one_wins(self, tables: Tables, shard: int) -> None:
        nonces = [secrets.token_bytes(8) for _ in range(50)]
        found = await asyncio.gather(*(tables.claim(shard, 5, nonce) for nonce in nonces))
        assert len(set(found)) == 1
        assert found[0][0] == 5
        assert found[0][1] in nonces

    async def test_of_claims_at_once_the_highest_stays(self, tables: Tables, shard: int) -> None:
        await tables.claim(shard, 1, b"first")
        epochs = list(range(2, 22))
        random.Random(3).shuffle(epochs)
        found = await asyncio.gather(
            *(tables.claim(shard, epoch, str(epoch).encode()) for epoch in epochs)
        )
        for epoch, (stored, nonce) in zip(epochs, found, strict=True):
            assert stored >= epoch
            assert nonce == str(stored).encode()
        assert await tables.claim(shard, 1, b"late") == (21, b"21")


# Key and timestamp: within 2 to 4, only what is newer than 10 outlives a deletion at 10.
_LADDER = ((1, 5), (2, 9), (3, 11), (4, 10), (5, 1))
