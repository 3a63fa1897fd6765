"""The tables in a real Cassandra of one node: the contract, and what is this adapter's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from chinwag_server.chat.cassandra.tables import MAX_WRITE_BYTES, CassandraTables
from chinwag_server.chat.sequenced.tables import Row, TablesUnavailable
from tests.server.chat.cassandra_fixtures import KEYSPACE, all_keys, cassandra, name, opened, quiet
from tests.server.chat.tables_contract import PLAIN, SINGLE, TablesContract, put, rows
from tools.engines.cassandra import Cassandra

__all__ = ["cassandra", "name", "quiet"]


# One loop, so that tables are opened once.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tables(cassandra: Cassandra) -> AsyncIterator[CassandraTables]:
    async with opened(cassandra.url(KEYSPACE)) as found:
        yield found


class TestCassandraTables(TablesContract):
    pass


# --- one query for many ---


async def test_a_thousand_readers_of_a_page_are_one_query(
    tables: CassandraTables, name: str
) -> None:
    await tables.write([put(name, key, 10, number=key) for key in range(40)])
    await rows(tables, name)
    sent = tables.bridge.sent
    found = await asyncio.gather(*(rows(tables, name) for _ in range(1000)))
    assert tables.bridge.sent == sent + 1
    assert all(len(page) == 40 for page in found)


async def test_readers_who_come_later_get_a_later_query(tables: CassandraTables, name: str) -> None:
    await tables.write([put(name, 1, 10, number=1)])
    await rows(tables, name)
    sent = tables.bridge.sent
    early = asyncio.create_task(rows(tables, name))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert tables.bridge.sent == sent + 1
    late = [asyncio.create_task(rows(tables, name)) for _ in range(100)]
    await asyncio.gather(early, *late)
    assert tables.bridge.sent == sent + 2


async def test_other_reads_are_other_queries(tables: CassandraTables, name: str) -> None:
    await tables.write([put(name, key, 10, number=key) for key in range(5)])
    found = await asyncio.gather(
        tables.read(PLAIN, (name,), limit=5),
        tables.read(PLAIN, (name,), limit=4),
        tables.read(PLAIN, (name,), limit=5, newest_first=True),
        tables.read(PLAIN, (name,), limit=5, after=(1,)),
        tables.read(PLAIN, (name,), limit=5, to=(1,)),
        tables.read(PLAIN, (name + "x",), limit=5),
        tables.read(SINGLE, (name, 1), limit=5),
    )
    assert [[int(row.key[0]) for row in page] for page in found] == [
        [0, 1, 2, 3, 4],
        [0, 1, 2, 3],
        [4, 3, 2, 1, 0],
        [2, 3, 4],
        [0, 1],
        [],
        [],
    ]


async def test_a_reader_who_gives_up_takes_nothing_from_others(
    tables: CassandraTables, name: str
) -> None:
    await tables.write([put(name, 1, 10, number=1)])
    readers = [asyncio.create_task(rows(tables, name)) for _ in range(3)]
    await asyncio.sleep(0)
    readers[0].cancel()
    found = await asyncio.gather(*readers, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [[Row((1,), {"number": 1})]] * 2


# --- bounds ---


async def test_a_cluster_that_stands_still_is_not_waited_for(
    cassandra: Cassandra, name: str
) -> None:
    async with opened(cassandra.url(KEYSPACE), timeout_s=1.0, in_flight=4, waiting=8) as small:
        await small.write([put(name, 1, 10, number=1)])
        await rows(small, name)
        (node,) = cassandra.nodes
        node.freeze()
        try:
            began = time.monotonic()
            outcomes = await asyncio.gather(
                *(small.write([put(name, key, 10, number=1)]) for key in range(50)),
                *(small.read(PLAIN, (name,), limit=1 + key) for key in range(50)),
                return_exceptions=True,
            )
            assert time.monotonic() - began < 2.0
        finally:
            node.thaw()
        assert all(isinstance(outcome, TablesUnavailable) for outcome in outcomes)
        texts = [str(outcome) for outcome in outcomes]
        assert sum("8 requests wait for it already" in text for text in texts) == 100 - 12
        assert sum("time ran out" in text for text in texts) == 8
        # All places are free again.
        deadline = time.monotonic() + 10.0
        while not await _works(small, name):
            assert time.monotonic() < deadline
        for _ in range(5):
            await asyncio.gather(*(rows(small, f"{name}{key}") for key in range(12)))


async def test_callers_who_give_up_free_their_places(cassandra: Cassandra, name: str) -> None:
    async with opened(cassandra.url(KEYSPACE), in_flight=2, waiting=100) as small:
        await rows(small, name)
        for _ in range(10):
            tasks = [
                asyncio.create_task(small.write([put(name, key, 10, number=1)]))
                for key in range(50)
            ]
            await asyncio.sleep(0.003)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        found = await asyncio.gather(*(rows(small, f"{name}{key}") for key in range(50)))
        assert found == [[]] * 50


async def test_too_much_at_once_is_refused(tables: CassandraTables, name: str) -> None:
    half = bytes(MAX_WRITE_BYTES // 2)
    await tables.write([put(name, 1, 10, data=half), put(name, 2, 10, data=half)])
    with pytest.raises(ValueError, match="write it in parts"):
        await tables.write([put(name, 1, 10, data=half), put(name, 2, 10, data=half + b"1")])


async def test_a_cell_that_was_not_declared_is_refused(tables: CassandraTables, name: str) -> None:
    with pytest.raises(ValueError, match="plain has no colour"):
        await tables.write([put(name, 1, 10, colour="red")])


async def test_closed_it_says_so(cassandra: Cassandra, name: str) -> None:
    async with opened(cassandra.url(KEYSPACE)) as found:
        reading = [asyncio.create_task(rows(found, f"{name}{key}")) for key in range(20)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*reading, return_exceptions=True)
    assert all(outcome == [] or isinstance(outcome, TablesUnavailable) for outcome in outcomes)
    with pytest.raises(TablesUnavailable, match="closed"):
        await rows(found, name)
    with pytest.raises(TablesUnavailable, match="closed"):
        await found.write([put(name, 1, 10, number=1)])


# --- a node that goes and comes back ---


@pytest.mark.soak
async def test_what_was_acknowledged_outlives_a_kill(
    cassandra: Cassandra, tables: CassandraTables, name: str
) -> None:
    acknowledged: list[int] = []

    async def write(start: int) -> None:
        for key in range(start, start + 100_000):
            try:
                await tables.write([put(name, key, 10, number=key)])
            except TablesUnavailable:
                return
            acknowledged.append(key)

    writing = [asyncio.create_task(write(start)) for start in range(0, 1_600_000, 100_000)]
    await asyncio.sleep(1.0)
    (node,) = cassandra.nodes
    await asyncio.to_thread(node.kill)
    await asyncio.wait_for(asyncio.gather(*writing), 8.0)
    assert len(acknowledged) > 100
    with pytest.raises(TablesUnavailable):
        await rows(tables, name)
    await asyncio.to_thread(node.start)
    deadline = time.monotonic() + 15.0
    while not await _works(tables, name):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert set(acknowledged) <= await all_keys(tables, name)


async def test_claims_of_two_nodes(cassandra: Cassandra, tables: CassandraTables) -> None:
    async with opened(cassandra.url(KEYSPACE)) as other:
        shard = time.time_ns()
        found = await asyncio.gather(
            *(tables.claim(shard, 7, b"a") for _ in range(10)),
            *(other.claim(shard, 7, b"b") for _ in range(10)),
        )
        assert set(found) in ({(7, b"a")}, {(7, b"b")})


async def _works(tables: CassandraTables, name: str) -> bool:
    try:
        await rows(tables, name)
    except TablesUnavailable:
        return False
    return True
