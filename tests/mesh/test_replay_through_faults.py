"""Conversations replayed at a mesh of which one part after the other dies and comes back."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tools.mesh import Mesh, temporary_folder

REPOSITORY = Path(__file__).parents[2]
REAL = REPOSITORY.parent / "shared" / "data" / "ubuntu-irc"
MADE_UP = REPOSITORY / "tests" / "data" / "conversation.txt"
CHEAP = {"CHINWAG_ACCOUNT_ARGON2_MEMORY_KIB": "64", "CHINWAG_ACCOUNT_ARGON2_PASSES": "1"}
DOWN_S = 3.0
PAUSE_S = 8.0
ROUND_S = 4 * (DOWN_S + PAUSE_S)
LEFT_S = 300.0


async def _kill_one_after_the_other(mesh: Mesh) -> None:
    engines = mesh.engines

    async def node() -> None:
        await mesh.kill_node(0)
        await asyncio.sleep(DOWN_S)
        await mesh.restart_node(0)

    def engine(
        kill: Callable[[], None], start: Callable[[], None]
    ) -> Callable[[], Awaitable[None]]:
        async def bounce() -> None:
            await asyncio.to_thread(kill)
            await asyncio.sleep(DOWN_S)
            await asyncio.to_thread(start)

        return bounce

    cassandra = engines.cassandra.nodes[0]
    for bounce in (
        node,
        engine(engines.etcd[0].kill, engines.etcd[0].start),
        engine(engines.redis.kill, engines.redis.start),
        engine(cassandra.kill, cassandra.start),
    ):
        await asyncio.sleep(PAUSE_S)
        await bounce()


@pytest.mark.soak
async def test_a_replay_is_whole_though_everything_dies_once() -> None:
    files, speed = ([MADE_UP], "20")
    if REAL.is_dir():
        files, speed = (sorted(REAL.glob("*.txt")), "1500")
    with temporary_folder() as folder:
        async with Mesh(folder, settings=CHEAP, small=True) as mesh:
            key = await mesh.create_api_key()
            replay = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "chinwag_server.cli", "replay", *map(str, files)),
                *("--devices", "2", "--speed", speed, "--api-key", key),
                *("--server", ",".join(mesh.targets)),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                reading = asyncio.ensure_future(replay.communicate())
                await _kill_one_after_the_other(mesh)
                assert not reading.done(), "the replay was over before everything had died"
                said, _ = await asyncio.wait_for(reading, LEFT_S)
            finally:
                if replay.returncode is None:
                    replay.kill()
                    await replay.wait()
    text = said.decode()
    print(text)
    assert replay.returncode == 0, text
    assert re.search(r"^OK\b", text, re.MULTILINE), text
