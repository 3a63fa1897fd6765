"""Here both adapters run in each test, side by side."""

from __future__ import annotations

import pytest


@pytest.fixture
def adapter() -> str:
    """What `start_node` starts where a test does not say."""
    return "wire"
