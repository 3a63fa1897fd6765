"""Copying an account store to a file while it works, and making a store of such a file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from chinwag_server.account.sqlite.schema import (
    FILE_NAME,
    check_ours,
    migrate,
    new_generation,
    open_reader,
    open_writer,
)
from chinwag_server.account.store import StoreError
from chinwag_server.datadir import DataDir, fsync_dir

PAGES_A_STEP = 512

# Called after each step: (pages copied, pages in all).
Progress = Callable[[int, int], None]


def backup(
    directory: Path, file: Path, progress: Progress | None = None, *, overwrite: bool = False
) -> None:
    """Copies the store as it is at one moment. Blocks: call it in a thread or a process.

    The copy holds the keys that sign tokens: whoever has it can call as anybody. It can be read
    by its owner alone.

    Args:
        directory: The data directory; it may be in use.
        file: Where to; written beside it under another name, fsynced, then renamed.

    Raises:
        StoreError: There is no store, or `file` is there already.
        sqlite3.Error, OSError: It cannot be read or written.
    """
    source_path = directory / FILE_NAME
    if not source_path.exists():
        raise StoreError(f"there is no account store in {directory}: name a data directory")
    if file.exists() and not overwrite:
        raise StoreError(f"{file} is there already: name another file, or ask to overwrite it")
    partial = file.with_name(file.name + ".partial")
    _remove(partial)
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with (
            closing(open_reader(source_path)) as source,
            closing(sqlite3.connect(partial, isolation_level=None)) as target,
        ):
            if not check_ours(source, source_path):
                raise StoreError(f"{source_path} is empty: nothing to back up")
            # One snapshot over all steps; without it each write would start the copy over.
            source.execute("BEGIN")
            source.execute("SELECT generation FROM store").fetchone()
            source.backup(
                target,
                pages=PAGES_A_STEP,
                progress=(lambda _status, left, total: progress(total - left, total))
                if progress
                else None,
                sleep=0.001,
            )
            source.execute("COMMIT")
            # One file that needs no write-ahead log beside it.
            target.execute("PRAGMA journal_mode = DELETE")
        _fsync(partial)
        partial.rename(file)
        fsync_dir(file.absolute().parent)
    except BaseException:
        _remove(partial)
        raise


def restore(file: Path, data_dir: DataDir, *, overwrite: bool = False) -> int:
    """Makes the store of a data directory from a backup, with a new generation: cursors of
    account events begin anew. Sessions that were revoked since the backup are live again. Blocks.

    Args:
        data_dir: Open, so that no server runs on it.
        overwrite: Whether a store that is there may be replaced.

    Returns:
        The new generation.

    Raises:
        StoreError: The file is no backup, is damaged, or there is a store already.
        sqlite3.Error, OSError: It cannot be read or written.
    """
    if not data_dir.is_open:
        raise StoreError(f"{data_dir.path} is not locked: open the data directory first")
    if not file.exists():
        raise StoreError(f"there is no backup {file}")
    path = data_dir.path / FILE_NAME
    if path.exists() and not overwrite:
        raise StoreError(
            f"{path} is there already: restore into another directory, or ask to overwrite it"
        )
    partial = path.with_name(FILE_NAME + ".partial")
    _remove(partial)
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with (
            closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(partial, isolation_level=None)) as target,
        ):
            if not check_ours(source, file):
                raise StoreError(f"{file} is empty: it is no backup")
            source.backup(target, pages=-1)
            found = target.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if found != "ok":
                raise StoreError(f"{file} is damaged ({found}): take another backup")
        generation = new_generation()
        with closing(open_writer(partial)) as target:
            migrate(target, partial)
            target.execute("UPDATE store SET generation = ?", (generation,))
            target.execute("PRAGMA journal_mode = DELETE")
        _fsync(partial)
        # The old log must not meet the new file: SQLite would play it back into it.
        for suffix in ("-wal", "-shm"):
            path.with_name(FILE_NAME + suffix).unlink(missing_ok=True)
        fsync_dir(data_dir.path)
        partial.rename(path)
        fsync_dir(data_dir.path)
    except BaseException:
        _remove(partial)
        raise
    return generation


def _remove(path: Path) -> None:
    for suffix in ("-wal", "-shm", "-journal", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
