"""The sequenced chat store over tables in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from chinwag_server.chat.sequenced.epoch import Epoch
from chinwag_server.chat.sequenced.memory import MemoryTables
from chinwag_server.chat.sequenced.store import SequencedStore
from chinwag_server.clock import SystemClock
from tests.server.chat.store_contract import (
    EntriesContract,
    MembersContract,
    MessagesContract,
    RequestsContract,
    WritesContract,
)


class Always:
    """An epoch that lasts."""

    shard = 1
    number = 7

    def alive(self) -> bool:
        return True


@pytest.fixture
async def store() -> AsyncIterator[SequencedStore]:
    epoch = Always()

    def give_up(_epoch: Epoch, why: str) -> None:
        raise AssertionError(f"an epoch was given up without need: {why}")

    store = SequencedStore(
        MemoryTables(), lambda _channel_id: epoch, give_up, generation=5, clock=SystemClock()
    )
    await store.open()
    yield store
    await store.close()


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
