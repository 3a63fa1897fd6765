"""Fixtures: a real Cassandra for the session, and tables in it."""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chinwag_server.chat.cassandra.migrate import migrate
from chinwag_server.chat.cassandra.tables import CassandraTables
from chinwag_server.chat.sequenced.tables import Key
from tests.server.chat.tables_contract import PLAIN, TABLES
from tools.engines.cassandra import Cassandra

CLUSTER = "cluster-a"
KEYSPACE = "contract"


@functools.cache
def _made(folder: Path) -> Cassandra:
    """The one node of a session: each module that imports the fixture has its own copy of it."""
    server = Cassandra(folder, passwords=True)
    server.start()
    asyncio.run(migrate(server.url(KEYSPACE), TABLES, cluster_id=CLUSTER))
    return server


@pytest.fixture(scope="session", autouse=True)
def quiet() -> None:
    """The driver tells of every node it cannot reach, with a trace."""
    logging.getLogger("cassandra").setLevel(logging.CRITICAL)


@pytest.fixture(scope="session")
def cassandra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cassandra]:
    """One node that wants passwords, with the contract's tables in `KEYSPACE`."""
    server = _made(tmp_path_factory.getbasetemp() / "cassandra")
    yield server
    server.stop()


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[CassandraTables]:
    """The contract's tables, open."""
    tables = CassandraTables(url, TABLES, cluster_id=CLUSTER, **options)
    await tables.open()
    try:
        yield tables
    finally:
        await tables.close()


@pytest.fixture
async def tables(cassandra: Cassandra) -> AsyncIterator[CassandraTables]:
    async with opened(cassandra.url(KEYSPACE)) as found:
        yield found


@pytest.fixture
def name() -> str:
    """A partition's, not used before."""
    return secrets.token_hex(8)


async def all_keys(tables: CassandraTables, name: str) -> set[int]:
    """Keys of all rows of a partition of PLAIN, however many."""
    found: set[int] = set()
    after: Key = ()
    while page := await tables.read(PLAIN, (name,), after=after, limit=1000):
        found |= {int(row.key[0]) for row in page}
        after = page[-1].key
    return found
