"""Fixtures of the chat rules' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from chinwag_server.chat.memory import MemoryChatStore
from tests.server.chat.rules import Room


@pytest.fixture
async def memory() -> AsyncIterator[MemoryChatStore]:
    store = MemoryChatStore()
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def room(memory: MemoryChatStore) -> AsyncIterator[Room]:
    room = Room(memory)
    yield room
    await room.room.stop()
