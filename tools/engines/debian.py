"""Debian packages unpacked into a folder of this repository: nothing is installed, no service is
started, and no root is needed."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".engines"  # unpacked packages and jars; `make clean` keeps it, `git clean` does not


def unpack(name: str, packages: Sequence[str]) -> Path:
    """Downloads and unpacks packages, once.

    Args:
        name: Of the folder under `.engines`.
        packages: All that is needed and not part of every Debian.

    Returns:
        The folder that stands for "/".

    Raises:
        RuntimeError: A package is not to be had: the text says how to install the server.
    """
    folder = CACHE / name
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder
        with tempfile.TemporaryDirectory(dir=CACHE) as made:
            fresh = Path(made)
            _download(fresh, packages)
            for archive in sorted(fresh.glob("*.deb")):
                subprocess.run(["dpkg-deb", "-x", archive, fresh / "root"], check=True)
            (fresh / "root").rename(folder)
    return folder


def library_path(folder: Path) -> dict[str, str]:
    """This process's environment with the libraries of an unpacked folder in it."""
    found = {str(path.parent) for path in folder.glob("usr/lib/**/*.so*")}
    paths = [*sorted(found), os.environ.get("LD_LIBRARY_PATH", "")]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(path for path in paths if path)}


def _download(into: Path, packages: Sequence[str]) -> None:
    if shutil.which("apt-get") is None:
        raise RuntimeError(f"this needs Debian's apt-get, to fetch {' '.join(packages)}")
    command = ["apt-get", "download", "-qq", *packages]
    if subprocess.run(command, cwd=into, check=False, capture_output=True).returncode:
        # The lists may be missing or old.
        subprocess.run(["apt-get", "update", "-qq"], check=False, capture_output=True)
        done = subprocess.run(command, cwd=into, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"apt-get cannot fetch {' '.join(packages)}: {done.stderr.strip()}")
