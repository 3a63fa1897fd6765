"""Fuzzing: what was found before, and a while of looking for more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wire.core import target
from tests.wire.core.fuzz import CORPUS

REPOSITORY = Path(__file__).parents[3]
SHORT_S = 20
LONG_S = int(os.environ.get("FUZZ_SECONDS", "1800"))


def test_the_corpus() -> None:
    inputs = sorted(CORPUS.iterdir())
    assert len(inputs) > 50
    for path in inputs:
        target.run(path.read_bytes())


def fuzz(seconds: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.wire.core.fuzz"),
            *("--seconds", str(seconds), "--keep", str(tmp_path)),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def test_a_short_while(tmp_path: Path) -> None:
    fuzz(SHORT_S, tmp_path)


@pytest.mark.soak
def test_half_an_hour(tmp_path: Path) -> None:
    fuzz(LONG_S, tmp_path)


@pytest.mark.soak
def test_the_model_for_long() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--timeout=0", "tests/wire/core/test_model.py"],
        cwd=REPOSITORY,
        env=os.environ | {"WIRE_EXAMPLES": "20000"},
        capture_output=True,
        text=True,
        timeout=LONG_S + 600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
