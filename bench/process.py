"""Servers as children of this process, and what /proc says of them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHINWAG = ROOT / ".venv/bin/chinwag"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

# No limit of a user or an address: one host is all users here. Devices that are quiet for the
# time of a measurement are not closed.
UNLIMITED = {
    f"CHINWAG_LIMITS_{who}_{what}_PER_SECOND": "0"
    for who in ("USER", "ADDRESS")
    for what in ("CALLS", "FRAMES", "SENDS")
} | {
    "CHINWAG_DEADLINES_IDLE_MS": "900000",
    "CHINWAG_LOG_LEVEL": "warning",
}


class ServerError(Exception):
    """A server did not start, or ended: the text has the end of its log."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    pid: int
    address: str
    started_at: float
    log: Path

    def cpu_s(self) -> float:
        """CPU that it has taken, user and system, all threads, in seconds."""
        stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii")
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def rss_kib(self) -> int:
        """Its resident memory, in KiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise ServerError(f"process {self.pid} has no memory")


@contextlib.contextmanager
def chinwag(
    data: Path, *, extra: Mapping[str, str] | None = None, prefix: Sequence[str | Path] = ()
) -> Iterator[Server]:
    """`chinwag serve` on a data directory, without rate limits.

    Args:
        extra: More environment.
        prefix: Put before the command, such as a profiler's.
    """
    environment = os.environ | UNLIMITED | dict(extra or {})
    command = [*prefix, CHINWAG, "serve", "--data", data, "--port", "0", "--json"]
    with _child(command, environment, data.with_suffix(".log")) as (process, line, started_at):
        where = json.loads(line)
        # Behind a profiler the server is a child of what was started.
        yield Server(where["pid"], where["target"], started_at, data.with_suffix(".log"))
        _still_runs(process, data.with_suffix(".log"))


@contextlib.contextmanager
def reference(folder: Path) -> Iterator[Server]:
    """The bare grpc.aio server."""
    port = free_port()
    command = [sys.executable, "-m", "bench.reference", "--port", str(port)]
    log = folder / "reference.log"
    with _child(command, os.environ, log) as (process, _, started_at):
        yield Server(process.pid, f"127.0.0.1:{port}", started_at, log)
        _still_runs(process, log)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _child(
    command: Sequence[str | Path], environment: Mapping[str, str], log: Path
) -> Iterator[tuple[subprocess.Popen[str], str, float]]:
    """Yields the process, the first line that it printed, and when it was started."""
    started_at = time.perf_counter()
    with log.open("a", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, cwd=ROOT
        )
    try:
        yield process, _first_line(process, log), started_at
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _first_line(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
    line = process.stdout.readline() if readable else ""
    if not line:
        raise ServerError(f"the server did not start: {_tail(log)}")
    return line


def _still_runs(process: subprocess.Popen[str], log: Path) -> None:
    if process.poll() is not None:
        raise ServerError(f"the server ended with {process.returncode}: {_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:].strip() or "it said nothing"
