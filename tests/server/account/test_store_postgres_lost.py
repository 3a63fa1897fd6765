"""The store in PostgreSQL where replies are lost: what is stored is never called unstored."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator

import pytest

from chinwag_server.account.postgres import PostgresAccountStore
from chinwag_server.account.records import BlockRecord, NameRecord, UserRecord
from chinwag_server.account.store import Conflict, StoreUnavailable
from tests.server.account.clock import START_US
from tests.server.account.postgres_network import Network, network
from tests.server.account.postgres_server import empty, opened, shared_server, shared_url, sql
from tests.server.account.store_contract import api_key, put, request

__all__ = ["shared_server", "shared_url"]

MINE = NameRecord("ann", "u1", confirmed=False, time_us=START_US)
THEIRS = dataclasses.replace(MINE, user_id="u2")


@pytest.fixture
async def between(shared_url: str) -> AsyncIterator[Network]:
    await empty(shared_url)
    async with network(shared_url) as between:
        yield between


@pytest.fixture
async def store(between: Network) -> AsyncIterator[PostgresAccountStore]:
    """Behind the network that fails."""
    async with opened(between.url) as store:
        yield store


@pytest.fixture
async def other(shared_url: str, between: Network) -> AsyncIterator[PostgresAccountStore]:
    """Another node, whose network is sound."""
    async with opened(shared_url) as store:
        yield store


def block(other_id: str) -> BlockRecord:
    return BlockRecord("ann", other_id, START_US)


@pytest.mark.parametrize("is_new", [True, False])
async def test_the_reply_to_a_commit_is_lost(
    store: PostgresAccountStore, between: Network, is_new: bool
) -> None:
    user = UserRecord("ann") if is_new else await put(store, "ann")
    between.lose_reply(b"COMMIT\0")
    await store.commit(user, [block("bob")])
    assert between.failed
    found = await store.user("ann")
    assert found is not None
    assert found.version == user.version + 1
    assert await store.count_blocks("ann") == 1


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("text", [b"BEGIN\0", b"INTO blocks", b"COMMIT\0"])
async def test_a_request_of_a_commit_is_lost(
    store: PostgresAccountStore, between: Network, is_new: bool, text: bytes
) -> None:
    user = UserRecord("ann") if is_new else await put(store, "ann")
    between.lose_request(text)
    await store.commit(user, [block("bob")])
    assert between.failed
    found = await store.user("ann")
    assert found is not None
    assert found.version == user.version + 1
    assert await store.count_blocks("ann") == 1


@pytest.mark.parametrize("is_new", [True, False])
async def test_somebody_else_commits_in_the_place_of_a_lost_one(
    store: PostgresAccountStore, other: PostgresAccountStore, between: Network, is_new: bool
) -> None:
    user = UserRecord("ann") if is_new else await put(store, "ann")

    async def meanwhile() -> None:
        await other.commit(user, [block("cid")])

    between.lose_request(b"COMMIT\0", meanwhile)
    with pytest.raises(Conflict):
        await store.commit(user, [block("bob")])
    assert [row.other_id for row in await store.blocks("ann", None, 9)] == ["cid"]


@pytest.mark.parametrize("later", [1, 2])
async def test_somebody_else_commits_after_one_whose_reply_was_lost(
    store: PostgresAccountStore, other: PostgresAccountStore, between: Network, later: int
) -> None:
    async def meanwhile() -> None:
        for _ in range(later):
            await put(other, "ann")

    between.lose_reply(b"COMMIT\0", meanwhile)
    # Stored or not: it cannot be told any more, and neither is claimed.
    with pytest.raises(StoreUnavailable, match="not known"):
        await store.commit(UserRecord("ann"), [block("bob")])
    assert await store.count_blocks("ann") == 1


async def test_the_reply_to_a_name_is_lost(store: PostgresAccountStore, between: Network) -> None:
    between.lose_reply(b"INSERT 0 1\0")
    assert await store.put_name(MINE, None)
    confirmed = dataclasses.replace(MINE, confirmed=True)
    between.lose_reply(b"UPDATE 1\0")
    assert await store.put_name(confirmed, MINE)
    assert await store.name("ann") == confirmed
    between.lose_reply(b"DELETE 1\0")
    assert await store.delete_name(confirmed)
    assert await store.name("ann") is None
    assert between.failed


async def test_a_name_goes_to_another_while_a_request_is_lost(
    store: PostgresAccountStore, other: PostgresAccountStore, between: Network
) -> None:
    async def meanwhile() -> None:
        assert await other.put_name(THEIRS, None)

    between.lose_request(b"INTO names", meanwhile)
    assert not await store.put_name(MINE, None)
    assert await store.name("ann") == THEIRS
    assert between.failed


async def test_the_reply_to_anything_else_is_lost(
    store: PostgresAccountStore, between: Network
) -> None:
    between.lose_reply(b"INSERT 0 1\0")
    await store.put_request(request("ann", "r"))
    assert await store.request("ann", "caller", "r") == request("ann", "r")
    between.lose_reply(b"COMMIT\0")
    await store.put_api_key(api_key("k", 1), request("key:k", "r"))
    assert await store.api_key("k") == api_key("k", 1)
    between.lose_reply(b"INSERT 0 1\0")
    assert await store.secret("refresh", b"first") == b"first"
    assert between.failed


async def test_every_connection_is_cut(
    store: PostgresAccountStore, between: Network, shared_url: str
) -> None:
    await put(store, "ann")
    await sql(
        shared_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'chinwag' AND datname = current_database()",
    )
    assert await store.user("ann") is not None
    await put(store, "ann", block("bob"))
    assert await store.count_blocks("ann") == 1
