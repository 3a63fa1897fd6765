"""The in-memory rates keep the contract."""

from __future__ import annotations

import pytest

from chinwag_server.mesh.memory_rates import MemoryRates
from chinwag_server.mesh.unavailable import Unavailable
from tests.mesh.rates_contract import MakeRates, PassTime, RatesContract, take
from tests.server.account.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def rates(clock: FakeClock) -> MemoryRates:
    return MemoryRates(clock)


@pytest.fixture
def make_rates(rates: MemoryRates) -> MakeRates:
    return lambda: rates


@pytest.fixture
def pass_time(clock: FakeClock) -> PassTime:
    async def pass_time(seconds: float) -> None:
        clock.advance(seconds)

    return pass_time


class TestMemoryRates(RatesContract):
    pass


async def test_while_they_are_away(rates: MemoryRates) -> None:
    rates.away = True
    with pytest.raises(Unavailable):
        await take(rates, "ann")
    assert await rates.take("ann", 1, 10, 5, fail_open=True) == 0.0


async def test_there_are_only_so_many_buckets(clock: FakeClock) -> None:
    rates = MemoryRates(clock, max_keys=2)
    for key in ("ann", "bob", "cid"):
        assert await take(rates, key, cost=5) == 0.0
    assert await take(rates, "cid", cost=5) > 0.0
    assert await take(rates, "ann", cost=5) == 0.0
