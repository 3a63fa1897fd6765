"""The process that an SDK runs in: JSON lines in, JSON lines out. README.md says which."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TYPESCRIPT = ROOT / "sdk" / "typescript"
# Lines of a driver may hold a whole page of messages.
LINE_BYTES = 1 << 20
STOP_S = 5.0


SDKS = ("python", "typescript")


def build(sdk: str, folder: Path) -> list[str] | None:
    """Makes an SDK's driver ready, and says how it is started.

    Args:
        folder: For what has to be built.

    Returns:
        None: the SDK is not installed here.
    """
    if sdk == "python":
        return [sys.executable, "-m", "tests.conformance.python_driver"]
    node, esbuild = shutil.which("node"), TYPESCRIPT / "node_modules" / ".bin" / "esbuild"
    if node is None or not esbuild.exists():
        return None
    # One file starts in a third of the time that a hundred take.
    made = folder / "typescript_driver.mjs"
    options = ["--bundle", "--platform=node", "--format=esm", "--log-level=error"]
    source = HERE / "typescript_driver.mts"
    subprocess.run([esbuild, source, *options, f"--outfile={made}"], check=True, timeout=60)
    return [node, str(made)]


class Driver:
    """A driver process.

    Args:
        sdk: Whose.
        command: How it is started.

    Attributes:
        changed: Called whenever something came.
        events: What the application saw and no step has taken.
        replies: The answers to commands, by number.
    """

    def __init__(self, sdk: str, command: list[str]) -> None:
        self.sdk = sdk
        self.changed: Callable[[], None] = lambda: None
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._number = 0
        self.events: list[dict[str, Any]] = []
        self.connections: list[dict[str, Any]] = []
        self.replies: dict[int, dict[str, Any]] = {}
        self.has_ended = False

    async def start(self) -> None:
        """Starts the process; its commands wait in the pipe until it reads."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            limit=LINE_BYTES,
        )
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            if "reply" in said:
                self.replies[said.pop("reply")] = said
            elif said["type"] == "ConnectionChanged":
                self.connections.append(said)
            else:
                self.events.append(said)
            self.changed()
        self.has_ended = True
        self.changed()

    def do(self, command: dict[str, Any]) -> int:
        """Gives a command; its number is that of the reply."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._number += 1
        line = json.dumps({"number": self._number, **command})
        self._process.stdin.write(line.encode() + b"\n")
        return self._number

    async def stop(self) -> None:
        """Ends the process: it ends with its input."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()
        if self._reader is not None:
            await self._reader
