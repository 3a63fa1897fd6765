"""What all shared rates guarantee. A module with fixtures `make_rates`, which gives nodes' accesses
to one set of buckets, and `pass_time` inherits the class."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from chinwag_server.mesh.rates import SharedRates

MakeRates = Callable[[], SharedRates]
PassTime = Callable[[float], Awaitable[None]]


async def take(rates: SharedRates, key: str, cost: float = 1, burst: float = 5) -> float:
    """From a bucket that gains 10 a second."""
    return await rates.take(key, cost, 10, burst, fail_open=False)


class RatesContract:
    async def test_a_burst_and_then_the_rate(
        self, make_rates: MakeRates, pass_time: PassTime
    ) -> None:
        rates = make_rates()
        assert [await take(rates, "ann") for _ in range(5)] == [0.0] * 5
        assert await take(rates, "ann") == pytest.approx(0.1, abs=0.09)
        await pass_time(0.21)
        assert await take(rates, "ann") == 0.0
        assert await take(rates, "ann") == 0.0
        assert await take(rates, "ann") > 0.0

    async def test_keys_have_buckets_of_their_own(self, make_rates: MakeRates) -> None:
        rates = make_rates()
        assert await take(rates, "ann", cost=5) == 0.0
        assert await take(rates, "ann", cost=5) > 0.0
        assert await take(rates, "bob", cost=5) == 0.0

    async def test_nodes_share_a_bucket(self, make_rates: MakeRates) -> None:
        here, there = make_rates(), make_rates()
        assert await take(here, "ann", cost=3) == 0.0
        assert await take(there, "ann", cost=2) == 0.0
        assert await take(here, "ann") > 0.0
        assert await take(there, "ann") > 0.0

    async def test_what_is_refused_costs_nothing(
        self, make_rates: MakeRates, pass_time: PassTime
    ) -> None:
        rates = make_rates()
        assert await take(rates, "ann", cost=4) == 0.0
        for _ in range(20):
            assert await take(rates, "ann", cost=4) == pytest.approx(0.25, abs=0.15)
        assert await take(rates, "ann", cost=1) == 0.0
        await pass_time(0.45)
        assert await take(rates, "ann", cost=4) == 0.0

    async def test_more_than_a_burst_leaves_a_debt(
        self, make_rates: MakeRates, pass_time: PassTime
    ) -> None:
        rates = make_rates()
        assert await take(rates, "ann", cost=7) == 0.0
        assert await take(rates, "ann", cost=1) == pytest.approx(0.3, abs=0.1)
        await pass_time(0.32)
        assert await take(rates, "ann", cost=1) == 0.0
        assert await take(rates, "ann", cost=7) == pytest.approx(0.5, abs=0.1)

    async def test_many_at_once_share_what_there_is(self, make_rates: MakeRates) -> None:
        nodes = [make_rates() for _ in range(3)]
        waits = await asyncio.gather(
            *(node.take("ann", 1, 1, 50, fail_open=False) for node in nodes for _ in range(100))
        )
        assert waits.count(0.0) == 50
