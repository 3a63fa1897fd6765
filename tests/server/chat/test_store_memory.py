"""The in-memory chat store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from chinwag_server.chat.memory import MemoryChatStore
from chinwag_server.chat.store import StoreUnavailable
from tests.server.chat.store_contract import StoreContract
from tests.server.chat.store_writes import Author, commit


@pytest.fixture
async def store() -> AsyncIterator[MemoryChatStore]:
    store = MemoryChatStore()
    await store.open()
    yield store
    await store.close()


class TestMemoryChatStore(StoreContract):
    async def test_told_to_fail_it_stores_nothing(self, store: MemoryChatStore) -> None:
        store.failing = True
        with pytest.raises(StoreUnavailable):
            await commit(store, Author("c").create())
        store.failing = False
        await commit(store, Author("c").create())

    async def test_a_delay_holds_the_answer_back(self, store: MemoryChatStore) -> None:
        store.delay = 0.05
        started = asyncio.get_running_loop().time()
        await commit(store, Author("c").create())
        assert asyncio.get_running_loop().time() - started >= 0.04
