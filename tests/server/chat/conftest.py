"""Fixtures of the chat rules' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from chinwag_server.chat.memory import MemoryChatStore
from tests.server.chat.routed.nodes import Anywhere, Nodes
from tests.server.chat.rules import FakeClock, Room, Settling


@pytest.fixture
async def memory() -> AsyncIterator[MemoryChatStore]:
    store = MemoryChatStore()
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def alone(memory: MemoryChatStore) -> AsyncIterator[Room]:
    """A room of one process, for what looks into it."""
    room = Room(memory)
    yield room
    await room.room.stop()


@pytest.fixture(params=["alone", "mesh"])
async def room(
    request: pytest.FixtureRequest, alone: Room, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Room]:
    """A room that is alone, and one of three nodes: the same holds for both."""
    if request.param == "alone":
        yield alone
        return
    monkeypatch.setattr(Settling, "seconds", 0.1)
    mesh = Nodes(clock=FakeClock())
    await mesh.start()
    yield Anywhere(mesh)
    await mesh.stop()
