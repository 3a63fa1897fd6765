"""The account store in PostgreSQL: the contract, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from chinwag_server.account.postgres import PostgresAccountStore
from tests.server.account.postgres_server import (
    empty,
    empty_url,
    opened,
    shared_server,
    shared_url,
)
from tests.server.account.store_contract import StoreContract

__all__ = ["empty_url", "shared_server", "shared_url"]


@pytest.fixture
async def store(shared_url: str) -> AsyncIterator[PostgresAccountStore]:
    await empty(shared_url)
    async with opened(shared_url) as store:
        yield store


class TestPostgresAccountStore(StoreContract):
    """The contract; what only PostgreSQL does follows in other modules."""
