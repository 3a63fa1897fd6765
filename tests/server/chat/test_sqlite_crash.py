"""kill -9 at any moment loses nothing that was acked and leaves nothing torn."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path

from chinwag_server.chat.sqlite.check import check
from tests.server.chat.sqlite_store import opened

ROUNDS = 5


def kill_while_it_sends(directory: Path, round_: int) -> dict[str, int]:
    """Lets a process send for a moment and kills it; gives the last acked id by channel."""
    acked: dict[str, int] = {}
    with subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.sqlite_crash_child", directory, str(round_)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    ) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline()]  # it works
        time.sleep(random.uniform(0.1, 0.4))
        child.kill()
        lines += child.stdout.read().splitlines(keepends=True)
    assert len(lines) > 10
    for line in lines:
        if line.endswith(b"\n"):
            channel_id, entry_id = line.split()
            acked[channel_id.decode()] = int(entry_id)
    return acked


async def test_nothing_acked_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    acked: dict[str, int] = {}
    stamp = 0
    for round_ in range(ROUNDS):
        acked |= await asyncio.to_thread(kill_while_it_sends, directory, round_)
        async with opened(directory) as store:
            assert store.stamp > stamp
            stamp = store.stamp
            for name, head_id in acked.items():
                record = await store.channel(name)
                assert record is not None
                assert record.head_id >= head_id
                assert await store.entry(name, record.head_id) is not None
        assert check(directory) == []
