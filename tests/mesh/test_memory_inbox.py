"""The in-memory inbox keeps the contract."""

from __future__ import annotations

import pytest

from chinwag_server.mesh.memory_inbox import InboxServer, MemoryInbox
from chinwag_server.mesh.unavailable import Unavailable
from tests.mesh.inbox_contract import Agreement, InboxContract, MakeInbox, Wipe, all_since
from tests.server.account.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def server(clock: FakeClock) -> InboxServer:
    return InboxServer(clock)


@pytest.fixture
def agreement() -> Agreement:
    return Agreement()


@pytest.fixture
def make_inbox(server: InboxServer, agreement: Agreement) -> MakeInbox:
    def make(**settings: int) -> MemoryInbox:
        return MemoryInbox(server, agreement.raise_generation, **settings)

    return make


@pytest.fixture
def wipe(server: InboxServer) -> Wipe:
    async def wipe() -> None:
        server.wipe()

    return wipe


class TestMemoryInbox(InboxContract):
    pass


async def test_a_fail_over_is_noticed(
    server: InboxServer, clock: FakeClock, make_inbox: MakeInbox
) -> None:
    inbox = make_inbox()
    stamp = await inbox.now()
    await inbox.touch(["ann"], "c1")
    clock.advance(1)
    await inbox.touch(["ann"], "c2")
    server.fail_over(500_000)
    changes = await inbox.changed_since("ann", stamp, 10)
    assert not changes.complete
    assert changes.stamp.generation > stamp.generation


async def test_a_clock_that_is_set_back(clock: FakeClock, make_inbox: MakeInbox) -> None:
    inbox = make_inbox()
    stamp = await inbox.now()
    clock.advance(-3600)
    await inbox.touch(["ann"], "c1")
    assert await all_since(inbox, "ann", stamp, 10) == ["c1"]


async def test_while_it_is_away_every_call_fails(
    server: InboxServer, make_inbox: MakeInbox
) -> None:
    inbox = make_inbox()
    stamp = await inbox.now()
    server.away = True
    for call in (inbox.touch(["ann"], "c1"), inbox.changed_since("ann", stamp, 1), inbox.now()):
        with pytest.raises(Unavailable):
            await call
