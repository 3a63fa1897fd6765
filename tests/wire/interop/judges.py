"""The programs that judge the wire from outside: built when first needed, run with a deadline."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
MODULE = REPOSITORY / "tests/wire/tools"
BUILT = REPOSITORY / ".stamps/wire-tools"
PACKAGES = {
    "h2spec": "github.com/summerwind/h2spec/cmd/h2spec",
    "interop_client": "google.golang.org/grpc/interop/client",
}
# An empty build cache on two shared cores; a test that may build has to allow for it.
BUILD_TIMEOUT_S = 420.0
BUILDING_TEST_TIMEOUT_S = BUILD_TIMEOUT_S + 60


@dataclass(frozen=True)
class Verdict:
    """How a judge ended."""

    code: int
    output: str


def build() -> Path:
    """Builds what is not built from these very versions; one process does, others wait.

    Returns:
        The folder of the programs.
    """
    if shutil.which("go") is None:
        pytest.skip("the judges of the wire are built with Go, which is not installed")
    BUILT.mkdir(parents=True, exist_ok=True)
    stamp = BUILT / "versions"
    wanted = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        wanted.update((MODULE / name).read_bytes())
    with (BUILT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted.hexdigest():
            return BUILT
        for name, package in PACKAGES.items():
            subprocess.run(
                ["go", "build", "-o", BUILT / name, package],
                cwd=MODULE,
                check=True,
                timeout=BUILD_TIMEOUT_S,
                stdin=subprocess.DEVNULL,
            )
        stamp.write_text(wanted.hexdigest())
    return BUILT


async def run(
    program: Path, *arguments: str, timeout_s: float, environment: Mapping[str, str] | None = None
) -> Verdict:
    """Runs a judge to its end beside the test's event loop.

    Raises:
        AssertionError: It did not end in time; its output is in the message.
    """
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | dict(environment or {}),
    )
    assert process.stdout is not None
    output = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            while chunk := await process.stdout.read(65536):
                output += chunk
            code = await process.wait()
    except TimeoutError:
        text = output.decode(errors="replace")[-8000:]
        message = f"{program.name} {' '.join(arguments)} ran for {timeout_s} s:\n{text}"
        raise AssertionError(message) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Verdict(code, output.decode(errors="replace"))
