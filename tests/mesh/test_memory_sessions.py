"""The in-memory sessions keep the contract."""

from __future__ import annotations

import pytest

from chinwag_server.mesh.memory_sessions import MemorySessions
from chinwag_server.mesh.unavailable import Unavailable
from tests.mesh.sessions_contract import LIFE_S, PassTime, SessionsContract, Wipe
from tests.server.account.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def sessions(clock: FakeClock) -> MemorySessions:
    return MemorySessions(clock, life_s=60)


@pytest.fixture
def brief_sessions(clock: FakeClock) -> MemorySessions:
    return MemorySessions(clock, life_s=LIFE_S)


@pytest.fixture
def pass_time(clock: FakeClock) -> PassTime:
    async def pass_time(seconds: float) -> None:
        clock.advance(seconds)

    return pass_time


@pytest.fixture
def wipe(sessions: MemorySessions) -> Wipe:
    async def wipe() -> None:
        sessions.wipe()

    return wipe


class TestMemorySessions(SessionsContract):
    pass


async def test_while_they_are_away_every_call_fails(sessions: MemorySessions) -> None:
    sessions.away = True
    for call in (
        sessions.refresh("n1"),
        sessions.add("ann", "phone", "n1"),
        sessions.restore("n1", [("ann", "phone")]),
        sessions.nodes_of(["ann"]),
    ):
        with pytest.raises(Unavailable):
            await call
