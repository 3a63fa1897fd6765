"""A full disk under a running server: sends are refused whole, reads go on, and when there is room
again the same sends go through."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from chinwag.errors import from_rpc_error
from chinwag_server.cli.replay.server import OwnServer
from tests.delivery.conftest import Stage, staged
from tests.delivery.test_delivery import request, send, texts

BALLAST = 2 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB; mounting needs root."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


async def fill(stage: Stage, group: str) -> Any:
    """Sends until the disk is full; gives the send that was refused."""
    for number in range(400):
        made = request(group, f"{number}" + "x" * 90_000)
        try:
            await stage.admin.chat.SendMessage(
                made, metadata=stage.admin.metadata("ann"), timeout=10
            )
        except grpc.RpcError as error:
            refused = from_rpc_error(error)
            assert refused.reason == "STORAGE_UNAVAILABLE"
            assert refused.retry_after is not None
            return made
    raise AssertionError("the disk did not fill up")


async def test_a_full_disk_refuses_sends_and_nothing_else(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    async with staged(OwnServer(small_disk)) as stage:
        await stage.people("ann", "bob")
        group = await stage.admin.make_group("ann", "g", ["bob"])
        ballast.write_bytes(bytes(BALLAST))
        refused = await fill(stage, group)
        before = await texts(stage, "bob", group)
        assert refused.content.text not in before
        ballast.unlink()
        stored = await send(stage, "ann", refused)
        assert (await texts(stage, "bob", group))[-1] == refused.content.text
        assert await send(stage, "ann", refused) == stored
