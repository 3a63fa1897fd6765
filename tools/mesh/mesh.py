"""Engines and nodes together."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tools.engines.process import EngineError
from tools.mesh.engines import Engines
from tools.mesh.node import MeshNode

MIGRATE_S = 200.0
COMMAND_S = 60.0
# A start that was broken off ends by itself: all that it waits for is killed, again and again.
ABANDONED_S = 60.0
ABANDONED_POLL_S = 0.3

Result = TypeVar("Result")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for a mesh, removed at the end. PostgreSQL's user may enter it."""
    with tempfile.TemporaryDirectory(prefix="chinwag-mesh-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        folder.chmod(0o755)
        yield folder


class Mesh:
    """etcd, Redis, PostgreSQL, Cassandra and nodes, all on free ports of this machine.

    As a context manager it is started and stopped. To change something between engines and nodes
    (a proxy in a node's `settings`), call `start_engines` and `start_nodes` instead.

    Args:
        folder: As of `temporary_folder`.
        nodes: How many.
        settings: CHINWAG_... variables of all nodes. Those of this process do not count.
        etcd_members, cassandra_nodes: 1 or 3 of each.
        small: Whether Cassandra gets little memory.

    Attributes:
        nodes: Numbered from 0 wherever a method takes a number.
    """

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 3,
        settings: Mapping[str, str] | None = None,
        etcd_members: int = 1,
        cassandra_nodes: int = 1,
        small: bool = False,
    ) -> None:
        self._folder = folder
        self._make_engines = lambda: Engines(
            folder, etcd_members=etcd_members, cassandra_nodes=cassandra_nodes, small=small
        )
        self._engines: Engines | None = None
        self._under_way: set[asyncio.Future[Any]] = set()
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("CHINWAG_")
        }
        self._cluster_id = str(uuid.uuid4())
        self.nodes = [
            MeshNode(f"n{number + 1}", folder / f"n{number + 1}", environment)
            for number in range(nodes)
        ]
        for node in self.nodes:
            node.settings = {**(settings or {}), **node.settings}

    @property
    def engines(self) -> Engines:
        """Once they were started."""
        assert self._engines is not None, "the engines are not started"
        return self._engines

    @property
    def targets(self) -> list[str]:
        """HOST:PORT of each node, for clients."""
        return [node.target for node in self.nodes]

    # --- all of it ---

    async def __aenter__(self) -> Mesh:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Starts the engines, makes the schemas and starts the nodes, until each serves.

        Raises:
            EngineError: Something does not start. All is stopped then.
            RuntimeError: An engine's program is not to be had.
        """
        try:
            await self.start_engines()
            await self.migrate()
            await self.start_nodes()
        except BaseException:
            await self.stop()
            raise

    async def start_engines(self) -> None:
        """Starts the engines and tells the nodes of them. Errors are those of `start`."""
        self._engines = await self._in_thread(self._make_engines)
        found = {**self._engines.settings(), "CHINWAG_STORES_CLUSTER_ID": self._cluster_id}
        for node in self.nodes:
            node.settings |= found
        await self._in_thread(self._engines.start)

    async def migrate(self) -> None:
        """`chinwag migrate`. Errors are those of `start`."""
        await self.chinwag("migrate", timeout_s=MIGRATE_S)

    async def start_nodes(self) -> None:
        """Starts all at once and waits until each serves. Errors are those of `start`."""
        for node in self.nodes:
            node.spawn()
        for node in self.nodes:
            await self._in_thread(node.wait_ready)

    async def stop(self) -> None:
        """Drains the nodes, then ends the engines. Ends within a minute, whatever state it is in;
        also after a start that was broken off."""
        await asyncio.gather(*(self._in_thread(node.stop) for node in self.nodes))
        until = asyncio.get_running_loop().time() + ABANDONED_S
        while True:
            await asyncio.to_thread(self.kill_now)
            pending = [one for one in self._under_way if not one.done()]
            if not pending or asyncio.get_running_loop().time() > until:
                return
            await asyncio.wait(pending, timeout=ABANDONED_POLL_S)

    def kill_now(self) -> None:
        """Ends all by SIGKILL, at once; `stop` has nothing left to wait for then."""
        for node in self.nodes:
            node.kill()
        if self._engines is not None:
            self._engines.stop()

    # --- its nodes ---

    async def stop_node(self, number: int) -> None:
        """Drains it."""
        await self._in_thread(self.nodes[number].stop)

    async def kill_node(self, number: int) -> None:
        """SIGKILL."""
        await self._in_thread(self.nodes[number].kill)

    async def freeze_node(self, number: int) -> None:
        """SIGSTOP."""
        self.nodes[number].freeze()

    async def thaw_node(self, number: int) -> None:
        """SIGCONT."""
        self.nodes[number].thaw()

    async def restart_node(self, number: int) -> None:
        """Drains it, if it runs, and starts it again, until it serves.

        Raises:
            EngineError: It does not.
        """
        node = self.nodes[number]
        await self._in_thread(node.stop)
        node.spawn()
        await self._in_thread(node.wait_ready)

    async def watch(
        self, died: Callable[[str, str], Awaitable[None]], *, every_s: float = 0.2
    ) -> None:
        """Tells of each node and engine that ended without being told to, once; never returns.

        Args:
            died: Gets its name and the end of its log.
        """
        told: set[str] = set()
        while True:
            gone = [(node.name, node.tail()) for node in self.nodes if self._is_dead(node)]
            if self._engines is not None:
                gone += self._engines.ended()
            for name, tail in gone:
                if name not in told:
                    await died(name, tail)
            told = {name for name, _ in gone}
            await asyncio.sleep(every_s)

    @staticmethod
    def _is_dead(node: MeshNode) -> bool:
        return node.is_wanted and not node.running

    # --- commands ---

    async def create_api_key(self, scopes: Sequence[str] = ("all",)) -> str:
        """The secret of a new key.

        Raises:
            EngineError: It cannot be made.
        """
        told = await self.chinwag("apikey", "create", "--scopes", ",".join(scopes), "--json")
        secret: str = json.loads(told)["secret"]
        return secret

    async def chinwag(self, *arguments: str, timeout_s: float = COMMAND_S) -> str:
        """What a command prints that has the settings of the first node.

        Raises:
            EngineError: It fails.
        """
        command = [sys.executable, "-m", "chinwag_server.cli", *arguments]
        environment = self.nodes[0].environment()

        def run() -> str:
            try:
                done = subprocess.run(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=timeout_s,
                )
            except subprocess.TimeoutExpired as error:
                raise EngineError(f"chinwag {arguments[0]} did not end: {error}") from error
            if done.returncode:
                raise EngineError(f"chinwag {arguments[0]} failed:\n{done.stderr.strip()}")
            return done.stdout

        return await self._in_thread(run)

    async def _in_thread(self, job: Callable[[], Result]) -> Result:
        """Runs what blocks; `stop` knows of it, also when who waited for it has gone."""
        work = asyncio.ensure_future(asyncio.to_thread(job))
        self._under_way.add(work)
        work.add_done_callback(self._ended)
        # A thread goes on when nobody waits any more.
        return await asyncio.shield(work)

    def _ended(self, work: asyncio.Future[Any]) -> None:
        self._under_way.discard(work)
        if not work.cancelled():
            work.exception()  # nobody may be left to ask for it
