"""`make mesh`: engines and nodes as processes, what it says of them, and that it leaves none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from grpc import aio

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import account_service_pb2_grpc
from tools.engines.process import EngineError
from tools.mesh import Mesh, temporary_folder

REPOSITORY = Path(__file__).parents[2]
READY_S = 90.0
STOP_S = 40.0
CHEAP = {"CHINWAG_ACCOUNT_ARGON2_MEMORY_KIB": "64", "CHINWAG_ACCOUNT_ARGON2_PASSES": "1"}
PASSWORD = "a long password"


def children(pid: int) -> dict[int, str]:
    """Commands of its child processes."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    found = {}
    for child in map(int, text.split()):
        with contextlib.suppress(FileNotFoundError):
            found[child] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
    return found


def is_gone(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    return True


# --- as a program ---


class Program:
    """`python -m tools.mesh`, as `make mesh` runs it."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tools.mesh", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **CHEAP, "PYTHONUNBUFFERED": "1"},
            cwd=REPOSITORY,
            start_new_session=True,
        )
        self.said = ""

    def until(self, pattern: str, timeout_s: float) -> re.Match[str]:
        """What it says first that matches."""
        assert self.process.stdout is not None
        until = time.monotonic() + timeout_s
        while (found := re.search(pattern, self.said, re.MULTILINE)) is None:
            left = until - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, left))
            more = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            assert more, f"it did not say {pattern!r} in time:\n{self.said}"
            self.said += more.decode()
        return found

    def end(self) -> None:
        """Not left behind, whatever the test came to."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
        self.process.kill()
        self.process.wait(5.0)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def program() -> Iterator[type[Program]]:
    made: list[Program] = []

    class Kept(Program):
        def __init__(self, *arguments: str) -> None:
            super().__init__(*arguments)
            made.append(self)

    yield Kept
    for one in made:
        one.end()


def test_a_mesh_runs_until_it_is_told_to_stop(program: type[Program], tmp_path: Path) -> None:
    mesh = program("--nodes", "2", "--small", "--restart")
    folder = Path(mesh.until(r" in (/\S+)$", 10.0).group(1))
    targets = mesh.until(r"^ready (\S+) (\S+)$", READY_S).groups()
    assert f"chinwag replay FILES --devices 2 --server {','.join(targets)}" in mesh.said
    before = children(mesh.process.pid)
    names = ("etcd", "redis-server", "postgres", "CassandraDaemon", "chinwag_server.cli serve")
    for name in names:
        assert any(name in command for command in before.values()), name

    key = mesh.until(r"--api-key (\S+)", 1.0).group(1)
    talk = tmp_path / "talk.txt"
    talk.write_text("".join(f"[12:{n:02}] <{'ann' if n % 3 else 'bob'}> {n}\n" for n in range(60)))
    replay = [sys.executable, "-m", "chinwag_server.cli", "replay", str(talk)]
    replay += ["--devices", "2", "--server", ",".join(targets), "--api-key", key]
    done = subprocess.run(replay, capture_output=True, text=True, check=False, timeout=60.0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("OK\n")

    node = next(pid for pid, command in before.items() if "cli serve" in command)
    os.kill(node, signal.SIGKILL)
    mesh.until(r"^n\d ended; the end of its log:$", 10.0)
    mesh.until(r"^n\d serves again on ", 30.0)

    started = children(mesh.process.pid)
    mesh.process.send_signal(signal.SIGTERM)
    assert mesh.process.wait(STOP_S) == 0
    assert all(is_gone(pid) for pid in before | started)
    assert not folder.exists()


def test_a_start_that_is_broken_off(program: type[Program]) -> None:
    mesh = program("--small")
    folder = Path(mesh.until(r" in (/\S+)$", 10.0).group(1))
    until = time.monotonic() + READY_S
    while not any("CassandraDaemon" in command for command in children(mesh.process.pid).values()):
        assert time.monotonic() < until
        time.sleep(0.02)
    started = children(mesh.process.pid)
    mesh.process.send_signal(signal.SIGINT)
    assert mesh.process.wait(STOP_S) == 0
    assert all(is_gone(pid) for pid in started)
    assert not folder.exists()


def test_wrong_arguments() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.mesh", "--nodes", "0"],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        timeout=20.0,
    )
    assert done.returncode == 2
    assert "--nodes is from 1 to 20" in done.stderr


# --- as a fixture; nodes alone are enough to see that they are what is called ---


@pytest.fixture
async def nodes() -> AsyncIterator[Mesh]:
    """Two nodes without engines: each is a server of its own."""
    with temporary_folder() as folder:
        mesh = Mesh(folder, nodes=2, settings=CHEAP)
        try:
            await mesh.start_nodes()
            yield mesh
        finally:
            await mesh.stop()


async def answers(mesh: Mesh, number: int, timeout_s: float = 5.0) -> bool:
    """Whether a client gets an answer from a node: the refusal of a login."""
    async with aio.insecure_channel(mesh.targets[number]) as channel:
        stub = account_service_pb2_grpc.AccountServiceStub(channel)
        try:
            await stub.LogIn(
                pb.LogInRequest(username="nobody", password=PASSWORD), timeout=timeout_s
            )
        except aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.UNAUTHENTICATED
    return False


async def test_what_is_done_to_nodes(nodes: Mesh) -> None:
    died: asyncio.Queue[str] = asyncio.Queue()

    async def note(name: str, _log: str) -> None:
        died.put_nowait(name)

    watching = asyncio.ensure_future(nodes.watch(note, every_s=0.02))
    assert await answers(nodes, 0)
    assert await answers(nodes, 1)

    await nodes.freeze_node(0)
    assert nodes.nodes[0].running
    assert not await answers(nodes, 0, timeout_s=0.5)
    assert await answers(nodes, 1)
    await nodes.thaw_node(0)
    assert await answers(nodes, 0)

    pid, target = nodes.nodes[0].pid, nodes.nodes[0].target
    await nodes.kill_node(0)
    assert is_gone(pid)
    await nodes.restart_node(0)
    assert nodes.nodes[0].target == target
    assert await answers(nodes, 0)

    pid = nodes.nodes[1].pid
    await nodes.restart_node(1)
    assert nodes.nodes[1].pid != pid
    assert "draining" in nodes.nodes[1].log.read_text()
    await nodes.stop_node(1)
    assert died.empty()  # all of that was wanted

    os.kill(nodes.nodes[0].pid, signal.SIGKILL)
    async with asyncio.timeout(5.0):
        assert await died.get() == "n1"
    watching.cancel()


async def test_a_node_that_does_not_start() -> None:
    with temporary_folder() as folder:
        mesh = Mesh(folder, nodes=2, settings=CHEAP)
        mesh.nodes[1].settings["CHINWAG_LIMITS_REACTIONS"] = "many"
        try:
            with pytest.raises(EngineError, match=r"limits\.reactions \(from CHINWAG_LIMITS_REAC"):
                await mesh.start_nodes()
            with pytest.raises(EngineError, match="chinwag migrate failed:\nchinwag migrate: "):
                await mesh.migrate()
        finally:
            await mesh.stop()
        assert not any(node.running for node in mesh.nodes)
