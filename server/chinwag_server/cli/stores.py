"""The stores of a data directory, as backup, restore and check go over them."""

from __future__ import annotations

import contextlib
import importlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from chinwag_server.chat.store import StoreError
from chinwag_server.cli.exits import CommandError
from chinwag_server.datadir import DataDir, DataDirError

# Called now and then: (done, of how many).
Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class StoreFiles:
    """One store: its file, and the package that knows it.

    The package has `backup.backup(directory, file, progress, overwrite=)`,
    `backup.restore(file, data_dir, overwrite=)` and `check.check(directory, progress)`, which
    gives violations as things with a text.
    """

    name: str
    file: str
    package: str

    def backup(self, directory: Path, file: Path, told: Told) -> None:
        self._module("backup").backup(directory, file, told, overwrite=True)

    def restore(self, file: Path, data_dir: DataDir, *, overwrite: bool) -> None:
        self._module("backup").restore(file, data_dir, overwrite=overwrite)

    def check(self, directory: Path, told: Told) -> Sequence[object]:
        violations: Sequence[object] = self._module("check").check(directory, told)
        return violations

    def _module(self, name: str) -> Any:
        return importlib.import_module(f"{self.package}.{name}")


# Chat first: what a backup made while the node runs holds of messages, it has the senders of.
_ALL = (
    StoreFiles("chat", "chat.db", "chinwag_server.chat.sqlite"),
    StoreFiles("accounts", "account.db", "chinwag_server.account.sqlite"),
)


def _is_there(store: StoreFiles) -> bool:
    folder = Path(__file__).parents[1].joinpath(*store.package.split(".")[1:])
    return (folder / "backup.py").exists() and (folder / "check.py").exists()


STORES = tuple(filter(_is_there, _ALL))


@contextlib.contextmanager
def local_errors() -> Iterator[None]:
    """Turns what can go wrong with files and stores into a `CommandError`."""
    try:
        yield
    except (StoreError, DataDirError) as error:
        raise CommandError(str(error)) from error
    except sqlite3.Error as error:
        raise CommandError(f"SQLite: {error}") from error
    except OSError as error:
        raise CommandError(str(error)) from error


@contextlib.contextmanager
def bars(*, quiet: bool) -> Iterator[Callable[[str], Told]]:
    """Progress bars on the standard error stream, if it is a terminal.

    Yields:
        What starts a bar with a name.
    """
    console = Console(stderr=True, quiet=quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:

        def start(name: str) -> Told:
            task = progress.add_task(name, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        yield start
