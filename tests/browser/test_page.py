"""The web page in the real Chromium, over TLS, through the real Envoy: each scenario is a script of
web/test/scenes."""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.envoy.front import FrontProcess, wait_until
from tools.engines.process import free_port

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = sorted((ROOT / "web/test/scenes").glob("*.mjs"))
SCENARIO_S = 110


class Stage:
    """A front that scenarios may break: always on the same ports."""

    def __init__(self, folder: Path) -> None:
        self.process = FrontProcess(folder / "data", {"CHINWAG_ENVOY_REQUESTS_BURST": "10000"})
        self._ports = ["--envoy-port", str(free_port()), "--envoy-plain-port", "0"]
        self._runs = False
        self.start()

    def start(self) -> None:
        self.process.start(*self._ports)
        self._runs = True

    def stop(self) -> None:
        if self._runs:
            self._runs = False
            self.process.stop()

    def obey(self, what: str) -> None:
        """Does what a scenario asks for."""
        if what == "kill envoy":
            os.kill(int(self.process.where["envoy_pid"]), signal.SIGKILL)
            self._learn_pid()
        elif what == "kill":
            self.process.kill()
            self._runs = False
        elif what == "stop":
            self.stop()
        elif what == "start":
            self.start()
        else:
            raise ValueError(what)

    def _learn_pid(self) -> None:
        old = self.process.where["envoy_pid"]

        def is_new() -> bool:
            found = subprocess.run(
                ["pgrep", "-f", str(self.process.data.absolute() / "envoy/envoy.json")],
                capture_output=True,
                text=True,
                check=False,
            ).stdout.split()
            new = [pid for pid in found if pid != old]
            if new:
                self.process.where["envoy_pid"] = new[0]
            return bool(new)

        wait_until(is_new)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    page = ROOT / "server/chinwag_server/envoy/page/index.html"
    assert page.exists(), "the page is not built: run make page"
    assert shutil.which("chromium"), "there is no Chromium: run make page, or apt install chromium"
    stage = Stage(tmp_path_factory.mktemp("browser"))
    yield stage
    stage.stop()


@pytest.fixture(scope="module")
def control(stage: Stage) -> Iterator[str]:
    """Where scenarios ask for what is to break."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            what = self.rfile.read(int(self.headers["content-length"])).decode()
            try:
                stage.obey(what)
            except Exception as error:
                self.send_error(500, str(error))
            else:
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "script", [one for one in SCENARIOS if one.name != "stage.mjs"], ids=lambda one: one.stem
)
def test_page(stage: Stage, control: str, script: Path) -> None:
    pictures = ROOT / "docs/screenshots" if os.environ.get("UPDATE_SCREENSHOTS") else ""
    environment = {
        **os.environ,
        "CHINWAG_PAGE": f"{stage.process.where['web']}/",
        "CHINWAG_CONTROL": control,
        "CHINWAG_SCREENSHOTS": str(pictures),
    }
    done = subprocess.run(
        ["node", script],
        cwd=ROOT / "web",
        env=environment,
        capture_output=True,
        text=True,
        timeout=SCENARIO_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
