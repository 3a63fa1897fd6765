"""A front with the built page, and Node scripts that drive Chromium through it.

A script asks for what only this side can do by a line on its output, `@ <command>`, and gets `ok`
on its input when it is done.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import shutil
import signal
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.envoy.front import FrontProcess, front, wait_until

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
PAGE = WEB / "dist"
SCRIPTS = WEB / "test" / "browser"
SCREENSHOTS = ROOT / "docs" / "screenshots"
CHROMIUM = "chromium"
SCRIPT_S = 100.0


def needed() -> str:
    """Why there can be no test in a browser here; "" if there can."""
    missing = [name for name in ("node", CHROMIUM) if shutil.which(name) is None]
    if not (WEB / "node_modules" / "playwright-core").is_dir():
        missing.append("web/node_modules (npm --prefix web ci)")
    if not (PAGE / "index.html").is_file():
        missing.append("web/dist (npm --prefix web run build)")
    return f"needs {', '.join(missing)}" if missing else ""


@dataclass(slots=True)
class Stage:
    """A front that scripts play against.

    Attributes:
        settings: More of a script's environment.
    """

    running: FrontProcess
    settings: dict[str, str] = field(default_factory=dict)

    def play(self, script: str) -> list[str]:
        """Runs a script to its end.

        Returns:
            The lines that it printed, without its commands.
        """
        settings = {
            "CHINWAG_URL": self.running.where["web"],
            "CHINWAG_SPKI": _key_hash(self.running.port),
            "CHROMIUM": shutil.which(CHROMIUM) or CHROMIUM,
            "SCREENSHOTS": str(SCREENSHOTS) if os.environ.get("UPDATE_SCREENSHOTS") else "",
            **self.settings,
        }
        process = subprocess.Popen(
            ["node", str(SCRIPTS / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **settings},
            start_new_session=True,
        )
        # Chromium is of the script's process group, and must not outlive it.
        end = threading.Timer(SCRIPT_S, _kill_group, (process.pid,))
        end.start()
        assert process.stdin is not None
        assert process.stdout is not None
        said: list[str] = []
        try:
            for line in process.stdout:
                command = line.removeprefix("@ ").strip()
                if not line.startswith("@ "):
                    said.append(line.rstrip())
                    continue
                self._do(command)
                process.stdin.write("ok\n")
                process.stdin.flush()
            code = process.wait()
        finally:
            end.cancel()
            _kill_group(process.pid)
            process.wait()
            process.stdin.close()
            process.stdout.close()
        assert code == 0, "\n".join(said[-80:])
        return said

    def _do(self, command: str) -> None:
        if command == "kill node":
            self.running.kill()
        elif command == "start node":
            self._start_again()
        elif command == "kill envoy":
            self._kill_envoy()
        else:
            raise AssertionError(f"{command!r}: no such command")

    def _start_again(self) -> None:
        """Starts what was killed at the port where it was."""
        port = urlsplit(self.running.where["web"]).port
        more = ("--envoy-port", str(port), "--envoy-plain-port", "0")
        self.running.start(*more)

    def _kill_envoy(self) -> None:
        """Kills Envoy alone: the node starts it again."""
        # Once a start: the next one's number is not known, and the old one may become another's.
        pid = int(self.running.where.pop("envoy_pid"))
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: _serves(self.running.port))


@contextlib.contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """A stage with a front of its own, which may be killed; a skip where there can be none."""
    if why := needed():
        pytest.skip(why)
    settings = {"CHINWAG_ENVOY_PAGE_DIR": str(PAGE)}
    with front(folder / "data", settings) as running:
        yield Stage(running)


def _key_hash(port: int) -> str:
    """The hash of the front's key, by which Chromium is told to trust its certificate."""
    pem = ssl.get_server_certificate(("localhost", port))
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(spki).digest()).decode()


def _serves(port: int) -> bool:
    try:
        ssl.get_server_certificate(("localhost", port), timeout=2.0)
    except OSError:
        return False
    return True


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
