"""A whole node: health, reflection, the HTTP port, its lock, its end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]
    reflection_pb2,
    reflection_pb2_grpc,
)

from chinwag_server.datadir import DataDirError
from tests.server.fixtures import StartNode
from tests.server.serving import Served, refusal
from tests.server.standin import StandInAccount

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def get(port: int, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of an HTTP request."""
    return await http(port, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


async def http(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, body


async def test_health(bare_server: Served) -> None:
    health = bare_server.stub(health_pb2_grpc.HealthStub)

    async def check(service: str) -> Any:
        return (await health.Check(health_pb2.HealthCheckRequest(service=service))).status

    assert await check("") == SERVING
    assert await check("chinwag.chat.v1.ChatService") == SERVING
    assert await check("chinwag.account.v1.AccountService") == SERVING
    assert await check("chinwag.presence.v1.PresenceService") == NOT_SERVING
    assert await check("chinwag.push.v1.PushService") == NOT_SERVING
    call = health.Check(health_pb2.HealthCheckRequest(service="no.such"))
    assert (await refusal(call))[0] is StatusCode.NOT_FOUND


async def test_health_watch_sees_the_drain(bare_server: Served) -> None:
    watch = bare_server.stub(health_pb2_grpc.HealthStub).Watch(
        health_pb2.HealthCheckRequest(service="chinwag.chat.v1.ChatService")
    )
    assert (await watch.read()).status == SERVING
    drain = asyncio.ensure_future(bare_server.node.drain())
    assert (await watch.read()).status == NOT_SERVING
    await asyncio.wait_for(drain, 2)


async def test_reflection(bare_server: Served) -> None:
    stub = bare_server.stub(reflection_pb2_grpc.ServerReflectionStub)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="chinwag.chat.v1.ChatService"
        ),
    ]
    services, file = [answer async for answer in stub.ServerReflectionInfo(iter(requests))]
    names = {service.name for service in services.list_services_response.service}
    assert {
        "chinwag.account.v1.AccountService",
        "chinwag.chat.v1.ChatService",
        "chinwag.presence.v1.PresenceService",
        "chinwag.push.v1.PushService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    } == names
    described = descriptor_pb2.FileDescriptorProto.FromString(
        file.file_descriptor_response.file_descriptor_proto[0]
    )
    assert described.name == "chinwag/chat/v1/chat_service.proto"


async def test_the_http_port(bare_server: Served) -> None:
    port = bare_server.node.http_port
    status, headers, body = await get(port, "/healthz")
    assert (status, json.loads(body)) == (200, {"status": "serving"})
    assert headers["content-type"] == "application/json"
    assert await get(port, "/healthz?x=1", "HEAD") == (200, headers, b"")
    status, _, body = await get(port, "/.well-known/jwks.json")
    assert (status, json.loads(body)) == (200, {"keys": []})
    assert (await get(port, "/"))[0] == 404
    assert (await get(port, "/metrics/"))[0] == 404
    status, headers, _ = await get(port, "/metrics", "POST")
    assert (status, headers["allow"]) == (405, "get, head")


async def test_bad_http(bare_server: Served) -> None:
    port = bare_server.node.http_port
    assert (await http(port, b"GET /healthz\r\n\r\n"))[0] == 400
    assert (await http(port, b"\x16\x03\x01\x00\xff\r\n\r\n"))[0] == 400
    long = b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n"
    assert (await http(port, long))[0] == 431
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET")
    writer.close()
    # Many that say nothing do not keep the next one out for long, and are bounded.
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(70)]
    await asyncio.sleep(0.05)
    assert (await http(port, b""))[0] == 503
    for _, one in silent:
        one.close()
    await asyncio.sleep(0.05)
    assert (await get(port, "/healthz"))[0] == 200


async def test_no_http_port(start_node: StartNode) -> None:
    server = await start_node(open_account=StandInAccount, http__enabled=False)
    assert server.node.http_port == 0


async def test_a_second_server_on_the_same_data_is_refused(
    start_node: StartNode, bare_server: Served
) -> None:
    with pytest.raises(DataDirError, match="in use by another process"):
        await start_node(open_account=StandInAccount)
    # The first one did not suffer.
    health = bare_server.stub(health_pb2_grpc.HealthStub)
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == SERVING


async def test_a_stopped_node_leaves_everything_free(start_node: StartNode) -> None:
    first = await start_node(open_account=StandInAccount)
    port = first.node.port
    await first.close()
    second = await start_node(open_account=StandInAccount, listen__port=port)
    assert second.node.port == port
    await second.close()
    await second.node.stop()


async def test_a_data_directory_that_cannot_be_made(start_node: StartNode, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirError, match="cannot be made"):
        await start_node(open_account=StandInAccount, data_dir=tmp_path / "file" / "x")


async def test_two_nodes_in_one_process(start_node: StartNode, tmp_path: Path) -> None:
    nodes = [
        await start_node(open_account=StandInAccount, data_dir=tmp_path / name) for name in "ab"
    ]
    for served in nodes:
        health = served.stub(health_pb2_grpc.HealthStub)
        await health.Check(health_pb2.HealthCheckRequest())
    assert isinstance(nodes[0].channel(), aio.Channel)
