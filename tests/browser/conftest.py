"""A front with the page, started once for the scenes that do not break it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.stage import Stage, stage


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One for all scenes."""
    with stage(tmp_path_factory.mktemp("browser")) as made:
        yield made
