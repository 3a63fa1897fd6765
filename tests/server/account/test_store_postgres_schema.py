"""Opening the store in PostgreSQL, its migrations, and how its rows are split."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chinwag_server.account.postgres import PostgresAccountStore
from chinwag_server.account.postgres.schema import SCHEMA_VERSION
from chinwag_server.account.postgres.tables import PARTITIONS, partitions
from chinwag_server.account.records import (
    BlockRecord,
    ChoreRecord,
    DeleteBlock,
    EraseRows,
    EventRecord,
    NameRecord,
    RelationRecord,
    RelationState,
    SessionRecord,
    TrimEvents,
    UserRecord,
    Write,
)
from chinwag_server.account.store import StoreError, StoreUnavailable
from tests.server.account.clock import START_US
from tests.server.account.postgres_server import (
    QUICK,
    connected,
    empty,
    empty_url,
    opened,
    postgres,
    shared_server,
    shared_url,
    sql,
)
from tests.server.account.store_contract import put, request
from tests.server.rpc import certificates
from tools.engines.postgres import Postgres
from tools.engines.process import free_port

__all__ = ["empty_url", "shared_server", "shared_url"]

ROOT = Path(__file__).parents[3]
OF_USERS = ("users", "sessions", "relations", "blocks", "events", "requests", "chores")


# --- opening ---


async def test_many_nodes_make_the_tables_at_once(empty_url: str) -> None:
    stores = [PostgresAccountStore(empty_url, settings=QUICK, cluster_id="blue") for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    assert len({store.generation for store in stores}) == 1
    assert {store.cluster_id for store in stores} == {"blue"}
    assert stores[0].generation > 0
    await put(stores[0], "ann", BlockRecord("ann", "bob", START_US))
    assert await stores[3].count_blocks("ann") == 1
    await asyncio.gather(*(store.close() for store in stores))
    async with opened(empty_url) as store:
        assert store.generation == stores[0].generation
        assert await store.count_blocks("ann") == 1


@asynccontextmanager
async def changed(url: str, column: str, value: object) -> AsyncIterator[None]:
    """Another value in the store's row about itself, for a while."""
    ((old,),) = await sql(url, f"SELECT quote_literal({column}) FROM chinwag")
    await sql(url, f"UPDATE chinwag SET {column} = {value}")
    try:
        yield
    finally:
        await sql(url, f"UPDATE chinwag SET {column} = {old}")


async def refused(url: str, cluster_id: str = "") -> str:
    """What an operator is told when a store cannot be opened."""
    with pytest.raises(StoreError) as caught:
        async with opened(url, cluster_id=cluster_id):
            pass
    assert "pass/word" not in str(caught.value)
    assert "pass%2Fword" not in str(caught.value)
    return str(caught.value)


async def test_what_is_in_the_way_is_said(shared_server: Postgres) -> None:
    assert "check the user and the password" in await refused(
        shared_server.url(password="pass/word?")
    )
    assert "make the database" in await refused(shared_server.url("nowhere"))
    nobody = f"postgresql://postgres:pass%2Fword@127.0.0.1:{free_port()}/postgres"
    assert "check that the server runs" in await refused(nobody)
    assert "expected a URL" in await refused("mysql://127.0.0.1/x")
    assert "check that the server runs" in await refused("postgresql://127.0.0.1:x/y")


async def test_a_frozen_server_does_not_hold_up_the_start() -> None:
    with postgres() as server:
        server.freeze()
        try:
            async with asyncio.timeout(QUICK.connect_s + 2):
                assert "no answer in time" in await refused(server.url())
        finally:
            server.thaw()


async def test_a_newer_schema_is_refused(shared_url: str) -> None:
    async with changed(shared_url, "schema_version", SCHEMA_VERSION + 1):
        assert "newer chinwag" in await refused(shared_url)


async def test_tables_of_another_program_are_refused(empty_url: str) -> None:
    await sql(empty_url, "CREATE TABLE users (id int)")
    assert "another program" in await refused(empty_url)
    assert await sql(empty_url, "SELECT to_regclass('chinwag')") == [(None,)]


async def test_each_cluster_has_a_database_of_its_own(shared_url: str) -> None:
    async with changed(shared_url, "cluster_id", "'blue'"):
        assert "'blue'" in await refused(shared_url, cluster_id="green")
        for cluster_id in ("blue", ""):
            async with opened(shared_url, cluster_id=cluster_id) as store:
                assert store.cluster_id == "blue"


async def test_a_connection_that_leads_to_another_store_is_not_used(shared_url: str) -> None:
    async with opened(shared_url) as store:
        async with changed(shared_url, "generation", 5):
            with pytest.raises(StoreUnavailable, match="another store"):
                await store.user("nobody")
        assert await store.user("nobody") is None


async def test_a_database_that_forgets_is_refused(empty_url: str) -> None:
    name = empty_url.rpartition("/")[2]
    await sql(empty_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    assert "synchronous_commit = off" in await refused(empty_url)


async def test_a_user_without_rights_over_tables_that_are_there(
    shared_server: Postgres, shared_url: str, empty_url: str
) -> None:
    await sql(shared_url, "CREATE ROLE clerk LOGIN PASSWORD 'x'")
    without = shared_server.url(empty_url.rpartition("/")[2], user="clerk", password="x")
    assert "let the user own" in await refused(without)
    url = shared_server.url("shared", user="clerk", password="x")
    assert "let the user own" in await refused(url)
    rights = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"
    await sql(shared_url, f"GRANT {rights} TO clerk")
    await empty(shared_url)
    async with opened(url) as store:
        await put(store, "ann")


async def test_over_tls(tmp_path: Path) -> None:
    files = certificates.make(tmp_path, "server")
    with postgres(tls=(files.cert, files.key)) as server:
        url = f"{server.url()}?sslmode=verify-full&sslrootcert={files.cert}"
        async with opened(url) as store:
            await put(store, "ann")
        foreign = certificates.make(tmp_path, "foreign")
        text = await refused(f"{server.url()}?sslmode=verify-full&sslrootcert={foreign.cert}")
        assert "certificate verify failed" in text
        assert "check the user" in await refused(f"{server.url()}?sslmode=disable")


# --- how rows are split ---


@pytest.fixture
async def store(shared_url: str) -> AsyncIterator[PostgresAccountStore]:
    await empty(shared_url)
    async with opened(shared_url) as store:
        yield store


async def test_the_tables_are_split_by_hash(shared_url: str) -> None:
    split = await sql(
        shared_url,
        "SELECT c.relname, p.partstrat, pg_get_partkeydef(c.oid), "
        "(SELECT count(*) FROM pg_inherits i WHERE i.inhparent = c.oid) "
        "FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid",
    )
    strategies = {name: (strategy, key, count) for name, strategy, key, count in split}
    by_user = (b"h", "HASH (user_id)", PARTITIONS)
    assert strategies == {
        **dict.fromkeys(OF_USERS, by_user),
        "names": (b"h", "HASH (name)", PARTITIONS),
    }


async def test_partitions_of_one_number_hold_the_same_users(
    store: PostgresAccountStore, shared_url: str
) -> None:
    for number in range(100):
        user_id = f"u{number}"
        await put(store, user_id, SessionRecord(user_id, "d"), *writes_of(user_id))
    numbers = {}
    for table in OF_USERS:
        found = await sql(shared_url, f"SELECT user_id, tableoid::regclass::text FROM {table}")
        numbers[table] = {user_id: name.rpartition("_p")[2] for user_id, name in found}
    assert len(numbers["users"]) == 100
    assert len(set(numbers["users"].values())) > PARTITIONS / 2
    for table in OF_USERS:
        assert numbers[table] == numbers["users"]
    # The formula in docs/scale.md, by which a node finds a user's partition by itself.
    found = await sql(shared_url, f"SELECT user_id, ({documented_formula()}) FROM users")
    assert {user_id: f"{number:02}" for user_id, number in found} == numbers["users"]


def documented_formula() -> str:
    page = (ROOT / "docs" / "scale.md").read_text()
    formula = re.search(r"```sql\n(.*?)```", page, re.DOTALL)
    assert formula
    return formula[1].replace("'ann'", "user_id")


def writes_of(user_id: str) -> list[Write]:
    """One of each kind, but for erasing and sessions."""
    return [
        RelationRecord(user_id, "other", RelationState.FRIEND, 1, START_US),
        BlockRecord(user_id, "other", START_US),
        BlockRecord(user_id, "gone", START_US),
        DeleteBlock(user_id, "gone"),
        EventRecord(user_id, 1, START_US, b""),
        EventRecord(user_id, 2, START_US, b""),
        TrimEvents(user_id, 1),
        request(user_id, "r"),
        ChoreRecord(user_id, "mirror", "other", 1, START_US),
    ]


async def test_nothing_that_is_done_for_a_user_touches_another_partition(
    store: PostgresAccountStore, shared_url: str
) -> None:
    await put(store, "ann")
    await put(store, "bob")
    found = await sql(shared_url, "SELECT user_id, tableoid::regclass::text FROM users")
    names = dict(map(tuple, found))
    number = names["ann"].rpartition("_p")[2]
    assert names["bob"] != names["ann"]
    others = [
        name for table in OF_USERS for name in partitions(table) if not name.endswith(f"_p{number}")
    ]
    async with connected(shared_url) as holder:
        await holder.execute("BEGIN")
        # Whoever as much as reads one of them has to wait.
        await holder.execute(f"LOCK TABLE ONLY {', ONLY '.join(others)} IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(QUICK.statement_s):
            ann = await put(store, "ann", SessionRecord("ann", "d"), *writes_of("ann"))
            assert await store.users(["ann"]) == {"ann": ann}
            assert await store.session("ann", "d") is not None
            assert len(await store.sessions("ann")) == 1
            assert (await store.relation("ann", "other")).revision == 1
            assert len(await store.relations("ann", [RelationState.FRIEND], None, 9)) == 1
            assert await store.count_relations("ann", [RelationState.FRIEND]) == 1
            assert await store.block("ann", "other") is not None
            assert len(await store.blocks("ann", None, 9)) == 1
            assert await store.count_blocks("ann") == 1
            assert [event.id for event in await store.events("ann", 0, 9)] == [2]
            assert await store.request("ann", "caller", "r") is not None
            await store.put_request(request("ann", "r2"))
            chore = ChoreRecord("ann", "mirror", "other", 1, START_US)
            await store.put_off_chore(chore, START_US + 1)
            await store.finish_chore(chore)
            await put(store, "ann", EraseRows("ann"))
        with pytest.raises(StoreUnavailable):
            await store.commit(UserRecord("bob", version=1))
        await holder.execute("ROLLBACK")
    await store.commit(UserRecord("bob", version=1))


async def test_nothing_that_is_done_for_a_name_touches_another_partition(
    store: PostgresAccountStore, shared_url: str
) -> None:
    name = NameRecord("ann", "u", confirmed=False, time_us=START_US)
    assert await store.put_name(name, None)
    ((own,),) = await sql(shared_url, "SELECT tableoid::regclass::text FROM names")
    others = [table for table in partitions("names") if table != own]
    async with connected(shared_url) as holder:
        await holder.execute("BEGIN")
        await holder.execute(f"LOCK TABLE ONLY {', ONLY '.join(others)} IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(QUICK.statement_s):
            assert await store.name("ann") == name
            later = NameRecord("ann", "u", confirmed=True, time_us=START_US)
            assert await store.put_name(later, name)
            assert await store.delete_name(later)
            assert await store.put_name(name, None)
        await holder.execute("ROLLBACK")


async def test_texts_with_nul(store: PostgresAccountStore) -> None:
    """PostgreSQL's own texts have none; clients may send them all the same."""
    relation = RelationRecord("ann", "bob", RelationState.REQUESTED_BY_ME, 1, START_US, "a\0b")
    await put(store, "ann", relation, request("ann", "r\0"))
    assert await store.relation("ann", "bob") == relation
    assert await store.request("ann", "caller", "r\0") == request("ann", "r\0")
    assert await store.user("\0") is None
    assert set(await store.users(["ann", "ann\0"])) == {"ann"}
    assert await store.session("ann", "\0") is None
    assert (await store.relation("ann", "\0")).revision == 0
    assert await store.name("\0") is None
    assert await store.count_blocks("\0") == 0
