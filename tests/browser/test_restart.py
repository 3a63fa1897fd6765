"""The server and Envoy die under people who chat."""

from __future__ import annotations

from pathlib import Path

from tests.browser.stage import stage


def test_killed_and_started_again(tmp_path: Path) -> None:
    with stage(tmp_path) as made:
        made.play("restart.mjs")
