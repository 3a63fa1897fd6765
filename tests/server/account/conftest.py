"""Fixtures: the account room's rules."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from chinwag_server.account.memory import MemoryAccountStore
from chinwag_server.account.sqlite import SqliteAccountStore
from chinwag_server.account.sqlite.check import check
from chinwag_server.account.store import AccountStore
from chinwag_server.datadir import DataDir
from tests.server.account.rules import Rules

StartRules = Callable[..., Awaitable[Rules]]


@pytest.fixture(params=["memory", "sqlite"])
async def start_rules(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StartRules]:
    """Starts account rooms, each over a store of its own, with settings as `start_node` takes
    them."""
    running: list[tuple[Rules, DataDir]] = []

    async def start(**changes: Any) -> Rules:
        data_dir = DataDir(tmp_path / str(len(running)))
        data_dir.open()
        store: AccountStore = MemoryAccountStore()
        if request.param == "sqlite":
            store = SqliteAccountStore(data_dir)
        rules = Rules(tmp_path, store, **changes)
        await rules.start()
        running.append((rules, data_dir))
        return rules

    yield start
    for rules, data_dir in running:
        await rules.room.stop()
        if isinstance(rules.store, SqliteAccountStore):
            # Whatever a test did, what it leaves is sound.
            assert check(data_dir.path) == []
        data_dir.close()


@pytest.fixture
async def rules(start_rules: StartRules) -> Rules:
    """An account room."""
    return await start_rules()
