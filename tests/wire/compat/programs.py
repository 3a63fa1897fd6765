"""Clients that are built: when first needed, by one process, into .stamps/wire-compat."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BUILT = Path(__file__).parents[3] / ".stamps/wire-compat"
BUILD_TIMEOUT_S = 300.0


def go_client() -> Path:
    """The client in Go."""
    if shutil.which("go") is None:
        pytest.skip("the Go client is built with Go, which is not installed")
    source = HERE / "go"
    program = BUILT / "go-client"
    wanted = hashlib.sha256()
    for path in sorted(source.rglob("*")):
        if path.is_file():
            wanted.update(path.read_bytes())
    BUILT.mkdir(parents=True, exist_ok=True)
    stamp = BUILT / "go-client.made-of"
    with (BUILT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted.hexdigest():
            subprocess.run(
                ["go", "build", "-o", program, "."],
                cwd=source,
                check=True,
                timeout=BUILD_TIMEOUT_S,
                stdin=subprocess.DEVNULL,
            )
            stamp.write_text(wanted.hexdigest())
    return program
