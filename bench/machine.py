"""Names the machine: figures of two machines are never compared."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
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
