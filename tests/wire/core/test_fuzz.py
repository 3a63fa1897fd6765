"""Fuzzing: what was found before, and a while of looking for more."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wire.core import grpc_target, target
from tests.wire.core.fuzz import CORPUS, REPOSITORY
from tests.wire.core.peer import message

SHORT_S = 20
MOST_BYTES = 200_000
GUIDED = "import sys; from tests.wire.core import fuzz; sys.exit(fuzz.main())"
UNGUIDED = "import importlib.util; importlib.util.find_spec = lambda _: None; " + GUIDED
LONG_S = int(os.environ.get("FUZZ_SECONDS", "1800"))


def inputs() -> list[Path]:
    return sorted(CORPUS.iterdir())


def test_the_corpus() -> None:
    assert len(inputs()) > 50
    assert sum(path.stat().st_size for path in inputs()) < MOST_BYTES
    for path in inputs():
        target.run(path.read_bytes())


def test_messages_are_read_as_they_are_defined() -> None:
    body = message(b"a") + message(gzip.compress(b"b"), 1) + message(b"")
    assert grpc_target.expected(b"gzip", body) == ([b"a", b"b", b""], True)
    assert grpc_target.expected(b"gzip", body + b"\0") == ([b"a", b"b", b""], False)
    assert grpc_target.expected(b"identity", body) == ([b"a"], False)


def fuzz(seconds: int, keep: Path, *, program: str = GUIDED) -> None:
    before = inputs()
    done = subprocess.run(
        [
            *(sys.executable, "-c", program),
            *("--seconds", str(seconds), "--keep", str(keep)),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    assert inputs() == before, "a run has changed the corpus"


def test_a_short_while(tmp_path: Path) -> None:
    fuzz(SHORT_S, tmp_path)


def test_where_there_is_no_atheris(tmp_path: Path) -> None:
    fuzz(2, tmp_path, program=UNGUIDED)


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
