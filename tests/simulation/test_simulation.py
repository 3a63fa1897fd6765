"""The mesh's rules in a deterministic simulation; a failing seed prints what to run to see it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.flavours import AIMED
from tests.simulation.teeth.seeds import SEEDS as SEEDS_THAT_NOTICE
from tests.simulation.whole.flavours import AIMED as WHOLE_AIMED

ROOT = Path(__file__).parents[2]
SEEDS = 300
LONG_SEEDS = 20_000
AIMED_SEEDS = 200


def run(*what: object, timeout_s: float) -> str:
    """Runs seeds in a process of their own: the order of sets belongs to what a seed decides."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, what)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_nothing_acked_is_lost() -> None:
    run("tests.simulation", 1, SEEDS, timeout_s=115)


def test_a_seed_is_repeated_exactly() -> None:
    first, second = (run("tests.simulation", 7, timeout_s=50) for _ in range(2))
    assert first == second


@pytest.fixture(scope="module")
def noticed() -> str:
    """What the simulation says as one rule after the other is taken out."""
    return run("tests.simulation.teeth", "recorded", timeout_s=110)


@pytest.mark.parametrize("rule", SEEDS_THAT_NOTICE)
def test_a_rule_that_is_taken_out_is_missed(rule: str, noticed: str) -> None:
    assert f"{rule}: noticed by seed" in noticed, noticed


@pytest.mark.soak
def test_nothing_acked_is_lost_for_long() -> None:
    """`pytest -s` shows how far it is."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "1", str(LONG_SEEDS)],
        cwd=ROOT,
        timeout=20_000,
        check=False,
    )
    assert done.returncode == 0


@pytest.mark.soak
@pytest.mark.parametrize("flavour", [*AIMED, *WHOLE_AIMED])
def test_what_teeth_aim_at_holds_with_all_rules(flavour: str) -> None:
    run("tests.simulation", 1, AIMED_SEEDS, flavour, timeout_s=2000)
