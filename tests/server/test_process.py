"""`chinwag serve` as a process: it starts, says where, drains on a signal, survives kill -9."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from chinwag.chat.v1 import channel_pb2, chat_service_pb2_grpc
from chinwag.chat.v1 import chat_service_pb2 as pb
from chinwag_server.cli.exits import Exit
from tests.server.process import REPOSITORY, ServerProcess, wait_until
from tests.server.serving import bearer

MODULE = "tests.server.standin_serve"


@pytest.fixture
def process(tmp_path: Path, adapter: str) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path / "data", module=MODULE)
    yield process
    process.kill()


def call(process: ServerProcess, method: str, request: Any) -> Any:
    """Calls ChatService as Ann, over a connection of its own."""
    with grpc.insecure_channel(process.target) as channel:
        stub: Any = chat_service_pb2_grpc.ChatServiceStub(channel)
        return getattr(stub, method)(
            request, metadata=bearer("ann/1"), wait_for_ready=True, timeout=10
        )


def serve(*flags: str) -> subprocess.CompletedProcess[str]:
    """A server that must end by itself."""
    return subprocess.run(
        [sys.executable, "-m", MODULE, "serve", *flags],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        cwd=REPOSITORY,
    )


def test_sigterm_drains_and_ends_with_0(process: ServerProcess) -> None:
    process.start()
    call(process, "ListChannels", pb.ListChannelsRequest())
    started = time.monotonic()
    assert process.stop() == Exit.OK
    assert time.monotonic() - started < 5
    lines = [json.loads(line) for line in process.log.read_text().splitlines()]
    assert [line["message"] for line in lines][-2:] == ["draining", "stopped"]


def test_kill_9_keeps_what_was_answered(process: ServerProcess) -> None:
    process.start()
    port = process.port
    request = pb.CreateChannelRequest(
        kind=channel_pb2.CHANNEL_KIND_GROUP, name="g", member_user_ids=["bob"]
    )
    channel_id = call(process, "CreateChannel", request).channel.channel.id
    process.kill()
    process.start()
    assert process.port == port
    got = call(process, "GetChannel", pb.GetChannelRequest(channel_id=channel_id))
    assert got.channel.channel.name == "g"


def test_a_second_signal_ends_it_at_once(process: ServerProcess) -> None:
    process.start()
    with grpc.insecure_channel(process.target) as channel:
        stub: Any = chat_service_pb2_grpc.ChatServiceStub(channel)
        request = pb.SyncRequest(wait=Duration(seconds=60))
        waiting = stub.Sync.future(request, metadata=bearer("ann/1"), timeout=60)
        time.sleep(0.5)
        process.signal(signal.SIGINT)
        wait_until(lambda: "draining" in process.log.read_text())
        time.sleep(0.2)
        assert not waiting.done()
        started = time.monotonic()
        process.signal(signal.SIGINT)
        assert process.wait() == Exit.INTERRUPTED
        assert time.monotonic() - started < 1


def test_the_drain_is_bounded(process: ServerProcess) -> None:
    process.start("--deadlines-drain-ms", "1000")
    with grpc.insecure_channel(process.target) as channel:
        stub: Any = chat_service_pb2_grpc.ChatServiceStub(channel)
        request = pb.SyncRequest(wait=Duration(seconds=60))
        stub.Sync.future(request, metadata=bearer("ann/1"), timeout=60)
        time.sleep(0.5)
        started = time.monotonic()
        assert process.stop() == Exit.OK
        assert time.monotonic() - started < 2


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = serve("--data", str(tmp_path / "data"), "--port", str(port))
    assert done.returncode == Exit.LOCAL
    assert done.stderr.startswith(f"chinwag serve: cannot listen on 127.0.0.1:{port}")
    assert len(done.stderr.splitlines()) == 1


def test_a_second_server_on_the_same_data(process: ServerProcess) -> None:
    process.start()
    done = serve("--data", str(process.data_dir), "--port", "0")
    assert done.returncode == Exit.LOCAL
    assert f"pid {process.pid}" in done.stderr


def test_a_public_bind_without_tls(tmp_path: Path) -> None:
    done = serve("--data", str(tmp_path / "data"), "--host", "0.0.0.0")
    assert done.returncode == Exit.LOCAL
    assert "--insecure" in done.stderr


def test_what_it_says_to_people(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, "serve", "--data", str(tmp_path / "data"), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=REPOSITORY,
    )
    try:
        assert process.stdout is not None
        text = "".join(iter(process.stdout.readline, "\n")) + process.stdout.readline()
        assert "serves on 127.0.0.1:" in text
        assert "chinwag signup NAME --server 127.0.0.1:" in text
    finally:
        process.kill()
        process.communicate()
