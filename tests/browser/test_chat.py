"""People who chat, in the real Chromium through the real Envoy by TLS."""

from __future__ import annotations

import pytest

from tests.browser.stage import Stage


@pytest.mark.parametrize("script", ["chat", "offline", "burst", "hostile", "access", "tabs"])
def test_scene(house: Stage, script: str) -> None:
    house.play(f"{script}.mjs")
