"""Clients that others wrote, each started for real, against the wire and its reference."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.envoy import envoy
from bench.process import Server
from tests.wire.compat import programs
from tests.wire.compat.gen import compat_pb2 as pb
from tests.wire.compat.serving import serving

REPOSITORY = Path(__file__).parents[3]
CLIENT_TIMEOUT_S = 90.0
PYTHON = {
    "grpcio": ("sync",),
    "grpc.aio, probing": ("aio", "probe"),
    "grpc.aio, calm": ("aio", "calm"),
    "grpclib": ("pure",),
}


async def output_of(command: Sequence[str | Path], timeout_s: float = CLIENT_TIMEOUT_S) -> bytes:
    """What a program prints; it is ended if it takes too long."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), timeout_s)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()[-3000:]
    return out


def check(out: bytes, least: int) -> None:
    """Each line of a client is a check that holds."""
    lines = [json.loads(line) for line in out.splitlines()]
    failed = [line for line in lines if not line["ok"]]
    assert not failed, "\n".join(f"{line['check']}: {line['detail']}" for line in failed)
    assert len(lines) >= least


@pytest.mark.parametrize("core", ["wire", "grpcio"])
@pytest.mark.parametrize("client", PYTHON)
async def test_python(client: str, core: str) -> None:
    program, *arguments = PYTHON[client]
    async with serving(core) as target:
        module = f"tests.wire.compat.python.{program}"
        check(await output_of([sys.executable, "-m", module, target, *arguments]), 6)


@pytest.mark.parametrize("core", ["wire", "grpcio"])
@pytest.mark.parametrize("window", ["probing", "fixed"])
@pytest.mark.timeout(400)
async def test_go(window: str, core: str) -> None:
    async with serving(core) as target:
        check(await output_of([*programs.go_client(), target, window]), 6)


@pytest.mark.soak
@pytest.mark.parametrize("client", ["node_client", "java_client", "rust_client"])
async def test_other_languages(client: str) -> None:
    command = getattr(programs, client)()
    async with serving("wire") as target:
        check(await output_of([*command, target]), 9)


@pytest.mark.soak
@pytest.mark.parametrize("client", ["grpcio", "grpc.aio, calm", "grpclib", "go"])
async def test_behind_envoy(client: str, tmp_path: Path) -> None:
    """Envoy is the client of the wire."""
    if client == "go":
        command: list[str | Path] = [*programs.go_client()]
    else:
        command = [sys.executable, "-m", f"tests.wire.compat.python.{PYTHON[client][0]}"]
    async with serving("wire") as target:
        with envoy(tmp_path, Server(os.getpid(), target, 0.0, tmp_path / "log")) as proxy:
            check(await output_of([*command, proxy.address]), 6)


async def test_curl_calls_a_method(tmp_path: Path) -> None:
    request = pb.EchoRequest(payload=b"hello").SerializeToString()
    body = tmp_path / "body"
    body.write_bytes(b"\0" + len(request).to_bytes(4, "big") + request)
    async with serving("wire") as target:
        out = await output_of(
            [
                *("curl", "--silent", "--http2-prior-knowledge", "--max-time", "10"),
                *("-H", "content-type: application/grpc", "-H", "te: trailers"),
                *("--data-binary", f"@{body}", f"http://{target}/compat.v1.Compat/Echo"),
            ]
        )
    answer = pb.EchoResponse(payload=b"hello").SerializeToString()
    assert out == b"\0" + len(answer).to_bytes(4, "big") + answer


async def test_curl_is_told_what_lives_here() -> None:
    async with serving("wire") as target:
        out = await output_of(
            [
                *("curl", "--silent", "--http2-prior-knowledge", "--max-time", "10"),
                *("-w", "%{http_code}", f"http://{target}/"),
            ]
        )
    assert b"gRPC server" in out
    assert out.endswith(b"415")
