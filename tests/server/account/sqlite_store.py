"""Opening SQLite account stores in tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chinwag_server.account.sqlite import SqliteAccountStore
from chinwag_server.datadir import DataDir


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[SqliteAccountStore]:
    """A store over a directory, closed and unlocked at the end."""
    data_dir = DataDir(directory)
    data_dir.open()
    try:
        store = SqliteAccountStore(data_dir)
        await store.open()
        try:
            yield store
        finally:
            await store.close()
    finally:
        data_dir.close()
