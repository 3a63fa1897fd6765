"""`chinwag run` as a process, and short ways to call through its Envoy."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

START_S = 60.0
STOP_S = 30.0
CALL_S = 20.0


@dataclass(slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class FrontProcess:
    """A node with Envoy before it.

    Attributes:
        where: What it printed with --json.
    """

    def __init__(self, data: Path, settings: Mapping[str, str] | None = None) -> None:
        self.data = data
        self._settings = {"CHINWAG_LOG_LEVEL": "warning", **(settings or {})}
        self._process: subprocess.Popen[str] | None = None
        self.where: dict[str, Any] = {}

    def start(self, *more: str) -> None:
        """Starts it, and waits until Envoy serves."""
        command = [sys.executable, "-m", "chinwag_server.cli", "run", "--data", str(self.data)]
        command += ["--port", "0", "--envoy-port", "0", "--json", *more]
        log = self.data.with_suffix(".log").open("a", encoding="utf-8")
        with log:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **self._settings},
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.data.with_suffix(".log").read_text(encoding="utf-8")[-3000:]
        self.where = json.loads(line)

    def stop(self) -> int:
        """Ends it as an operator would; gives its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_S)
        finally:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    # --- calling ---

    @property
    def port(self) -> int:
        """Envoy's, by TLS."""
        return urlsplit(self.where["web"]).port or 443

    @property
    def plain_port(self) -> int:
        """Envoy's, in plain text."""
        return urlsplit(self.where["plain"]).port or 80

    def tls(self) -> ssl.SSLContext:
        """What trusts the certificate for development."""
        return ssl.create_default_context(cafile=self.where["ca"])

    def request(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        token: str = "",
        plain: bool = False,
    ) -> Answer:
        """One HTTP/1.1 request."""
        all_headers = dict(headers or {})
        if token:
            all_headers["authorization"] = f"Bearer {token}"
        if isinstance(body, dict):
            body = json.dumps(body).encode()
            all_headers.setdefault("content-type", "application/json")
        connection = (
            http.client.HTTPConnection("127.0.0.1", self.plain_port, timeout=CALL_S)
            if plain
            else http.client.HTTPSConnection(
                "localhost", self.port, timeout=CALL_S, context=self.tls()
            )
        )
        with contextlib.closing(connection):
            connection.request(method, path, body, all_headers)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())

    def sign_up(self, name: str) -> str:
        """A new user's access token."""
        answer = self.request(
            "POST", "/v1/account:signUp", {"username": name, "password": "correct horse battery"}
        )
        assert answer.status == 200, answer
        token: str = answer.json()["tokens"]["accessToken"]
        return token

    def channel(self) -> grpc.aio.Channel:
        """gRPC over TLS."""
        roots = Path(self.where["ca"]).read_bytes()
        credentials = grpc.ssl_channel_credentials(roots)
        return grpc.aio.secure_channel(f"localhost:{self.port}", credentials)

    async def admin(self, path: str, method: str = "GET") -> bytes:
        """An answer of Envoy's admin interface."""
        socket = self.data.absolute() / "envoy" / "admin.sock"
        reader, writer = await asyncio.open_unix_connection(str(socket))
        head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        async with asyncio.timeout(CALL_S):
            answer = await reader.read()
        writer.close()
        return answer.partition(b"\r\n\r\n")[2]


@contextlib.contextmanager
def front(data: Path, settings: Mapping[str, str] | None = None) -> Iterator[FrontProcess]:
    """A running one."""
    process = FrontProcess(data, settings)
    process.start()
    try:
        yield process
    finally:
        process.stop()


def wait_until(holds: Any, seconds: float = 20.0) -> None:
    """Waits for a condition, as long as it may take."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it does not come"
        time.sleep(0.05)
