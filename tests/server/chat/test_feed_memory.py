"""Feeds on tables in memory."""

from __future__ import annotations

import pytest

from chinwag_server.chat.sequenced.memory import MemoryTables
from chinwag_server.chat.sequenced.tables import Tables
from tests.server.chat.feed_contract import FeedContract


@pytest.fixture
def feed_tables() -> Tables:
    return MemoryTables()


class TestFeed(FeedContract):
    pass
