"""A held lease: until when it counts."""

from __future__ import annotations

import pytest

from chinwag_server.mesh.coordination import Lease
from chinwag_server.mesh.lease import HeldLease
from tests.server.account.clock import FakeClock

TTL_S, MARGIN_S = 10, 2.0


def held(clock: FakeClock) -> HeldLease:
    return HeldLease(Lease(1, TTL_S, clock.monotonic()), MARGIN_S, clock)


def test_it_counts_until_ttl_less_margin_after_it_was_sent() -> None:
    clock = FakeClock()
    lease = held(clock)
    clock.advance(7.9)
    assert lease.alive()
    assert lease.left_s() == pytest.approx(0.1, abs=0.001)
    clock.advance(0.1)
    assert not lease.alive()
    assert lease.left_s() == 0


def test_a_renewal_counts_from_when_it_was_sent() -> None:
    clock = FakeClock()
    lease = held(clock)
    clock.advance(3)
    sent = clock.monotonic()
    clock.advance(4)
    lease.renewed(sent)
    assert lease.left_s() == pytest.approx(4)


def test_answers_out_of_order_take_nothing_back() -> None:
    clock = FakeClock()
    lease = held(clock)
    first = clock.monotonic()
    clock.advance(3)
    lease.renewed(clock.monotonic())
    lease.renewed(first)
    assert lease.left_s() == pytest.approx(8)


@pytest.mark.parametrize("looked", [False, True], ids=["nobody looked", "somebody looked"])
def test_a_late_renewal_never_revives(looked: bool) -> None:
    clock = FakeClock()
    lease = held(clock)
    clock.advance(7)
    sent = clock.monotonic()
    clock.advance(2)
    if looked:
        assert not lease.alive()
    # By this one it would count for another 6 s.
    lease.renewed(sent)
    assert not lease.alive()
    assert lease.left_s() == 0
    assert lease.over.is_set()


def test_it_ends_when_told() -> None:
    lease = held(FakeClock())
    lease.end()
    assert not lease.alive()


@pytest.mark.parametrize("margin_s", [0, 10, 11, -1])
def test_a_margin_leaves_something(margin_s: float) -> None:
    clock = FakeClock()
    with pytest.raises(ValueError, match="margin"):
        HeldLease(Lease(1, TTL_S, 0.0), margin_s, clock)
