"""Everything through one port of the real Envoy: gRPC, gRPC-Web, JSON, WebSocket, the page."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from chinwag.account.v1 import account_service_pb2, account_service_pb2_grpc
from chinwag.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, connect_pb2
from tests.envoy.front import CALL_S, FrontProcess, front, wait_until

ME = "/v1/account"
GRPC_ME = "/chinwag.account.v1.AccountService/GetMe"


@pytest.fixture(scope="module")
def token(running: FrontProcess) -> str:
    return running.sign_up(f"ann{uuid.uuid4().hex[:8]}")


def framed(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return struct.pack(">BI", 0, len(data)) + data


def grpc_web(
    running: FrontProcess, path: str, message: Any, token: str = "", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """A unary gRPC-Web call: its status, its trailers, the answer's bytes."""
    kind = "application/grpc-web+proto"
    answer = running.request(
        "POST",
        path,
        framed(message),
        {"content-type": kind, "x-grpc-web": "1", **headers},
        token=token,
    )
    if "grpc-status" in answer.headers:
        return int(answer.headers["grpc-status"]), dict(answer.headers), b""
    body, data, trailers = answer.body, b"", dict[str, str]()
    while body:
        flag, size = struct.unpack_from(">BI", body)
        part, body = body[5 : 5 + size], body[5 + size :]
        if flag & 0x80:
            for line in part.decode().strip().splitlines():
                name, _, value = line.partition(":")
                trailers[name.strip()] = value.strip()
        else:
            data = part
    return int(trailers["grpc-status"]), trailers, data


# --- the ways in ---


def test_json(running: FrontProcess, token: str) -> None:
    me = running.request("GET", ME, token=token)
    assert me.status == 200
    assert me.headers["content-type"].startswith("application/json")
    assert me.json()["user"]["username"].startswith("ann")
    plain = running.request("GET", ME, token=token, plain=True)
    assert plain.json()["user"] == me.json()["user"]


def test_an_error_in_json_has_its_reason(running: FrontProcess, token: str) -> None:
    answer = running.request("GET", "/v1/channels/nowhere", token=token)
    assert answer.status == 404
    assert answer.json()["details"][0]["reason"] == "CHANNEL_NOT_FOUND"


async def test_grpc(running: FrontProcess, token: str) -> None:
    async with running.channel() as channel:
        stub = account_service_pb2_grpc.AccountServiceStub(channel)
        me = await stub.GetMe(
            account_service_pb2.GetMeRequest(),
            metadata=(("authorization", f"Bearer {token}"),),
            timeout=CALL_S,
        )
        assert me.user.username.startswith("ann")
        chat = chat_service_pb2_grpc.ChatServiceStub(channel)
        stream = chat.Connect(metadata=(("authorization", f"Bearer {token}"),), timeout=CALL_S)
        hello = connect_pb2.Hello(protocol_version=1)
        await stream.write(connect_pb2.ConnectRequest(hello=hello))
        frame = await stream.read()
        assert isinstance(frame, connect_pb2.ConnectResponse)
        assert frame.HasField("welcome")
        stream.cancel()


def test_grpc_web(running: FrontProcess, token: str) -> None:
    status, _, data = grpc_web(
        running, GRPC_ME, account_service_pb2.GetMeRequest(), token, origin="https://other.example"
    )
    assert status == 0
    assert account_service_pb2.GetMeResponse.FromString(data).user.username.startswith("ann")


async def test_a_websocket(running: FrontProcess, token: str) -> None:
    url = f"wss://localhost:{running.port}/chinwag.chat.v1.ChatService/Connect"
    async with (
        asyncio.timeout(CALL_S),
        connect(
            url,
            ssl=running.tls(),
            subprotocols=[Subprotocol("grpc-websockets")],
            compression=None,
        ) as socket,
    ):
        head = f"content-type: application/grpc-web+proto\r\nauthorization: Bearer {token}\r\n"
        await socket.send(head.encode())
        hello = connect_pb2.ConnectRequest(hello=connect_pb2.Hello(protocol_version=1))
        await socket.send(b"\0" + framed(hello))
        received = b""
        while b"\x12" not in received or len(received) < 100:
            part = await socket.recv()
            assert isinstance(part, bytes)
            received += part
        assert received[0] == 0x80


def test_the_page(running: FrontProcess) -> None:
    page = running.request("GET", "/", headers={"accept-encoding": "gzip"})
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-cache"
    assert page.headers["content-encoding"] == "gzip"
    script = running.request("GET", "/assets/app-1a2b3c4d.js")
    assert "immutable" in script.headers["cache-control"]
    assert running.request("GET", "/assets/none.js").status == 404


# --- who is let in ---


@pytest.mark.parametrize(
    "bad", ["nonsense", "a.b.c", "eyJhbGciOiJub25lIn0.eyJpc3MiOiJjaGlud2FnIn0."]
)
def test_a_token_that_is_none_is_refused_by_envoy(running: FrontProcess, bad: str) -> None:
    assert running.request("GET", ME, token=bad).status == 401
    status, trailers, _ = grpc_web(running, GRPC_ME, account_service_pb2.GetMeRequest(), bad)
    assert status == grpc.StatusCode.UNAUTHENTICATED.value[0], trailers


def test_no_token(running: FrontProcess) -> None:
    assert running.request("GET", ME).status == 401
    assert running.request("GET", "/v1/account/jwks").status in (200, 404)


def test_a_token_counts_in_its_header_alone(running: FrontProcess, token: str) -> None:
    cookie = {"cookie": f"access_token={token}; authorization=Bearer {token}"}
    assert running.request("GET", ME, headers=cookie).status == 401
    assert running.request("GET", f"{ME}?access_token={token}").status == 404  # no field
    me = account_service_pb2.GetMeRequest()
    assert grpc_web(running, f"{GRPC_ME}?access_token={token}", me)[0] == 16


def test_an_api_key_is_the_nodes_to_judge(running: FrontProcess) -> None:
    answer = running.request("GET", ME, token="cwk_nobody.nothing")
    assert answer.status == 401
    assert answer.json()["details"][0]["reason"] == "TOKEN_INVALID"


async def test_health_and_reflection_are_open(running: FrontProcess) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

    async with running.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=CALL_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_other_origins(running: FrontProcess) -> None:
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-grpc-web",
    }
    good = running.request("OPTIONS", GRPC_ME, headers={"origin": "https://other.example", **asked})
    assert good.status == 200
    assert good.headers["access-control-allow-origin"] == "https://other.example"
    assert "x-grpc-web" in good.headers["access-control-allow-headers"]
    bad = running.request("OPTIONS", GRPC_ME, headers={"origin": "https://evil.example", **asked})
    assert "access-control-allow-origin" not in bad.headers


@pytest.mark.parametrize(
    "path",
    [
        "/v1/..%2f..%2fadmin",
        "/chinwag.account.v1.AccountService%2fGetMe",
        "/stats",
        "/quitquitquit",
    ],
)
def test_paths_that_lead_nowhere(running: FrontProcess, token: str, path: str) -> None:
    assert running.request("GET", path, token=token).status in (400, 404)


def test_the_access_log_holds_no_token(running: FrontProcess, token: str) -> None:
    running.request("GET", f"{ME}?access_token={token}", token=token)
    file = running.data.parent / "access.log"

    def lines() -> list[Any]:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]

    wait_until(lambda: any(line["path"] == ME for line in lines()))
    text = file.read_text(encoding="utf-8")
    assert token not in text
    assert "access_token" not in text


async def test_its_counters(running: FrontProcess) -> None:
    stats = (await running.admin("/stats/prometheus")).decode()
    assert "envoy_cluster_upstream_rq_total" in stats
    assert "envoy_http_jwt_authn" in stats


# --- what goes wrong ---


def test_too_many_requests_of_an_address(tmp_path: Path) -> None:
    settings = {
        "CHINWAG_ENVOY_REQUESTS_PER_SECOND": "1",
        "CHINWAG_ENVOY_REQUESTS_BURST": "3",
    }
    with front(tmp_path / "data", settings) as process:
        answers = [process.request("GET", ME).status for _ in range(6)]
        assert 429 in answers
        status, trailers, _ = grpc_web(process, GRPC_ME, account_service_pb2.GetMeRequest())
        assert status == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], trailers


def test_envoy_that_dies_is_started_again_and_ends_with_the_node(tmp_path: Path) -> None:
    process = FrontProcess(tmp_path / "data")
    process.start()
    try:
        token = process.sign_up("ann")
        first = int(process.where["envoy_pid"])
        os.kill(first, signal.SIGKILL)

        def answers() -> bool:
            try:
                return process.request("GET", ME, token=token).status == 200
            except OSError:
                return False

        wait_until(answers)
        # Killed without a word, the node takes its Envoy with it.
        process.kill()

        def is_free() -> bool:
            try:
                process.request("GET", "/")
            except OSError:
                return True
            return False

        wait_until(is_free)
        process.start()
        assert process.request("GET", ME, token=token).status == 200
    finally:
        assert process.stop() == 0


def test_a_long_poll_waits_through_envoy(running: FrontProcess, token: str) -> None:
    first = running.request("POST", "/v1/sync", {}, token=token).json()
    waited = running.request(
        "POST", "/v1/sync", {"resumeStamp": first["stamp"], "wait": "2s"}, token=token
    )
    assert waited.status == 200
    request = chat_service_pb2.SyncRequest(resume_stamp=waited.json()["stamp"])
    status, _, data = grpc_web(running, "/chinwag.chat.v1.ChatService/Sync", request, token)
    assert status == 0
    assert chat_service_pb2.SyncResponse.FromString(data).stamp
