"""Token buckets under a clock that a test moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.ratelimit import AddressSet, Limiter, Rate, TokenBuckets, address_key


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time_us(self) -> int:
        return 0


def test_a_burst_then_the_rate() -> None:
    clock = Hand()
    limiter = Limiter(Rate(2, 4), Rate(0, 1), clock)
    ann = Caller("ann")
    assert [limiter.take(ann) for _ in range(4)] == [0.0] * 4
    assert limiter.take(ann) == pytest.approx(0.5)
    clock.now += 0.5
    assert limiter.take(ann) == 0.0
    assert limiter.take(ann) == pytest.approx(0.5)
    assert limiter.take(Caller("bob")) == 0.0


def test_more_than_a_burst_comes_from_a_full_bucket() -> None:
    clock = Hand()
    limiter = Limiter(Rate(10, 20), Rate(0, 1), clock)
    ann = Caller("ann")
    assert limiter.take(ann, 50) == 0.0
    assert limiter.take(ann, 1) == pytest.approx(3.1)
    clock.now += 3.2
    assert limiter.take(ann, 1) == 0.0


def test_a_refused_taking_takes_nothing() -> None:
    clock = Hand()
    limiter = Limiter(Rate(1, 100), Rate(1, 2), clock)
    ann = Caller("ann", address="9.9.9.9")
    assert limiter.take(ann, 2) == 0.0
    for _ in range(50):
        assert limiter.take(ann) == pytest.approx(1.0)
    assert limiter.take(Caller("ann", address="9.9.9.8"), 2) == 0.0


def test_addresses_are_limited_over_users() -> None:
    limiter = Limiter(Rate(0, 1), Rate(1, 3), Hand(), exempt=["10.0.0.0/8"])
    waits = [limiter.take(Caller(f"u{n}", address="9.9.9.9")) for n in range(5)]
    assert [wait > 0 for wait in waits] == [False, False, False, True, True]
    for n in range(9):
        assert limiter.take(Caller(f"u{n}", address="10.2.3.4")) == 0.0
        assert limiter.take(Caller(f"u{n}", address="9.9.9.9", api_key_id="bot")) == 0.0


def test_an_ipv6_subscriber_has_one_bucket() -> None:
    assert address_key("2001:db8:1:2::3") == address_key("2001:db8:1:2:9:9:9:9")
    assert address_key("2001:db8:1:2::3") != address_key("2001:db8:1:3::3")
    assert address_key("::ffff:192.0.2.7") == address_key("192.0.2.7") == "192.0.2.7"
    assert address_key("unix") == "unix"


def test_buckets_are_bounded() -> None:
    clock = Hand()
    buckets = TokenBuckets(Rate(1, 2), clock, max_keys=100)
    for n in range(1000):
        buckets.take(f"u{n}")
    assert len(buckets) == 100
    assert buckets.wait("u999", 2) == pytest.approx(1.0)


def test_no_rate_is_no_limit() -> None:
    limiter = Limiter(Rate(0, 1), Rate(0, 1), Hand())
    assert all(limiter.take(Caller("ann", address="9.9.9.9"), 1000) == 0.0 for _ in range(100))


@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5)), max_size=60),
    st.floats(0.5, 20),
    st.integers(5, 30),
)
def test_never_more_than_rate_and_burst(
    steps: list[tuple[float, int]], rate: float, burst: int
) -> None:
    clock = Hand()
    buckets = TokenBuckets(Rate(rate, burst), clock)
    taken = 0
    for pause, count in steps:
        clock.now += pause
        wait = buckets.wait("k", count)
        if not wait:
            buckets.take("k", count)
            taken += count
        else:
            clock.now += wait + 1e-6
            assert not buckets.wait("k", count), "what was said to wait was enough"
        assert taken <= burst + rate * clock.now + 1e-6


def test_address_sets() -> None:
    networks = AddressSet(["127.0.0.0/8", "::1", "fd00::/8", "192.0.2.7"])
    for address in ("127.0.0.1", "::1", "fd00::12", "192.0.2.7", "::ffff:127.0.0.1"):
        assert address in networks
    for address in ("192.0.2.8", "::2", "unix", "", "not an address"):
        assert address not in networks
    with pytest.raises(ValueError, match="does not appear"):
        AddressSet(["localhost"])
