"""A channel of 100,000 messages: filled through the store, read by scrolling up."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.drive import Place
from bench.fill import fill
from tests.browser.stage import stage
from tests.envoy.front import FrontProcess

MESSAGES = 100_000


@pytest.mark.parametrize(
    "loaded", [10_000, pytest.param(MESSAGES, marks=[pytest.mark.soak, pytest.mark.timeout(300)])]
)
def test_stays_smooth(tmp_path: Path, loaded: int) -> None:
    """With so many of them loaded; all of them take more than a minute to scroll to."""
    with stage(tmp_path) as made:
        running = made.running
        tokens = [running.sign_up(name) for name in ("ann", "bob")]
        users = [_user_id(running, token) for token in tokens]
        channel = running.request(
            "POST",
            "/v1/channels",
            {"kind": "CHANNEL_KIND_GROUP", "name": "Long", "memberUserIds": users[1:]},
            token=tokens[0],
        )
        assert channel.status == 200, channel
        channel_id = channel.json()["channel"]["channel"]["id"]
        running.stop()
        fill(running.data, users, Place(channel_id, (0, 1)), MESSAGES)
        running.start()
        made.settings["OLDEST"] = str(MESSAGES - loaded + 2)
        if loaded == MESSAGES:
            # Times are judged in the long form alone, which nothing runs beside.
            made.settings["LONGEST_FRAME_MS"] = "250"
        for line in made.play("long.mjs"):
            print(line)


def _user_id(running: FrontProcess, token: str) -> str:
    answer = running.request("GET", "/v1/account", token=token)
    assert answer.status == 200, answer
    user_id: str = answer.json()["user"]["id"]
    return user_id
