"""A real node in a process of its own, for tests without an event loop: grpc.aio allows one loop a
process (reference: grpc.aio, where it is used)."""

from __future__ import annotations

import select
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

_SERVE = """
import asyncio, sys
from pathlib import Path
from chinwag_server.node import Node
from tests.server.serving import settings_for
from tests.server.standin import StandInAccount

async def main(data, port):
    node = Node(settings_for(Path(data), listen__port=port), open_account=StandInAccount)
    await node.start()
    print(node.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await node.stop()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


class NodeProcess:
    """A node with stand-in accounts (a token is "USER/DEVICE")."""

    def __init__(self, data_dir: Path, *, port: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(data_dir), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], 20)
        line = self._process.stdout.readline() if ready else ""
        assert line, "the node did not start"
        self.port = int(line)
        self.target = f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
