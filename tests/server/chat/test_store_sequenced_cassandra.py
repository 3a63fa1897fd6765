"""The sequenced chat store over a real Cassandra: the same contract as every chat store's."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from chinwag_server.chat.cassandra.migrate import migrate
from chinwag_server.chat.cassandra.tables import CassandraTables
from chinwag_server.chat.sequenced import schema
from chinwag_server.chat.sequenced.epoch import Epoch
from chinwag_server.chat.sequenced.store import SequencedStore
from chinwag_server.chat.sequenced.tables import Delete, Key, Put, Row, Table
from chinwag_server.clock import SystemClock
from tests.server.chat.cassandra_fixtures import cassandra, quiet
from tests.server.chat.feed_contract import FeedContract
from tests.server.chat.store_contract import (
    EntriesContract,
    MembersContract,
    MessagesContract,
    RequestsContract,
    WritesContract,
)
from tests.server.chat.test_store_sequenced import Always
from tools.engines.cassandra import Cassandra

__all__ = ["cassandra", "quiet"]

KEYSPACE = "sequenced"
CLUSTER = "cluster-a"

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Apart:
    """Tables in which each test has partitions of its own: emptying tables takes seconds.

    The first text of a partition's key, which is a channel, a user or a scope, gets a prefix.
    """

    def __init__(self, tables: CassandraTables) -> None:
        self._tables = tables
        self._prefix = secrets.token_hex(6) + "."

    def _place(self, partition: Key) -> Key:
        if isinstance(partition[0], str):
            return (self._prefix + partition[0], *partition[1:])
        return (int(self._prefix[:12], 16), *partition[1:])

    async def write(self, writes: Sequence[Put | Delete]) -> None:
        await self._tables.write(self._moved(writes))

    def _moved(self, writes: Sequence[Put | Delete]) -> list[Put | Delete]:
        moved: list[Put | Delete] = []
        for write in writes:
            place = self._place(write.partition)
            if isinstance(write, Put):
                moved.append(Put(write.table, place, write.key, write.cells, write.timestamp))
            else:
                moved.append(Delete(write.table, place, write.first, write.last, write.timestamp))
        return moved

    async def write_each(self, batches: Sequence[Sequence[Put | Delete]]) -> None:
        await self._tables.write_each([self._moved(writes) for writes in batches])

    async def read(self, table: Table, partition: Key, **bounds: object) -> list[Row]:
        return await self._tables.read(table, self._place(partition), **bounds)  # type: ignore[arg-type]

    async def claim(self, shard: int, epoch: int, nonce: bytes) -> tuple[int, bytes]:
        return await self._tables.claim(shard, epoch, nonce)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tables(cassandra: Cassandra) -> AsyncIterator[CassandraTables]:
    url = cassandra.url(KEYSPACE)
    await migrate(url, schema.ALL, cluster_id=CLUSTER)
    tables = CassandraTables(url, schema.ALL, cluster_id=CLUSTER)
    await tables.open()
    yield tables
    await tables.close()


@pytest_asyncio.fixture(loop_scope="module")
async def store(tables: CassandraTables) -> AsyncIterator[SequencedStore]:
    epoch = Always()

    def give_up(_epoch: Epoch, why: str) -> None:
        raise AssertionError(f"an epoch was given up without need: {why}")

    store = SequencedStore(
        Apart(tables),
        lambda _channel_id: epoch,
        give_up,
        generation=5,
        clock=SystemClock(),
    )
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def feed_tables(tables: CassandraTables) -> Apart:
    return Apart(tables)


class TestFeed(FeedContract):
    pass


class TestEntries(EntriesContract):
    pass


class TestMessages(MessagesContract):
    pass


class TestMembers(MembersContract):
    pass


class TestRequests(RequestsContract):
    pass


class TestWrites(WritesContract):
    pass
