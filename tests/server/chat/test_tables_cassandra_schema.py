"""How a keyspace is made, brought to a newer version, and refused; and URLs."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Sequence

import pytest

from chinwag_server.chat.cassandra import schema
from chinwag_server.chat.cassandra.address import Address
from chinwag_server.chat.cassandra.migrate import migrate
from chinwag_server.chat.cassandra.tables import CassandraTables
from chinwag_server.chat.sequenced import schema as chat
from chinwag_server.chat.sequenced.tables import Put, Row, Table
from chinwag_server.chat.store import StoreError
from tests.server.chat.cassandra_fixtures import CLUSTER, KEYSPACE, cassandra, quiet
from tests.server.chat.tables_contract import TABLES
from tools.engines.cassandra import DATACENTER, PASSWORD, USER, Cassandra

__all__ = ["cassandra", "quiet"]

NOTES = Table("notes", {"name": str}, {"id": int}, {"words": str})


@pytest.fixture
def url(cassandra: Cassandra) -> str:
    """Of a keyspace that is not made yet."""
    return cassandra.url(f"k{secrets.token_hex(6)}")


async def refusal(url: str, tables: Sequence[Table] = (NOTES,), cluster_id: str = CLUSTER) -> str:
    """Why it cannot be opened."""
    with pytest.raises(StoreError) as caught:
        await CassandraTables(url, tables, cluster_id=cluster_id).open()
    assert PASSWORD + "@" not in str(caught.value)
    return str(caught.value)


# --- migrations ---


async def test_nodes_that_migrate_at_once(url: str) -> None:
    assert "run `chinwag migrate`" in await refusal(url)
    done = await asyncio.gather(*(migrate(url, [NOTES], cluster_id=CLUSTER) for _ in range(4)))
    made = [statement for statements in done for statement in statements if "notes" in statement]
    assert len(made) == 1
    assert await migrate(url, [NOTES], cluster_id=CLUSTER) == []
    tables = CassandraTables(url, [NOTES], cluster_id=CLUSTER)
    await tables.open()
    try:
        await tables.write([Put(NOTES, ("a",), (1,), {"words": "old"}, 10)])
    finally:
        await tables.close()

    # A newer program has more cells, more tables, and keeps them for a time.
    newer = dataclasses.replace(NOTES, cells={**NOTES.cells, "data": bytes}, ttl_s=60)
    more = Table("more", {"name": str}, {}, {"number": int})
    assert "run `chinwag migrate`" in await refusal(url, [newer, more])
    assert len(await migrate(url, [newer, more], cluster_id=CLUSTER)) == 3
    tables = CassandraTables(url, [newer, more], cluster_id=CLUSTER)
    await tables.open()
    try:
        assert await tables.read(newer, ("a",), limit=1) == [Row((1,), {"words": "old"})]
        await tables.write([Put(newer, ("a",), (1,), {"data": b"new"}, 10)])
        found = await tables.read(newer, ("a",), limit=1)
        assert found == [Row((1,), {"words": "old", "data": b"new"})]
    finally:
        await tables.close()


async def test_what_cannot_be_used_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrate(url, [NOTES], cluster_id=CLUSTER)

    text = await refusal(url, cluster_id="cluster-b")
    assert "belongs to cluster cluster-a, this is cluster cluster-b" in text
    with pytest.raises(StoreError, match="belongs to cluster cluster-a"):
        await migrate(url, [NOTES], cluster_id="cluster-b")

    other = dataclasses.replace(NOTES, cells={"words": bytes})
    assert "words should be blob regular -1, it is text" in await refusal(url, [other])
    other = dataclasses.replace(NOTES, clustering={"id": str})
    with pytest.raises(StoreError, match="id should be text clustering 0, it is bigint"):
        await migrate(url, [other], cluster_id=CLUSTER)

    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    assert "run `chinwag migrate`" in await refusal(url)
    await migrate(url, [NOTES], cluster_id=CLUSTER)
    monkeypatch.undo()
    assert "upgrade chinwag" in await refusal(url)
    with pytest.raises(StoreError, match="upgrade chinwag"):
        await migrate(url, [NOTES], cluster_id=CLUSTER)


async def test_the_tables_of_chat(url: str) -> None:
    await migrate(url, chat.ALL, cluster_id=CLUSTER)
    tables = CassandraTables(url, chat.ALL, cluster_id=CLUSTER)
    await tables.open()
    await tables.close()


# --- opening ---


async def test_wrong_credentials(cassandra: Cassandra) -> None:
    url = cassandra.url(KEYSPACE)
    text = await refusal(url.replace(f":{PASSWORD}@", ":wrong@"), TABLES)
    assert "correct user and password in the URL" in text
    text = await refusal(url.replace(f"{USER}:{PASSWORD}@", ""), TABLES)
    assert "correct user and password in the URL" in text


async def test_wrong_places(cassandra: Cassandra) -> None:
    url = cassandra.url(KEYSPACE)
    text = await refusal(url.replace(f"dc={DATACENTER}", "dc=moon"), TABLES)
    assert f"no node is in data centre moon, there is {DATACENTER}" in text
    text = await refusal(url.replace(f":{cassandra.port}", ":1"), TABLES)
    assert "no node can be reached" in text
    text = await refusal("cassandra://nowhere.invalid/chat", TABLES)
    assert "no host of that name" in text


# --- URLs ---


def test_a_url_is_read() -> None:
    address = Address.parse("cassandra://ann:p%40ss%2F@one:9999,10.0.0.2,[::1]:1/chat?dc=x&rf=5")
    assert address == Address(
        (("one", 9999), ("10.0.0.2", 9042), ("::1", 1)), "chat", "ann", "p@ss/", "x", 5
    )
    assert str(address) == "cassandra://one:9999,10.0.0.2:9042,[::1]:1/chat"
    assert "p@ss" not in repr(address)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://one/chat", "not redis://"),
        ("cassandra:///chat", "cannot be read"),
        ("cassandra://one,,two/chat", "cannot be read"),
        ("cassandra://one:port/chat", "cannot be read"),
        ("cassandra://one", "a keyspace is of"),
        ("cassandra://one/Chat", "a keyspace is of"),
        ('cassandra://one/a"b', "a keyspace is of"),
        ("cassandra://one/chat?rf=0", "rf=0 is not from 1 to 9"),
        ("cassandra://one/chat?rf=many", "cannot be read"),
        ("cassandra://one/chat?colour=red", "unknown options colour"),
        ("cassandra://ann:secret@one:port/chat", "cannot be read"),
    ],
)
def test_a_url_that_is_none(url: str, text: str) -> None:
    with pytest.raises(StoreError) as caught:
        Address.parse(url)
    assert text in str(caught.value)
    assert "secret" not in str(caught.value)
