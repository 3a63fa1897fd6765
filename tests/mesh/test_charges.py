"""One rate over many nodes, each of which decides alone."""

from __future__ import annotations

import pytest

from chinwag_server.mesh.charges import EVERY_S, MAX_OWED, Charges
from chinwag_server.mesh.memory_rates import MemoryRates
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.ratelimit import Limiter, Rate

ANN = Caller("ann", address="9.9.9.9")
RATE, BURST = 20.0, 40.0


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time_us(self) -> int:
        return 0


class Mesh:
    """Nodes that limit the same, and what they share."""

    def __init__(
        self, count: int, *, user: Rate | None = None, address: Rate | None = None
    ) -> None:
        self.clock = Hand()
        self.rates = MemoryRates(self.clock)
        self.limiters = [
            Limiter(user or Rate(RATE, BURST), address or Rate(0, 1), self.clock)
            for _ in range(count)
        ]
        self.charges = [Charges(self.rates) for _ in self.limiters]
        for charges, limiter in zip(self.charges, self.limiters, strict=True):
            charges.follow("sends", limiter)

    async def tries(self, seconds: float, per_second: int, *, count: int = 1) -> list[int]:
        """How many sends each node takes from somebody who tries that often at each of them."""
        taken = [0] * len(self.limiters)
        for _ in range(int(seconds / EVERY_S)):
            for _ in range(int(per_second * EVERY_S)):
                self.clock.now += 1 / per_second
                for node, limiter in enumerate(self.limiters):
                    if limiter.take(ANN, count) == 0:
                        taken[node] += count
            for charges in self.charges:
                await charges.charge()
        return taken


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_who_sends_to_many_nodes_has_one_rate(count: int) -> None:
    mesh = Mesh(count)
    taken = await mesh.tries(60, 100)
    # A burst at each node, and what comes between two charges.
    most = 60 * RATE + (count + 1) * BURST + count * RATE
    assert 0.9 * 60 * RATE <= sum(taken) <= most


async def test_one_node_alone_gives_the_whole_rate() -> None:
    mesh = Mesh(1)
    (taken,) = await mesh.tries(60, 100)
    assert taken == pytest.approx(60 * RATE + BURST, rel=0.05)


async def test_pieces_of_more_than_a_burst_are_charged_too() -> None:
    mesh = Mesh(3, user=Rate(5, 2))
    taken = await mesh.tries(120, 40, count=10)
    assert 0.8 * 120 * 5 <= sum(taken) <= 1.3 * 120 * 5


async def test_addresses_count_at_all_nodes() -> None:
    mesh = Mesh(4, user=Rate(0, 1), address=Rate(RATE, BURST))
    taken = await mesh.tries(60, 100)
    assert sum(taken) <= 60 * RATE + 5 * BURST + 4 * RATE


async def test_who_is_far_below_the_rate_costs_nothing() -> None:
    mesh = Mesh(2)
    mesh.rates.away = True  # nobody asks
    assert await mesh.tries(10, 4) == [40, 40]
    assert not mesh.charges[0]._owed


async def test_while_the_buckets_are_away_each_node_limits_alone() -> None:
    mesh = Mesh(2)
    mesh.rates.away = True
    for alone in await mesh.tries(60, 100):
        assert alone == pytest.approx(60 * RATE + BURST, rel=0.05)
    mesh.rates.away = False
    taken = await mesh.tries(60, 100)
    assert sum(taken) <= 60 * RATE + 3 * BURST + 2 * RATE


async def test_what_is_owed_is_bounded() -> None:
    mesh = Mesh(1, user=Rate(1, 1))
    for number in range(MAX_OWED + 100):
        mesh.limiters[0].take(Caller(f"u{number}"))
    assert len(mesh.charges[0]._owed) == MAX_OWED
    await mesh.charges[0].charge()
    assert not mesh.charges[0]._owed


async def test_it_charges_by_itself_until_it_is_stopped() -> None:
    mesh = Mesh(2)
    for charges in mesh.charges:
        charges.start()
    for _ in range(int(BURST)):
        assert mesh.limiters[0].take(ANN) == 0
    for _ in range(int(BURST)):
        assert mesh.limiters[1].take(ANN) == 0
    for charges in mesh.charges:
        await charges.charge()
        await charges.stop()
    assert mesh.limiters[1].take(ANN) > 0
