"""Who was cut off for too long is told so; who was not is left alone."""

from __future__ import annotations

import pytest

from chinwag_server.chat.routed.outages import ARRIVED_S, OUTAGE_S, Outages
from tests.server.chat.rules import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def outages(clock: FakeClock) -> Outages:
    outages = Outages(clock)
    outages.follow(["b"])
    return outages


def test_a_link_that_comes_up_at_once_missed_nothing(outages: Outages, clock: FakeClock) -> None:
    clock.advance(OUTAGE_S)
    assert not outages.up("b")
    clock.advance(100)
    outages.down("b")
    clock.advance(OUTAGE_S)
    assert not outages.up("b")


def test_a_link_that_was_down_for_long(outages: Outages, clock: FakeClock) -> None:
    outages.up("b")
    outages.down("b")
    clock.advance(5)
    outages.down("b")
    clock.advance(OUTAGE_S - 4)
    assert outages.up("b")
    assert not outages.up("b")


def test_a_link_that_comes_up_for_the_first_time_late(outages: Outages, clock: FakeClock) -> None:
    # Both nodes are known to each other, and the network between them is cut: what the new one
    # told in the meantime, nobody repeats. Found by seed 4880 of the simulation.
    clock.advance(OUTAGE_S + 1)
    outages.follow(["b", "c"])
    assert outages.up("b")
    assert not outages.up("c")


def test_who_is_gone_is_forgotten(outages: Outages, clock: FakeClock) -> None:
    outages.up("b")
    outages.follow([])
    outages.down("b")
    clock.advance(100)
    outages.follow(["b"])
    assert not outages.up("b")


def test_a_link_that_is_up_for_a_moment(outages: Outages, clock: FakeClock) -> None:
    # That something was missed was told to a link that went down with it; and it was short enough a
    # time until the link came up again. Found by seed 13530 of the simulation.
    outages.up("b")
    clock.advance(100)
    outages.down("b")
    clock.advance(OUTAGE_S + 1)
    assert outages.up("b")
    clock.advance(ARRIVED_S / 2)
    outages.down("b")
    clock.advance(1)
    assert outages.up("b")
    clock.advance(ARRIVED_S)
    outages.down("b")
    clock.advance(1)
    assert not outages.up("b")
