"""A disk that a test can fill: a tmpfs in a mount namespace of its own, so that nothing of it is
left, whatever happens. It needs root, or a kernel that gives user namespaces to everybody."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

BLOCK = bytes(1 << 16)


class SmallDisk:
    """Mounted at `path` for programs that run as `command` says.

    Args:
        path: An empty folder.
        mib: Its size.
    """

    def __init__(self, path: Path, mib: int) -> None:
        self.path = path
        path.mkdir(parents=True)
        self._user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        mount = (
            f"mount -t tmpfs -o size={mib}m none '{path}' && echo mounted && exec sleep infinity"
        )
        self._holder = subprocess.Popen(
            ["unshare", "--mount", *self._user, "sh", "-c", mount],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert self._holder.stdout is not None
        said = self._holder.stdout.readline()
        assert said == "mounted\n", "no tmpfs can be mounted: run this as root"

    def command(self, command: Sequence[str]) -> list[str]:
        """What runs a program where the disk is mounted; the process is the program's."""
        where = [f"--mount=/proc/{self._holder.pid}/ns/mnt"]
        if self._user:
            where += [f"--user=/proc/{self._holder.pid}/ns/user", "--preserve-credentials"]
        return ["nsenter", *where, "--", *command]

    def fill(self) -> None:
        """Leaves no room."""
        with self._filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(BLOCK)
            except OSError:
                return

    def make_room(self) -> None:
        """As before `fill`."""
        self._filler.unlink()

    def unmount(self) -> None:
        """Ends it; what runs on it must have ended."""
        self._holder.kill()
        self._holder.wait(5.0)
        assert self._holder.stdout is not None
        self._holder.stdout.close()

    @property
    def _filler(self) -> Path:
        return Path(f"/proc/{self._holder.pid}/root{self.path}/filler")
