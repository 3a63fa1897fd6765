"""`chinwag serve` runs on uvloop where it is installed, and on asyncio's own loop elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import account_service_pb2_grpc
from tests.server.process import ServerProcess


def answers(process: ServerProcess) -> bool:
    """Whether a call comes back."""
    with grpc.insecure_channel(process.target) as channel:
        stub: Any = account_service_pb2_grpc.AccountServiceStub(channel)
        return bool(stub.GetJwks(pb.GetJwksRequest(), timeout=10).keys)


def has_uvloop(process: ServerProcess) -> bool:
    """Whether uvloop's library is mapped into the process."""
    return "/uvloop/" in Path(f"/proc/{process.pid}/maps").read_text()


def test_uvloop_where_it_is(server_process: ServerProcess) -> None:
    server_process.start()
    assert has_uvloop(server_process)
    assert answers(server_process)
    assert server_process.stop() == 0


def test_plain_asyncio_where_it_is_not(
    server_process: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uvloop.py").write_text("raise ImportError('not installed')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    server_process.start()
    assert not has_uvloop(server_process)
    assert answers(server_process)
    assert server_process.stop() == 0
