"""The token bucket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinwag_server.wire.budget import Budget


def test_it_begins_full_and_is_empty_after_its_burst() -> None:
    budget = Budget(10, 1, 0)
    assert all(budget.spend(1, 0) for _ in range(10))
    assert not budget.spend(1, 0)


def test_it_fills_with_time() -> None:
    budget = Budget(10, 2, 0)
    assert budget.spend(10, 0)
    assert not budget.spend(1, 0.25)
    assert budget.spend(1, 0.5)
    assert not budget.spend(1, 0.5)


def test_time_fills_it_to_its_burst_and_no_further() -> None:
    budget = Budget(10, 1, 0)
    assert budget.spend(10, 0)
    assert not budget.spend(11, 1e9)
    assert budget.spend(10, 1e9)


def test_it_never_holds_more_than_its_most() -> None:
    for most, held in ((0, 10), (25, 25)):
        budget = Budget(10, 1, 0, most)
        budget.earn(1000)
        assert budget.spend(held, 0)
        assert not budget.spend(1, 0)


def test_a_wider_one_holds_more_from_then_on() -> None:
    budget = Budget(10, 1, 0)
    assert budget.spend(10, 0)
    budget.widen(15)
    budget.widen(12)
    assert budget.spend(5, 0)
    assert not budget.spend(1, 0)
    assert budget.spend(15, 15)


def test_what_was_earned_is_kept_while_time_passes() -> None:
    budget = Budget(10, 1, 0, 100)
    budget.earn(90)
    assert not budget.spend(101, 1e9)
    assert budget.spend(100, 1e9)


def test_what_it_refuses_costs_nothing() -> None:
    budget = Budget(10, 0, 0)
    assert not budget.spend(11, 0)
    assert budget.spend(10, 0)


@given(
    st.floats(0, 100),
    st.floats(0, 100),
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 50), st.floats(0, 5)), max_size=50),
)
def test_no_more_is_spent_than_came_in(
    burst: float, per_second: float, steps: list[tuple[float, float, float]]
) -> None:
    budget = Budget(burst, per_second, 0)
    now = spent = earned = 0.0
    for wait, price, income in steps:
        now += wait
        budget.earn(income)
        earned += income
        if budget.spend(price, now):
            spent += price
    most = burst + now * per_second + earned
    assert spent <= most or spent == pytest.approx(most)
