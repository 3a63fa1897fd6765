"""A server of the replay's own: started, killed in between, ended by its process id."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

from chinwag_server.cli.exits import CommandError, Exit

SCOPES = (
    "users:write",
    "tokens:issue",
    "channels:read",
    "channels:write",
    "messages:read",
    "messages:write",
)
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0

# A replay comes from one address and at its own speed: the limits are not what is tried.
_NO_LIMITS = {
    "CHINWAG_LIMITS_EXEMPT_ADDRESSES": "127.0.0.0/8",
    "CHINWAG_LIMITS_USER_SENDS_PER_SECOND": "0",
    "CHINWAG_LIMITS_USER_FRAMES_PER_SECOND": "0",
    "CHINWAG_LIMITS_USER_CALLS_PER_SECOND": "0",
    "CHINWAG_HTTP_ENABLED": "false",
    "CHINWAG_LOG_LEVEL": "warning",
}


class OwnServer:
    """`chinwag serve` as a child process on a free port, its data in a temporary directory.

    Args:
        parent: Where that directory is made; None: where the system has them.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="chinwag-replay-", dir=parent)
        self.data_dir = Path(self._directory.name) / "data"
        self._process: asyncio.subprocess.Process | None = None
        # Kept over restarts, so that clients find the server again.
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self.kills = 0

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self._port}"

    def make_key(self) -> str:
        """An API key of its own, made before it starts."""
        from chinwag_server.account.bootstrap import create_api_key  # noqa: PLC0415

        _, secret = create_api_key(self.data_dir, "replay", list(SCOPES), 0)
        return secret

    async def start(self) -> None:
        """Starts it and waits until it serves.

        Raises:
            CommandError: It does not.
        """
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "chinwag_server.cli",
            "serve",
            "--json",
            "--data",
            str(self.data_dir),
            "--port",
            str(self._port),
            env={**os.environ, **_NO_LIMITS},
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), START_TIMEOUT_S)
            json.loads(line)
        except (TimeoutError, ValueError) as error:
            await self.stop()
            raise CommandError("the replay's own server did not start", Exit.FAILED) from error

    async def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        self.kills += 1

    async def stop(self) -> None:
        """Ends it in good order."""
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        self._process = None

    def remove(self) -> None:
        """Removes its data."""
        self._directory.cleanup()
