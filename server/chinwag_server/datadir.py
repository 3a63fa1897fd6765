"""The data directory of a node: one process at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

LOCK_NAME = "lock"


class DataDirError(Exception):
    """The directory cannot be used: the text says what was expected, found and what to do."""


class DataDir:
    """A directory that this process holds alone, from `open` to `close` or its end.

    The stores in it share one: they take the path from it and do not lock by themselves.

    Args:
        path: Made if it is not there, for the owner's eyes only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether this process holds the directory."""
        return self._lock is not None

    def open(self) -> None:
        """Makes and locks the directory.

        Raises:
            DataDirError: Another process holds it, or it cannot be made.
        """
        if self._lock is not None:
            raise DataDirError(f"{self.path} is open already")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataDirError(
                f"the data directory {self.path} cannot be made or written: {error}"
            ) from error
        try:
            # flock goes with the open file: the kernel drops it however the process ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise DataDirError(
                f"the data directory {self.path} is in use by another process (pid {holder}): "
                "stop that one, or name another directory"
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
        self._lock = lock

    def close(self) -> None:
        """Gives the directory free; the lock file stays, since removing it would race."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def fsync_dir(path: Path) -> None:
    """Makes the names in a directory durable: files made, renamed or removed."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
