"""Which node a client goes to after a failure or with guidance, and when."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from google.protobuf.descriptor_pb2 import MethodOptions
from hypothesis import given
from hypothesis import strategies as st

from chinwag.account.v1 import account_service_pb2
from chinwag.chat.v1 import chat_service_pb2, connect_pb2
from chinwag.common.v1 import close_pb2
from chinwag.endpoints import AVOID_MAX_S, AVOID_S, Endpoints
from chinwag.errors import ChinwagError, LimitExceeded, Unauthenticated, Unavailable
from chinwag.failover import has_changed_nothing, is_away, is_repeatable
from chinwag.presence.v1 import presence_service_pb2
from chinwag.push.v1 import push_service_pb2
from chinwag.reconnect import CLOSES, MAX_GUIDED_S, Plan, Reconnect
from tests.sdk.clock import FakeClock

Reason = close_pb2.CloseReason
NODES = ["a:1", "b:1", "c:1"]
AWAY = Unavailable("connection refused", code=14)


class Client:
    """A `Reconnect` over nodes, some of which are away."""

    def __init__(self, *nodes: str, seed: int = 1) -> None:
        self.clock = FakeClock()
        rng = random.Random(seed)
        self.endpoints = Endpoints(nodes or NODES, rng=rng, monotonic=self.clock.monotonic)
        self.reconnect = Reconnect(rng, self.endpoints)
        self.plan = self.reconnect.first()

    def breaks(self, error: ChinwagError | None = AWAY) -> Plan:
        plan = self.reconnect.broken(error)
        assert isinstance(plan, Plan)
        self.plan = plan
        return plan

    def told(
        self,
        reason: Reason.ValueType = Reason.CLOSE_REASON_OVERLOADED,
        *,
        address: str = "",
        min_delay_s: float = 0.0,
        jitter_s: float = 0.0,
    ) -> Plan:
        close = close_pb2.Close(reason=reason, reconnect=True, address=address)
        close.min_delay.FromNanoseconds(int(min_delay_s * 1e9))
        close.jitter.FromNanoseconds(int(jitter_s * 1e9))
        plan = self.reconnect.guided(close)
        assert isinstance(plan, Plan)
        self.plan = plan
        return plan


def test_clients_spread_over_the_nodes() -> None:
    first = Counter(Client(seed=seed).plan.address for seed in range(900))
    assert all(first[node] > 200 for node in NODES)


def test_every_node_is_tried_at_once_and_then_with_back_off() -> None:
    client = Client()
    tried = [client.plan.address]
    for _ in range(2):
        plan = client.breaks()
        assert plan.delay_s == 0
        tried.append(plan.address)
    assert sorted(tried) == NODES
    # All are away: one after the other, after waits that grow for the whole set.
    assert [client.breaks().address for _ in range(6)] == tried * 2
    waits = [client.breaks().delay_s for _ in range(200)]
    assert all(0 < wait <= 30 for wait in waits)
    assert max(waits) > 15


def test_one_address_has_its_back_off() -> None:
    client = Client("a:1")
    for bound in (0.5, 1, 2, 4, 8, 16, 30, 30):
        plan = client.breaks()
        assert plan.address == "a:1"
        assert 0 < plan.delay_s <= bound


def test_a_node_that_failed_is_avoided_for_a_while() -> None:
    client = Client()
    bad = client.plan.address
    client.breaks()
    client.reconnect.caught_up()
    seen = set()
    for _ in range(50):
        # Others break too, and come back: the one that failed a moment ago is not asked.
        client.endpoints.use(next(node for node in NODES if node != bad))
        seen |= set(client.endpoints.order())
    assert bad not in seen
    client.clock.advance(AVOID_S)
    assert bad in client.endpoints.order()


def test_two_nodes_that_break_in_turn_are_no_loop_without_waits() -> None:
    client = Client("a:1", "b:1")
    waits = []
    for _ in range(50):
        client.reconnect.caught_up()
        plan = client.breaks(None)
        waits.append(plan.delay_s)
        client.clock.advance(plan.delay_s)
    assert sum(wait == 0 for wait in waits) < 25


def test_an_expired_token_is_no_fault_of_the_node() -> None:
    client = Client()
    before = client.plan.address
    plan = client.breaks(Unauthenticated("ended", reason="TOKEN_EXPIRED", code=16))
    assert plan.new_token
    assert plan.address == before


def test_who_is_too_fast_stays_and_waits() -> None:
    client = Client()
    before = client.plan.address
    error = LimitExceeded("slow down", reason="RATE_LIMITED", code=8, retry_after=7.0)
    plan = client.breaks(error)
    assert plan.address == before
    assert plan.delay_s >= 7.0


def test_a_draining_node_is_left_at_once_and_a_full_one_after_its_time() -> None:
    client = Client()
    before = client.plan.address
    plan = client.breaks(Unavailable("going", reason="DRAINING", code=14, retry_after=1.0))
    assert plan.address != before
    assert plan.delay_s == 0
    plan = client.breaks(LimitExceeded("full", reason="OVERLOADED", code=8, retry_after=5.0))
    assert plan.delay_s >= 5.0


def test_shed_load_keeps_its_place_in_the_queue() -> None:
    client = Client()
    before = client.plan.address
    plan = client.told(min_delay_s=10, jitter_s=2)
    assert plan.address == before
    assert 10 <= plan.delay_s <= 12


def test_a_node_that_sends_away_again_and_again_is_left() -> None:
    client = Client()
    before = client.plan.address
    went = [client.told(min_delay_s=1, jitter_s=1).address for _ in range(CLOSES)]
    assert went[:-1] == [before] * (CLOSES - 1)
    assert went[-1] != before


@pytest.mark.parametrize("reason", [Reason.CLOSE_REASON_DRAINING, Reason.CLOSE_REASON_MOVED])
def test_a_node_that_gives_streams_away(reason: Reason.ValueType) -> None:
    client = Client()
    before = client.plan.address
    plan = client.told(reason, jitter_s=5)
    assert plan.address != before
    assert 0 <= plan.delay_s <= 5


def test_where_to_go() -> None:
    client = Client()
    other = next(node for node in NODES if node != client.plan.address)
    assert client.told(Reason.CLOSE_REASON_MOVED, address=other).address == other
    # And what has no stream follows.
    assert client.endpoints.current == other
    client.reconnect.caught_up()
    assert client.breaks().address != other


def test_an_unknown_address_is_not_followed() -> None:
    client = Client()
    before = client.plan.address
    assert client.told(Reason.CLOSE_REASON_OVERLOADED, address="evil:1").address == before
    assert client.told(Reason.CLOSE_REASON_MOVED, address="evil:1").address in NODES


def test_an_allowed_address_is_for_one_attempt() -> None:
    client = Client()
    client.reconnect = Reconnect(random.Random(1), client.endpoints, lambda _: True)
    assert client.told(Reason.CLOSE_REASON_MOVED, address="d:1").address == "d:1"
    client.reconnect.caught_up()
    assert client.reconnect.resumed().address in NODES
    assert client.told(Reason.CLOSE_REASON_MOVED, address="d:1").address == "d:1"
    assert client.breaks().address in NODES


def test_nodes_that_send_a_client_to_each_other_make_it_wait() -> None:
    client = Client("a:1", "b:1")
    waits = 0.0
    for number in range(40):
        address = "b:1" if number % 2 else "a:1"
        waits += client.told(Reason.CLOSE_REASON_MOVED, address=address, jitter_s=1e-9).delay_s
    assert waits > 60


def test_guidance_has_bounds() -> None:
    client = Client()
    plan = client.told(min_delay_s=10 * 86_400, jitter_s=10 * 86_400)
    assert plan.delay_s <= 2 * MAX_GUIDED_S
    assert client.told(min_delay_s=-50, jitter_s=-50).delay_s >= 0


@given(
    st.integers(0, 2**32),
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from(["break", "works", "call", "time"]), st.integers(0, 5))),
)
def test_whatever_happens_to_the_endpoints(
    seed: int, count: int, steps: list[tuple[str, int]]
) -> None:
    nodes = [f"n{number}:1" for number in range(count)]
    clock, rng = FakeClock(), random.Random(seed)
    endpoints = Endpoints(nodes, rng=rng, monotonic=clock.monotonic)
    at_once = 0
    for step, number in steps:
        node = nodes[number % count]
        if step == "break":
            failed = endpoints.current
            went = endpoints.ended(failed, None)
            at_once = at_once + 1 if went else 0
            # Never back to the node that has just failed without a wait.
            assert not (went and endpoints.current == failed)
            assert at_once < max(count, 1)
        elif step == "works":
            endpoints.works(node)
            at_once = 0
        elif step == "call":
            endpoints.failed(node)
        else:
            clock.advance(number * 10)
        order = endpoints.order()
        assert endpoints.current in nodes
        assert order
        assert len(set(order)) == len(order)
        assert set(order) <= set(nodes)
    clock.advance(AVOID_MAX_S)
    assert sorted(endpoints.order()) == nodes


def test_what_may_be_called_again() -> None:
    """Each call of the contract reads, has an id, or is one of those that may get lost."""
    services = [
        service
        for module in (
            chat_service_pb2,
            account_service_pb2,
            push_service_pb2,
            presence_service_pb2,
        )
        for service in module.DESCRIPTOR.services_by_name.values()
    ]
    once = set()
    for method in (method for service in services for method in service.methods):
        if method.client_streaming or method.server_streaming:
            continue
        request = method.input_type._concrete_class()
        reads = method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS
        assert is_repeatable(request) or not reads, method.name
        if not is_repeatable(request):
            once.add(method.name)
    assert once == {"SendTyping"}
    assert is_repeatable(connect_pb2.SendMessageRequest())


def test_what_a_failure_says() -> None:
    broke = Unavailable("broken", code=14)
    late = Unavailable("too late", code=4)
    draining = Unavailable("going", reason="DRAINING", code=14)
    store = Unavailable("the store", reason="STORAGE_UNAVAILABLE", code=14)
    slow = Unavailable("too long", reason="DEADLINE_EXCEEDED", code=4)
    assert [is_away(e) for e in (broke, late, draining, store, slow)] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert [has_changed_nothing(e) for e in (broke, late, draining, store, slow)] == [
        False,
        False,
        True,
        True,
        False,
    ]
