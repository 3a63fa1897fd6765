"""A control plane on real etcd, nodes that have registered, and those who ask it where they are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STOP_S = 20


@contextmanager
def xds(folder: Path, *flags: str) -> Iterator[str]:
    """`chinwag xds`; gives where it listens."""
    command = [sys.executable, "-m", "chinwag_server.cli", "xds", "--json", "--data", str(folder)]
    process = subprocess.Popen(
        [*command, "--xds-port", "0", *flags], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the control plane did not start"
        yield json.loads(line)["target"]
    finally:
        process.terminate()
        assert process.wait(STOP_S) == 0
        assert process.stdout is not None
        process.stdout.close()


def bootstrap(target: str) -> dict[str, str]:
    """The environment of a gRPC client that asks the control plane (gRFC A27)."""
    config: Mapping[str, Any] = {
        "xds_servers": [
            {
                "server_uri": target,
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": "test"},
    }
    return {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(config)}


# Calls `xds:///chinwag` again and again, and prints which node answered.
PROXYLESS = """
import sys, time
import grpc
channel = grpc.insecure_channel("xds:///chinwag")
call = channel.unary_unary("/test.Node/Name")
while True:
    try:
        print(call(b"", timeout=5, wait_for_ready=False).decode(), flush=True)
    except grpc.RpcError as error:
        print(error.code().name, flush=True)
    time.sleep(0.05)
"""
