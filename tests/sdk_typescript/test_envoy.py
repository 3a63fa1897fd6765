"""The TypeScript SDK through the real Envoy: its own checks, in Node."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.envoy.front import front

TYPESCRIPT = Path(__file__).parents[2] / "sdk" / "typescript"
RUN_S = 90


def test_streams_over_websocket_and_calls_over_grpc_web(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not (TYPESCRIPT / "node_modules" / "tsx").is_dir():
        pytest.skip("needs Node, and `npm ci` in sdk/typescript")
    with front(tmp_path / "data") as running:
        settings = {
            "CHINWAG_URL": f"https://localhost:{running.port}",
            "NODE_EXTRA_CA_CERTS": running.where["ca"],
        }
        done = subprocess.run(
            [node, "--import", "tsx", "test/live/envoy.ts"],
            cwd=TYPESCRIPT,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("ok\n")
