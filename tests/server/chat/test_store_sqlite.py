"""The chat store in SQLite: the contract, and that whatever it leaves is sound."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chinwag_server.chat.sqlite import SqliteChatStore
from tests.server.chat.sqlite_store import opened
from tests.server.chat.store_contract import StoreContract


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteChatStore]:
    async with opened(tmp_path / "data") as store:
        yield store


class TestSqliteChatStore(StoreContract):
    """Nothing beyond the contract: what only SQLite does is in the modules beside this one."""
