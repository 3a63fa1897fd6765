"""`chinwag serve` as a child process that a test starts, stops and kills."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 20.0


class ServerProcess:
    """A server process; after `start` it can be stopped or killed and started again, on the same
    data and the same port.

    Args:
        data_dir: Of the node.
        flags: More flags of `chinwag serve`.
        module: What runs as `python -m`.

    Attributes:
        target: "127.0.0.1:PORT".
        log: Its standard error output, of all its starts.
    """

    def __init__(self, data_dir: Path, *flags: str, module: str = "chinwag_server.cli") -> None:
        self.data_dir = data_dir
        self.module = module
        self.flags = flags
        self.port = 0
        self.http_port = 0
        self.log = data_dir.parent / f"{data_dir.name}.log"
        self._process: subprocess.Popen[str] | None = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not started"
        return self._process.pid

    def start(self, *flags: str) -> ServerProcess:
        """Starts it and waits until it says where it listens."""
        assert self._process is None, "the server runs already"
        command = [sys.executable, "-m", self.module, "serve", "--json"]
        command += ["--data", str(self.data_dir), "--port", str(self.port)]
        command += ["--account-argon2-memory-kib", "64", "--account-argon2-passes", "1"]
        with self.log.open("a") as log:
            process = subprocess.Popen(
                [*command, *self.flags, *flags],
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                text=True,
                cwd=REPOSITORY,
            )
        self._process = process
        line = self._first_line(process)
        told: dict[str, Any] = json.loads(line)
        self.port, self.http_port = told["port"], told["http_port"]
        return self

    def _first_line(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
        line = process.stdout.readline() if ready else ""
        if not line:
            self.kill()
            raise AssertionError(f"the server did not start:\n{self.log.read_text()[-4000:]}")
        return line

    def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does; nothing if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._end(self._process, STOP_TIMEOUT_S)

    def stop(self) -> int:
        """SIGTERM; the exit code, which must come in time."""
        assert self._process is not None, "the server is not started"
        process = self._process
        process.send_signal(signal.SIGTERM)
        try:
            return self._end(process, STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def signal(self, number: int) -> None:
        """Sends a signal."""
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """The exit code of a process that ends by itself."""
        assert self._process is not None, "the server is not started"
        return self._end(self._process, timeout_s)

    def _end(self, process: subprocess.Popen[str], timeout_s: float) -> int:
        code = process.wait(timeout_s)
        assert process.stdout is not None
        process.stdout.close()
        self._process = None
        return code

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until(true: Any, timeout_s: float = 10.0) -> None:
    """Polls until something holds."""
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)
