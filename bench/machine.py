"""Names the machine: figures of two machines are never compared."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import time
from importlib import metadata
from pathlib import Path

PACKAGES = ("grpcio", "protobuf", "uvloop")


def describe(load: Path) -> list[str]:
    """Lines for people: processor, system, versions.

    Args:
        load: The load generator's binary.
    """
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    versions = [f"Python {platform.python_version()}", f"SQLite {sqlite3.sqlite_version}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{package} none")
    return [
        f"{_cpu_model()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, "
        f"{platform.system()} {platform.release()}, load average {os.getloadavg()[0]:.1f}",
        ", ".join(versions) + f"; load: {_go_versions(load)}",
    ]


class Others:
    """How much of the machine others took since this was made: what was measured beside them is
    slower than it is, above all its latencies.

    Our own are this process and its children that have ended.
    """

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._busy_s = _busy_s()
        self._own_s = _own_s()

    def cores(self) -> float:
        """Cores that others kept busy, on average, the hypervisor's theft too."""
        busy_s = _busy_s() - self._busy_s
        own_s = _own_s() - self._own_s
        return max(0.0, busy_s - own_s) / (time.monotonic() - self._at)


def _busy_s() -> float:
    # user nice system idle iowait irq softirq steal; proc(5)
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]
    ticks = [int(field) for field in fields]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    times = os.times()
    return sum(times[:4])


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _go_versions(load: Path) -> str:
    try:
        output = subprocess.run(
            ["go", "version", "-m", load], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "Go"
    lines = output.splitlines()
    versions = [lines[0].rpartition(" ")[2]]
    for line in lines:
        words = line.split()
        if words[:2] == ["dep", "google.golang.org/grpc"]:
            versions.append(f"grpc-go {words[2].removeprefix('v')}")
    return ", ".join(versions)
