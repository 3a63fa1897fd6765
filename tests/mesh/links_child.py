"""A node in a process of its own, which a test may freeze and kill.

python -m tests.mesh.links_child NODE_ID OTHER_ID OTHER_ADDRESS: prints its port, and lives until
its standard input ends.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys

from chinwag_server.mesh.grpc_links import GrpcLinks, LinkOptions
from tests.mesh.grpc_mesh import CLUSTER
from tests.mesh.links_contract import Node
from tests.server.process import REPOSITORY

START_S = 20.0


class Child:
    """The process, as its test sees it."""

    def __init__(self, node_id: str, other_id: str, other_address: str) -> None:
        self.node_id = node_id
        command = [sys.executable, "-m", __name__, node_id, other_id, other_address]
        self._process = process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
        )
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_S)
        line = process.stdout.readline() if ready else ""
        if not line:
            self.kill()
            raise AssertionError(f"the node did not start within {START_S:g} s")
        self.address = f"127.0.0.1:{line.strip()}"

    def freeze(self) -> None:
        """Nothing of it runs, and its connections stay open."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait(START_S)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


async def _main(node_id: str, other_id: str, other_address: str) -> None:
    node = Node(node_id)
    links = GrpcLinks(node_id, CLUSTER, node, LinkOptions())
    await links.start()
    links.follow({other_id: other_address})
    print(links.port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await links.stop()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
