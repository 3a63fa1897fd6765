"""The feed in the simulation: nothing that was committed is skipped."""

from __future__ import annotations

import pytest

from tests.simulation.feed_teeth import RULES
from tests.simulation.test_simulation import run

SEEDS = 20
LONG_SEEDS = 3000


def test_the_feed_skips_nothing() -> None:
    run("tests.simulation.feed", 1, SEEDS, timeout_s=60)


@pytest.fixture(scope="module")
def noticed() -> str:
    """What the simulation says as one rule after the other is taken out."""
    return run("tests.simulation.feed_teeth", timeout_s=110)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_is_taken_out_is_missed(rule: str, noticed: str) -> None:
    assert f"{rule}: noticed by seed" in noticed, noticed


@pytest.mark.soak
def test_the_feed_skips_nothing_for_long() -> None:
    run("tests.simulation.feed", 1, LONG_SEEDS, timeout_s=20_000)
