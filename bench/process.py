"""Servers as children of this process, and what /proc says of them."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
CHINWAG = ROOT / ".venv/bin/chinwag"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
WIRE_VARIABLE = "CHINWAG_LISTEN_WIRE"

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


@dataclass(slots=True)
class Server:
    """A running server, or a proxy before it. After a restart it is the new process."""

    pid: int
    address: str
    started_at: float
    log: Path

    def cpu_s(self) -> float:
        """CPU that it has taken, user and system, all threads, in seconds."""
        # What clock_getcpuclockid(3) gives: utime and stime of /proc/PID/stat, but not in ticks.
        return time.clock_gettime((~self.pid << 3) | 2)

    def rss_kib(self) -> int:
        """Its resident memory, in KiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise ServerError(f"process {self.pid} has no memory")

    def kill(self) -> None:
        """SIGKILL: nothing is written or closed any more."""
        os.kill(self.pid, signal.SIGKILL)

    def become(self, other: Server) -> None:
        """Its successor was started."""
        self.pid, self.started_at = other.pid, other.started_at


def allow_descriptors() -> None:
    """Raises the limit of open files to the hard one, for this process and its children."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def wires() -> tuple[str, ...]:
    """The server cores to compare, ours first; a server without the choice has one, ""."""
    shown = subprocess.run(
        [CHINWAG, "serve", "--help"], capture_output=True, text=True, check=True
    ).stdout
    # An unknown CHINWAG_LISTEN_... would be refused.
    return ("wire", "grpcio") if "--listen-wire" in shown else ("",)


@contextlib.contextmanager
def chinwag(
    data: Path,
    *,
    extra: Mapping[str, str] | None = None,
    prefix: Sequence[str | Path] = (),
    port: int = 0,
    mortal: bool = False,
) -> Iterator[Server]:
    """`chinwag serve` on a data directory, without rate limits.

    Args:
        extra: More environment.
        prefix: Put before the command, such as a profiler's.
        port: 0: any that is free.
        mortal: It may end before the context does.
    """
    environment = os.environ | UNLIMITED | dict(extra or {})
    command = [*prefix, CHINWAG, "serve", "--data", data, "--port", str(port), "--json"]
    with _child(command, environment, data.with_suffix(".log")) as (process, line, started_at):
        where = json.loads(line)
        # Behind a profiler the server is a child of what was started.
        yield Server(where["pid"], where["target"], started_at, data.with_suffix(".log"))
        if not mortal:
            _still_runs(process, data.with_suffix(".log"))


@dataclass(slots=True, frozen=True)
class Behind:
    """A node behind Envoy, as `chinwag run` starts both.

    Attributes:
        port: Where Envoy listens.
        ca: The certificate to trust there; None: it is plain text.
    """

    node: Server
    envoy: Server
    port: int
    ca: Path | None


@contextlib.contextmanager
def behind_envoy(data: Path, *, extra: Mapping[str, str] | None = None) -> Iterator[Behind]:
    """`chinwag run` on a data directory, without rate limits."""
    environment = os.environ | UNLIMITED | dict(extra or {})
    log = data.with_suffix(".log")
    command: list[str | Path] = [CHINWAG, "run", "--data", data, "--port", "0"]
    command += ["--envoy-port", "0", "--json"]
    with _child(command, environment, log) as (process, line, started_at):
        where = json.loads(line)
        address = urlsplit(where["web"])
        yield Behind(
            Server(where["pid"], where["target"], started_at, log),
            Server(int(where["envoy_pid"]), address.netloc, started_at, log),
            address.port or 443,
            Path(where["ca"]) if address.scheme == "https" else None,
        )
        _still_runs(process, log)


@contextlib.contextmanager
def reference(folder: Path) -> Iterator[Server]:
    """The bare grpc.aio server."""
    port = free_port()
    command = [sys.executable, "-m", "bench.reference", "--port", str(port)]
    log = folder / "reference.log"
    with _child(command, os.environ, log) as (process, _, started_at):
        yield Server(process.pid, f"127.0.0.1:{port}", started_at, log)
        _still_runs(process, log)


@contextlib.contextmanager
def proxy(command: Sequence[str | Path], port: int, log: Path) -> Iterator[Server]:
    """A program that says nothing when it is ready: it is once it listens."""
    started_at = time.perf_counter()
    with log.open("a", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        while not _listens(port):
            _still_runs(process, log)
            if time.perf_counter() - started_at > START_TIMEOUT_S:
                raise ServerError(f"{command[0]} does not listen: {_tail(log)}")
            time.sleep(0.05)
        yield Server(process.pid, f"127.0.0.1:{port}", started_at, log)
        _still_runs(process, log)
    finally:
        _end(process)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


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
        _end(process)
        assert process.stdout is not None
        process.stdout.close()


def _end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _first_line(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
    line = process.stdout.readline() if readable else ""
    if not line:
        raise ServerError(f"the server did not start: {_tail(log)}")
    return line


def _still_runs(process: subprocess.Popen[str] | subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        raise ServerError(f"the server ended with {process.returncode}: {_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:].strip() or "it said nothing"
