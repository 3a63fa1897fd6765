"""Opening SQLite stores in tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chinwag_server.chat.sqlite import SqliteChatStore
from chinwag_server.datadir import DataDir


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[SqliteChatStore]:
    """A store over a directory, closed and unlocked at the end."""
    data_dir = DataDir(directory)
    data_dir.open()
    try:
        store = SqliteChatStore(data_dir)
        await store.open()
        try:
            yield store
        finally:
            await store.close()
    finally:
        data_dir.close()
