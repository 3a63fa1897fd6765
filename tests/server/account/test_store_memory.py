"""The in-memory account store."""

from __future__ import annotations

import pytest

from chinwag_server.account.memory import MemoryAccountStore
from chinwag_server.account.records import UserRecord
from chinwag_server.account.store import StoreUnavailable
from tests.server.account.store_contract import StoreContract


@pytest.fixture
def store() -> MemoryAccountStore:
    return MemoryAccountStore()


class TestMemoryAccountStore(StoreContract):
    async def test_broken_it_stores_nothing(self, store: MemoryAccountStore) -> None:
        store.broken = True
        with pytest.raises(StoreUnavailable):
            await store.commit(UserRecord("ann"))
        store.broken = False
        assert await store.user("ann") is None
