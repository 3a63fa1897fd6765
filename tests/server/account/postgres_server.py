"""PostgreSQL servers and stores in them, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from chinwag_server.account.postgres import PostgresAccountStore, PostgresSettings, driver
from tools.engines.postgres import Postgres

PASSWORD = "pass/word@"
_TABLES = ["users", "sessions", "relations", "blocks", "events", "requests", "chores", "names"]
_TABLES += ["api_keys", "key_requests", "signing_keys", "secrets"]
_numbers = itertools.count()

# Tests do not wait long for what will not come.
QUICK = PostgresSettings(connections=8, connect_s=1.0, statement_s=2.0, patience_s=3.0)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that the server's user may enter; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="chinwag-pg-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        yield folder


@contextmanager
def postgres(*, tls: tuple[Path, Path] | None = None, syncfs: bool = False) -> Iterator[Postgres]:
    """A started server.

    Args:
        syncfs: After a crash it syncs the file system, not each of its files.
    """
    settings = {"recovery_init_sync_method": "syncfs"} if syncfs else {}
    with open_folder() as folder:
        server = Postgres(folder / "primary", password=PASSWORD, tls=tls, settings=settings)
        try:
            server.start()
            yield server
        finally:
            # What it holds is thrown away: no need to write it out.
            server.kill()


@contextmanager
def replica_of(primary: Postgres) -> Iterator[Postgres]:
    """A started streaming replica."""
    with open_folder() as folder:
        server = primary.replica(folder / "replica")
        try:
            server.start()
            yield server
        finally:
            # What it holds is thrown away: no need to write it out.
            server.kill()


@cache
def _kept(config: pytest.Config, **options: Any) -> Postgres:
    """A server for all modules of a run: a fixture that modules import is one for each of them."""
    stack = ExitStack()
    config.add_cleanup(stack.close)
    return stack.enter_context(postgres(**options))


@cache
def _database(server: Postgres) -> str:
    """A database with the store's tables."""
    server.create_database("shared")
    url = server.url("shared")

    async def make() -> None:
        async with opened(url):
            pass

    asyncio.run(make())
    return url


@pytest.fixture(scope="session")
def shared_server(request: pytest.FixtureRequest) -> Postgres:
    """One server for all tests that leave it running."""
    return _kept(request.config)


@pytest.fixture(scope="session")
def shared_url(shared_server: Postgres) -> str:
    """A database with the store's tables; a test empties it before it uses it."""
    return _database(shared_server)


@pytest.fixture(scope="session")
def mortal_server(request: pytest.FixtureRequest) -> Postgres:
    """One server for all tests that kill it, and start it again."""
    return _kept(request.config, syncfs=True)


@pytest.fixture(scope="session")
def mortal_url(mortal_server: Postgres) -> str:
    """As `shared_url`."""
    return _database(mortal_server)


@pytest.fixture
def empty_url(shared_server: Postgres) -> str:
    """A database with nothing in it."""
    name = f"empty{next(_numbers)}"
    shared_server.create_database(name)
    return shared_server.url(name)


@asynccontextmanager
async def opened(
    url: str, *, settings: PostgresSettings = QUICK, **options: Any
) -> AsyncIterator[PostgresAccountStore]:
    """A store, closed at the end."""
    store = PostgresAccountStore(url, settings=settings, **options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[driver.Connection]:
    """A plain connection, with no limits of time of its own."""
    connection = await driver.connect(url, timeout=5.0, settings={}, attributes="any")
    try:
        yield connection
    finally:
        with contextlib.suppress(*driver.FAILURES):
            await connection.close(timeout=2.0)


async def sql(url: str, *statements: str) -> list[driver.Row]:
    """Runs statements; the rows of the last one."""
    async with connected(url) as connection:
        found: list[driver.Row] = []
        for statement in statements:
            found = await connection.fetch(statement)
        return found


async def empty(url: str) -> None:
    """Removes all rows of a store."""
    await sql(url, *(f"DELETE FROM {table}" for table in _TABLES))
