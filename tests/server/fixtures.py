"""Fixtures: a real node in the test's own loop, and one as a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chinwag_server import rooms
from chinwag_server.node import Node
from tests.server.process import ServerProcess
from tests.server.serving import Served, settings_for
from tests.server.standin import StandInAccount

StartNode = Callable[..., Awaitable[Served]]


@pytest.fixture(params=["wire", "grpcio"])
def adapter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What speaks gRPC in the servers that a test starts, as processes too: both must keep the
    contract."""
    name: str = request.param
    monkeypatch.setenv("CHINWAG_LISTEN_WIRE", name)
    return name


@pytest.fixture
async def start_node(tmp_path: Path, adapter: str) -> AsyncIterator[StartNode]:
    """Starts nodes with settings given as `limits__user_streams=2`, all in one data directory
    unless `data_dir` says otherwise."""
    running: list[Served] = []

    async def start(*, open_account: Any = rooms.open_account, **changes: Any) -> Served:
        changes.setdefault("listen__wire", adapter)
        settings = settings_for(changes.pop("data_dir", tmp_path / "data"), **changes)
        node = Node(settings, open_account=open_account)
        await node.start()
        running.append(Served(node))
        return running[-1]

    yield start
    for served in running:
        await served.close()


@pytest.fixture
async def server(start_node: StartNode) -> Served:
    """A real node: real sockets, SQLite, accounts."""
    return await start_node()


@pytest.fixture
async def bare_server(start_node: StartNode) -> Served:
    """A node whose accounts are a stand-in: a token is "USER/DEVICE"."""
    return await start_node(open_account=StandInAccount)


@pytest.fixture
def server_process(tmp_path: Path, adapter: str) -> Iterator[ServerProcess]:
    """`chinwag serve` as a process of its own, started by the test and killed at its end."""
    process = ServerProcess(tmp_path / "data")
    yield process
    process.kill()
