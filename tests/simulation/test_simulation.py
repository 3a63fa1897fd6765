"""The mesh's rules in a deterministic simulation; a failing seed prints what to run to see it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.teeth import SEEDS as SEEDS_THAT_NOTICE

ROOT = Path(__file__).parents[2]
SEEDS = 150
LONG_SEEDS = 20_000


def run(first: int, count: int, *, tooth: str = "", timeout_s: float) -> str:
    """Runs seeds in a process of their own: the order of sets belongs to what a seed decides."""
    module = ["tests.simulation.teeth", tooth] if tooth else ["tests.simulation"]
    done = subprocess.run(
        [sys.executable, "-m", *module, str(first), str(count)],
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
    run(1, SEEDS, timeout_s=110)


def test_a_seed_is_repeated_exactly() -> None:
    first, second = (run(7, 1, timeout_s=50).splitlines() for _ in range(2))
    assert first[:-1] == second[:-1]
    assert first[-1].rpartition(";")[2] == second[-1].rpartition(";")[2]


@pytest.mark.parametrize(("tooth", "seed"), SEEDS_THAT_NOTICE.items())
def test_a_rule_that_is_taken_out_is_missed(tooth: str, seed: int) -> None:
    assert f"{tooth}: noticed by seed {seed}" in run(seed, 1, tooth=tooth, timeout_s=60)


@pytest.mark.soak
def test_nothing_acked_is_lost_for_long() -> None:
    run(1, LONG_SEEDS, timeout_s=20_000)
