"""A storm of reconnects under a clock that a test moves: the bucket, and clients that obey it."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chinwag.common.v1 import close_pb2
from chinwag.endpoints import Endpoints
from chinwag.errors import LimitExceeded
from chinwag.reconnect import Plan, Reconnect
from chinwag_server.chat.guidance import overloaded
from chinwag_server.rpc.admission import Admission, ComeBack
from chinwag_server.rpc.ratelimit import Rate
from tests.server.rpc.test_ratelimit import Hand


class Storm:
    """Clients that want to open a stream each, with the SDK's own way of coming back.

    Attributes:
        admitted: When each one was let in, in order.
        tries: Attempts in all.
    """

    def __init__(self, admission: Admission, clock: Hand, seed: int = 1) -> None:
        self.admitted: list[float] = []
        self.tries = 0
        self._admission = admission
        self._clock = clock
        self._rng = random.Random(seed)
        self._due: list[tuple[float, int, Reconnect]] = []
        self._numbers = itertools.count()

    def come(self, at: float) -> None:
        """One more client, at a time."""
        endpoints = Endpoints(["node:1"], rng=self._rng, monotonic=self._clock.monotonic)
        reconnect = Reconnect(self._rng, endpoints)
        heapq.heappush(self._due, (at, next(self._numbers), reconnect))

    def run(self) -> None:
        """Until all are in."""
        while self._due:
            at, number, reconnect = heapq.heappop(self._due)
            self._clock.now = max(self._clock.now, at)
            self.tries += 1
            when = self._admission.take()
            if when is None:
                self.admitted.append(self._clock.now)
                continue
            close, _ = overloaded(when)
            plan = reconnect.guided(close)
            assert isinstance(plan, Plan)
            # To connect takes some time too.
            again = self._clock.now + plan.delay_s + self._rng.uniform(0, 0.05)
            heapq.heappush(self._due, (again, number, reconnect))


def most_in_a_second(times: list[float]) -> int:
    """The most that happened within any second."""
    first = most = 0
    for last, time in enumerate(times):
        while time - times[first] > 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def test_clients_of_a_killed_node_are_all_in_within_a_bounded_time() -> None:
    clock = Hand()
    storm = Storm(Admission(Rate(200, 200), clock), clock)
    for _ in range(5000):
        storm.come(storm._rng.uniform(0, 0.2))
    storm.run()
    assert len(storm.admitted) == 5000
    assert storm.admitted[-1] <= 5000 / 200 + 1.0
    assert most_in_a_second(storm.admitted) <= 200 + 200
    # After the first burst, one a slot: the storm drains evenly, and nobody comes in vain.
    seconds = Counter(int(time) for time in storm.admitted)
    assert all(150 <= seconds[second] <= 250 for second in range(2, 24))
    assert storm.tries <= 5000 + 4800 + 50


def test_others_who_come_meanwhile_do_not_hold_it_up() -> None:
    clock = Hand()
    storm = Storm(Admission(Rate(200, 200), clock), clock)
    for _ in range(5000):
        storm.come(storm._rng.uniform(0, 0.2))
    for _ in range(1000):
        storm.come(storm._rng.uniform(0, 25))
    storm.run()
    assert len(storm.admitted) == 6000
    assert storm.admitted[-1] <= 6000 / 200 + 2.0
    assert most_in_a_second(storm.admitted) <= 200 + 200


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0, 20), min_size=1, max_size=400),
    st.floats(5, 100),
    st.floats(1, 100),
    st.integers(0, 2**32),
)
def test_never_more_than_rate_and_burst(
    arrivals: list[float], rate: float, burst: float, seed: int
) -> None:
    clock = Hand()
    storm = Storm(Admission(Rate(rate, burst), clock), clock, seed)
    for at in arrivals:
        storm.come(at)
    storm.run()
    assert len(storm.admitted) == len(arrivals)
    for start in range(0, len(arrivals), 7):
        for end in range(start, len(arrivals), 11):
            time = storm.admitted[end] - storm.admitted[start]
            assert end - start + 1 <= burst + rate * time + 1 + 1e-6


def test_the_queue_is_one_number_and_bounded() -> None:
    clock = Hand()
    admission = Admission(Rate(10, 5), clock, max_wait_s=60.0)
    told = [admission.take() for _ in range(10_000)]
    assert told[:5] == [None] * 5
    waits = [when.min_delay_s for when in told[5:] if when is not None]
    assert waits[:3] == pytest.approx([0.1, 0.2, 0.3], abs=0.002)
    assert max(waits) == 60.0
    assert told[-1] == ComeBack(60.0, 60.0)
    assert admission.queue_s == pytest.approx(60.0, abs=0.2)
    clock.now += 70
    assert admission.queue_s == 0.0
    assert [admission.take() for _ in range(6)].count(None) == 5


def test_more_than_the_queue_holds_come_in_too() -> None:
    clock = Hand()
    storm = Storm(Admission(Rate(50, 50), clock, max_wait_s=20.0), clock)
    for _ in range(5000):
        storm.come(0.0)
    storm.run()
    assert storm.admitted[-1] <= 5000 / 50 * 2
    assert most_in_a_second(storm.admitted) <= 50 + 50


def test_no_rate_admits_all() -> None:
    admission = Admission(Rate(0, 1), Hand())
    assert all(admission.take() is None for _ in range(1000))


def test_what_is_told() -> None:
    close, refusal = overloaded(ComeBack(2.5, 0.5))
    assert (close.reason, close.reconnect) == (close_pb2.CLOSE_REASON_OVERLOADED, True)
    assert (close.min_delay.ToMilliseconds(), close.jitter.ToMilliseconds()) == (2500, 500)
    assert not close.address
    assert (refusal.reason, refusal.retry_after) == ("OVERLOADED", 2.5)
    reconnect = Reconnect(random.Random(1), Endpoints(["a"], rng=random.Random(), monotonic=float))
    plan = reconnect.guided(close)
    assert isinstance(plan, Plan)
    assert 2.5 <= plan.delay_s <= 3.0
    assert isinstance(plan.error, LimitExceeded)
