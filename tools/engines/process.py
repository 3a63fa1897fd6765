"""A server as a child process: started, waited for, frozen, killed, started again, stopped."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

POLL_S = 0.02
# Below those that systems give to connections: one of these could take a port that was found free
# before the server that it is for listens.
PORTS = (10_240, 32_000)
_random = random.SystemRandom()


class EngineError(Exception):
    """A server did not start or did not end: the text has the end of its log."""


def free_port(*hosts: str) -> int:
    """A TCP port that nobody listens on now at any of the addresses, 127.0.0.1 if none is named.

    Raises:
        RuntimeError: None was found.
    """
    for _ in range(100):
        port = _random.randrange(*PORTS)
        if all(_is_free(host, port) for host in hosts or ("127.0.0.1",)):
            return port
    raise RuntimeError(f"no port is free on all of {', '.join(hosts)}")


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def listens(host: str, port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=0.5).close()
    except OSError:
        return False
    return True


class Child:
    """One server process and its successors on the same data.

    Args:
        name: For messages.
        command: What runs; never through a shell.
        log: Where its output goes; appended to over restarts.
        ready: Whether it serves now; asked again and again until it does.
        ready_s: How long that may take.
        stop_s: How long it may take to end after `stop_signal`, before it is killed.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        ready: Callable[[], bool],
        ready_s: float,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_s: float = 15.0,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.log = log
        self._ready = ready
        self._ready_s = ready_s
        self._stop_signal = stop_signal
        self._stop_s = stop_s
        self._cwd = cwd
        self._env = dict(env) if env is not None else None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None, f"{self.name} is not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether there is a process, also a frozen one."""
        return self._process is not None and self._process.poll() is None

    def spawn(self) -> None:
        """Starts it without waiting until it serves."""
        assert not self.running, f"{self.name} runs already"
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C is ours to pass on.
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._cwd,
                env=self._env,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Waits until it serves.

        Raises:
            EngineError: It ended, or does not serve in time; then it is killed.
        """
        until = time.monotonic() + self._ready_s
        while not self._ready():
            assert self._process is not None, f"{self.name} is not started"
            if self._process.poll() is not None:
                raise EngineError(f"{self.name} ended at its start:\n{self.tail()}")
            if time.monotonic() > until:
                self.kill()
                raise EngineError(
                    f"{self.name} does not serve after {self._ready_s:.0f} s:\n{self.tail()}"
                )
            time.sleep(POLL_S)

    def start(self) -> None:
        """Starts it and waits until it serves.

        Raises:
            EngineError: As `wait_ready`.
        """
        self.spawn()
        self.wait_ready()

    def stop(self) -> None:
        """Ends it in its own way; kills it if that takes too long."""
        if not self.running:
            return
        self.thaw()
        self._send(self._stop_signal)
        assert self._process is not None
        try:
            self._process.wait(self._stop_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def wait(self, timeout_s: float) -> int:
        """The exit code of one that ends by itself.

        Raises:
            EngineError: It does not, in time.
        """
        assert self._process is not None, f"{self.name} is not started"
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise EngineError(
                f"{self.name} does not end in {timeout_s:.0f} s:\n{self.tail()}"
            ) from error

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        self._send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(10.0)

    def freeze(self) -> None:
        """SIGSTOP: it stands still and holds what it holds."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._send(signal.SIGCONT)

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _send(self, number: signal.Signals) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
