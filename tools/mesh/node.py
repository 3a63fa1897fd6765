"""One node of a mesh as a child process."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

from tools.engines.process import Child, free_port

HOST = "127.0.0.1"
READY_S = 60.0
STOP_S = 20.0  # its drain time and some more
ASK_S = 1.0
METRICS_S = 10.0


class MeshNode:
    """`chinwag serve`: started, drained, killed, frozen and started again, at the same ports.

    Args:
        folder: Of its data and its log; made if it is not there.
        environment: Without settings of chinwag.

    Attributes:
        settings: CHINWAG_... variables; what is changed here holds from the next start.
        target: HOST:PORT for clients.
        is_wanted: Whether it should run: it was started, and nobody has stopped or killed it since.
    """

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / "log"
        self.port, self.http_port, self.mesh_port = (free_port(HOST) for _ in range(3))
        self.settings = {
            "CHINWAG_DATA_DIR": str(folder / "data"),
            "CHINWAG_LISTEN_PORT": str(self.port),
            "CHINWAG_HTTP_PORT": str(self.http_port),
            "CHINWAG_MESH_PORT": str(self.mesh_port),
        }
        self.is_wanted = False
        self._environment = dict(environment)
        self._child: Child | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def target(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._child is not None, f"{self.name} is not started"
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether there is a process, also a frozen one."""
        return self._child is not None and self._child.running

    def environment(self) -> dict[str, str]:
        """What its process gets; also for other commands that need its settings."""
        return self._environment | self.settings

    def spawn(self) -> None:
        """Starts it without waiting until it serves."""
        self._child = Child(
            f"node {self.name}",
            [sys.executable, "-m", "chinwag_server.cli", "serve"],
            log=self.log,
            ready=self.serves,
            ready_s=READY_S,
            stop_s=STOP_S,
            env=self.environment(),
        )
        self._child.spawn()
        self.is_wanted = True

    def wait_ready(self) -> None:
        """Waits until it says that it serves.

        Raises:
            EngineError: It ended, or does not in time; the text has the end of its log.
        """
        assert self._child is not None, f"{self.name} is not started"
        self._child.wait_ready()

    def serves(self) -> bool:
        """Whether its page of health says so."""
        try:
            return self._page("/healthz", ASK_S)[0] == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def metric(self, name: str) -> float:
        """A number of its page of metrics, one without labels.

        Raises:
            OSError: It does not answer.
            KeyError: There is no such number.
        """
        for line in self._page("/metrics", METRICS_S)[1].decode().splitlines():
            told, _, number = line.partition(" ")
            if told == name:
                return float(number)
        raise KeyError(name)

    def _page(self, path: str, timeout_s: float) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, self.http_port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def wait(self, timeout_s: float) -> int:
        """The exit code of one that ends by itself.

        Raises:
            EngineError: It does not, in time; the text has the end of its log.
        """
        assert self._child is not None, f"{self.name} is not started"
        return self._child.wait(timeout_s)

    def stop(self) -> None:
        """SIGTERM: it drains; it is killed if that takes too long."""
        self.is_wanted = False
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        self.is_wanted = False
        if self._child is not None:
            self._child.kill()

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nothing is answered."""
        if self._child is not None:
            self._child.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        if self._child is not None:
            self._child.thaw()

    def tail(self) -> str:
        """The end of its log."""
        return self._child.tail() if self._child is not None else "(not started)"
