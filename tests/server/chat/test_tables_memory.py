"""The in-memory tables."""

from __future__ import annotations

import pytest

from chinwag_server.chat.sequenced.memory import MemoryTables
from tests.server.chat.tables_contract import TablesContract


@pytest.fixture
def tables() -> MemoryTables:
    return MemoryTables()


class TestMemoryTables(TablesContract):
    pass
