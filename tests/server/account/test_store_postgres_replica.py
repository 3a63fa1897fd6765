"""The store in PostgreSQL with a streaming replica: what goes there, and when it does not."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from chinwag_server.account.postgres import PostgresAccountStore
from chinwag_server.account.records import BlockRecord, RelationRecord, RelationState
from chinwag_server.account.store import StoreError
from tests.server.account.clock import START_US
from tests.server.account.postgres_network import Network, network
from tests.server.account.postgres_server import (
    QUICK,
    empty,
    mortal_server,
    mortal_url,
    opened,
    replica_of,
    shared_server,
    shared_url,
    sql,
)
from tests.server.account.store_contract import api_key, put
from tools.engines.postgres import Postgres

__all__ = ["mortal_server", "mortal_url", "shared_server", "shared_url"]

# A second is long for two servers side by side, and short for who waits for it to pass.
SETTINGS = dataclasses.replace(QUICK, replica_lag_s=1.0)
FRIEND = RelationState.FRIEND


@pytest.fixture(scope="module")
def replica(mortal_server: Postgres, mortal_url: str) -> Iterator[Postgres]:
    with replica_of(mortal_server) as server:
        yield server


@pytest.fixture
async def way(replica: Postgres, mortal_url: str) -> AsyncIterator[Network]:
    """The network in front of the replica, which sees what it is asked."""
    await empty(mortal_url)
    async with network(replica.url("shared")) as way:
        yield way


@pytest.fixture
async def store(mortal_url: str, way: Network) -> AsyncIterator[PostgresAccountStore]:
    async with opened(mortal_url, replica_url=way.url, settings=SETTINGS) as store:
        yield store


@pytest.fixture
async def other(mortal_url: str, way: Network) -> AsyncIterator[PostgresAccountStore]:
    """Another node, which knows no replica."""
    async with opened(mortal_url) as store:
        yield store


def block(other_id: str) -> BlockRecord:
    return BlockRecord("ann", other_id, START_US)


async def blocked(store: PostgresAccountStore) -> list[str]:
    return [row.other_id for row in await store.blocks("ann", None, 99)]


async def comes_to(done: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(500):
        if await done():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it does not come to that")


async def asks_the_replica(store: PostgresAccountStore, way: Network) -> None:
    """Waits until a list of somebody whom nobody changes is read there."""

    async def asked() -> bool:
        way.asked.clear()
        await store.blocks("nobody", None, 9)
        return b"nobody" in way.asked

    await comes_to(asked)


async def test_lists_go_to_the_replica(
    store: PostgresAccountStore, other: PostgresAccountStore, way: Network
) -> None:
    friend = RelationRecord("ann", "bob", FRIEND, 1, START_US)
    ann = await put(other, "ann", block("cid"), friend)
    await other.put_api_key(api_key("k", 1))
    await asks_the_replica(store, way)
    await asyncio.sleep(SETTINGS.replica_lag_s)
    await asks_the_replica(store, way)
    reads: list[tuple[bytes, Callable[[], Awaitable[object]], object]] = [
        (b"ann", lambda: store.blocks("ann", None, 9), [block("cid")]),
        (b"FROM api_keys", lambda: store.api_keys(START_US, None, 9), [api_key("k", 1)]),
        (
            b"FROM relations",
            lambda: store.relations("ann", [FRIEND], None, 9, may_be_old=True),
            [friend],
        ),
        (b"FROM users", lambda: store.users(["ann"], may_be_old=True), {"ann": ann}),
    ]
    for text, read, found in reads:
        way.asked.clear()
        assert await read() == found
        assert text in way.asked


async def test_what_decides_never_goes_there(store: PostgresAccountStore, way: Network) -> None:
    await put(store, "ann", block("cid"))
    await asks_the_replica(store, way)
    way.asked.clear()
    await store.user("ann")
    await store.users(["ann"])
    await store.session("ann", "d")
    await store.sessions("ann")
    await store.relation("ann", "bob")
    await store.relations("ann", [FRIEND], None, 9)
    await store.count_relations("ann", [FRIEND])
    await store.block("ann", "cid")
    await store.count_blocks("ann")
    await store.events("ann", 0, 9)
    await store.request("ann", "caller", "r")
    await store.name("ann")
    await store.api_key("k")
    await store.count_api_keys(START_US)
    await store.signing_keys()
    assert b" FROM " not in way.asked.replace(b" FROM chinwag", b"")


async def test_who_changes_something_sees_it(
    store: PostgresAccountStore, way: Network, replica: Postgres
) -> None:
    await asks_the_replica(store, way)
    for number in range(30):
        await put(store, "ann", block(f"u{number}"))
        assert len(await blocked(store)) == number + 1
        await store.put_api_key(api_key(f"k{number}", number))
        assert len(await store.api_keys(START_US, None, 99)) == number + 1
    # Also if the replica stands still; others' lists are read there until it is too old.
    await sql(replica.url(), "SELECT pg_wal_replay_pause()")
    try:
        await put(store, "ann", block("last"))
        assert "last" in await blocked(store)
    finally:
        await sql(replica.url(), "SELECT pg_wal_replay_resume()")


async def test_who_has_heard_of_a_change_sees_it(
    store: PostgresAccountStore, other: PostgresAccountStore, way: Network, replica: Postgres
) -> None:
    await asks_the_replica(store, way)
    await sql(replica.url(), "SELECT pg_wal_replay_pause()")
    try:
        await put(other, "ann", block("bob"))
        assert await blocked(store) == []  # it may be old
        store.changed_elsewhere("ann")
        assert await blocked(store) == ["bob"]
    finally:
        await sql(replica.url(), "SELECT pg_wal_replay_resume()")


async def test_a_replica_that_lags_is_not_asked(
    store: PostgresAccountStore, other: PostgresAccountStore, way: Network, replica: Postgres
) -> None:
    await asks_the_replica(store, way)
    await sql(replica.url(), "SELECT pg_wal_replay_pause()")
    try:
        await put(other, "ann", block("bob"))
        # It may be old, but not older than this.
        await asyncio.sleep(SETTINGS.replica_lag_s + 0.1)
        assert await blocked(store) == ["bob"]
        way.asked.clear()
        assert await blocked(store) == ["bob"]
        assert b"ann" not in way.asked
    finally:
        await sql(replica.url(), "SELECT pg_wal_replay_resume()")
    await asks_the_replica(store, way)
    assert await blocked(store) == ["bob"]


async def test_an_idle_primary_makes_no_replica_old(
    store: PostgresAccountStore, way: Network
) -> None:
    await asks_the_replica(store, way)
    for _ in range(10):
        await asyncio.sleep(SETTINGS.replica_lag_s / 5)
        way.asked.clear()
        await store.blocks("nobody", None, 9)
        assert b"nobody" in way.asked


async def test_a_replica_that_is_lost_is_not_missed(
    store: PostgresAccountStore, way: Network, replica: Postgres
) -> None:
    await put(store, "ann", block("bob"))
    await asks_the_replica(store, way)
    await asyncio.to_thread(replica.kill)
    try:
        for _ in range(20):
            assert await blocked(store) == ["bob"]
            await asyncio.sleep(0.01)
    finally:
        await asyncio.to_thread(replica.start)
    await asks_the_replica(store, way)
    assert await blocked(store) == ["bob"]


async def test_a_replica_that_is_frozen_is_asked_once(
    store: PostgresAccountStore, way: Network, replica: Postgres
) -> None:
    await put(store, "ann", block("bob"))
    await asks_the_replica(store, way)
    replica.freeze()
    try:
        async with asyncio.timeout(4):
            for _ in range(50):
                assert await blocked(store) == ["bob"]
    finally:
        replica.thaw()
    await asks_the_replica(store, way)


async def test_a_replica_of_another_store_is_not_asked(
    shared_url: str, way: Network, caplog: pytest.LogCaptureFixture
) -> None:
    await empty(shared_url)
    async with opened(shared_url, replica_url=way.url, settings=SETTINGS) as store:
        await put(store, "ann", block("bob"))
        for _ in range(15):
            assert await blocked(store) == ["bob"]
            await asyncio.sleep(0.1)
        assert b"ann" not in way.asked
    # Said once.
    (said,) = [record for record in caplog.records if record.name.endswith("postgres.replica")]
    assert "led to another store" in said.getMessage()


async def test_a_primary_is_no_replica(mortal_url: str, way: Network) -> None:
    async with network(mortal_url) as wrong:
        async with opened(mortal_url, replica_url=wrong.url, settings=SETTINGS) as store:
            for _ in range(10):
                assert await blocked(store) == []
                await asyncio.sleep(0.1)
        assert b"pg_last_wal_replay_lsn" in wrong.asked
        assert b"ann" not in wrong.asked


async def test_a_replica_that_is_away_at_the_start_is_no_hindrance(
    mortal_url: str, replica: Postgres, way: Network
) -> None:
    await asyncio.to_thread(replica.stop)
    try:
        async with opened(mortal_url, replica_url=way.url, settings=SETTINGS) as store:
            await put(store, "ann", block("bob"))
            assert await blocked(store) == ["bob"]
            await asyncio.to_thread(replica.start)
            await asks_the_replica(store, way)
    finally:
        if not replica.running:
            await asyncio.to_thread(replica.start)


async def test_a_url_of_a_replica_that_is_none_is_refused(mortal_url: str, way: Network) -> None:
    with pytest.raises(StoreError, match="expected a URL"):
        async with opened(mortal_url, replica_url="redis://127.0.0.1"):
            pass


async def test_a_replica_alone_is_refused(replica: Postgres, way: Network) -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        async with opened(replica.url("shared")):
            pass
