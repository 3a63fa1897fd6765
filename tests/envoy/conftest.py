"""A node behind the real Envoy, started once for the tests that do not break it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.envoy.front import FrontProcess, front

PAGE = {
    "index.html": "<!doctype html><title>chinwag</title>" + "<p>hello</p>" * 200,
    "assets/app-1a2b3c4d.js": "export {};\n",
}


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A web page that was built."""
    folder = tmp_path_factory.mktemp("page")
    for name, text in PAGE.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, page: Path) -> Iterator[FrontProcess]:
    """`chinwag run`, with an access log."""
    folder = tmp_path_factory.mktemp("front")
    settings = {
        "CHINWAG_ENVOY_PAGE_DIR": str(page),
        "CHINWAG_ENVOY_ACCESS_LOG": str(folder / "access.log"),
        "CHINWAG_ENVOY_ORIGINS": "https://other.example",
    }
    with front(folder / "data", settings) as process:
        yield process
