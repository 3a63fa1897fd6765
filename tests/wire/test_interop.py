"""gRPC's own interop client, grpc-go's, against the wire and against grpc.aio.

Of the client's test cases these are left out: compute_engine_creds, service_account_creds,
jwt_token_creds, per_rpc_creds, oauth2_auth_token, google_default_credentials and
compute_engine_channel_credentials need the cloud's accounts. The cases for compression and
for calls that the Go client lacks are played here by grpc.aio's client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.server.rpc.certificates import Files
from tests.wire.interop import judges
from tests.wire.interop.gen import testing_pb2, testing_pb2_grpc
from tests.wire.interop.relay import Relay, relay_to
from tests.wire.interop.serving import HOST, SERVERS

pytestmark = pytest.mark.timeout(judges.BUILDING_TEST_TIMEOUT_S)

CLIENT_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 10.0
LARGE = 314159
REPORTS_LOAD = (
    '--service_config_json={"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}',
)
SOAK = (
    "--soak_iterations=40",
    "--soak_num_threads=4",
    "--soak_per_iteration_max_acceptable_latency_ms=10000",
    "--soak_overall_timeout_seconds=50",
)
# Case: more flags of the client.
CASES: dict[str, tuple[str, ...]] = {
    "empty_unary": (),
    "large_unary": (),
    "client_streaming": (),
    "server_streaming": (),
    "ping_pong": (),
    "empty_stream": (),
    "timeout_on_sleeping_server": (),
    "cancel_after_begin": (),
    "cancel_after_first_response": (),
    "status_code_and_message": (),
    "special_status_message": (),
    "custom_metadata": (),
    "unimplemented_method": (),
    "unimplemented_service": (),
    "pick_first_unary": (),
    "rpc_soak": SOAK,
    "channel_soak": SOAK,
    "orca_per_rpc": REPORTS_LOAD,
    "orca_oob": REPORTS_LOAD,
}
TLS_CASES = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "ping_pong",
    "cancel_after_first_response",
    "special_status_message",
    "custom_metadata",
    "unimplemented_service",
    "channel_soak",
)


async def play(client: Path, port: int, case: str, *flags: str) -> None:
    """Runs a case; the client says that it is done and how it fails."""
    verdict = await judges.run(
        client,
        f"--server_host={HOST}",
        f"--server_port={port}",
        f"--test_case={case}",
        *CASES[case],
        *flags,
        timeout_s=CLIENT_TIMEOUT_S,
        environment={"GRPC_GO_LOG_SEVERITY_LEVEL": "info"},
    )
    done = any(line.rstrip().endswith(" done") for line in verdict.output.splitlines())
    told = (verdict.code, done)
    assert told == (0, True), f"{case}: exit code {verdict.code}\n{verdict.output}"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("server", SERVERS)
async def test_go_client(wire_tools: Path, server: str, case: str) -> None:
    async with SERVERS[server]() as port:
        await play(wire_tools / "interop_client", port, case)


@pytest.mark.parametrize("case", TLS_CASES)
@pytest.mark.parametrize("server", SERVERS)
async def test_go_client_over_tls(
    wire_tools: Path, wire_certificate: Files, server: str, case: str
) -> None:
    async with SERVERS[server](wire_certificate) as port:
        authority = f"--ca_file={wire_certificate.cert}"
        client = wire_tools / "interop_client"
        await play(client, port, case, "--use_tls", "--use_test_ca", authority)


@dataclass(frozen=True)
class Line:
    """grpc.aio's client, which compresses, and the relay that counts what it exchanges."""

    server: str
    stub: testing_pb2_grpc.TestServiceAsyncStub
    relay: Relay


@pytest.fixture(params=SERVERS)
async def line(request: pytest.FixtureRequest) -> AsyncIterator[Line]:
    async with (
        SERVERS[request.param]() as port,
        relay_to(HOST, port) as relay,
        grpc.aio.insecure_channel(
            f"{HOST}:{relay.port}",
            options=(("grpc.use_local_subchannel_pool", 1),),
            compression=grpc.Compression.Gzip,
        ) as channel,
    ):
        yield Line(request.param, testing_pb2_grpc.TestServiceStub(channel), relay)


@pytest.mark.parametrize("compressed", [True, False])
async def test_unary_compression(line: Line, compressed: bool) -> None:
    answer = await line.stub.UnaryCall(
        testing_pb2.SimpleRequest(
            response_size=LARGE,
            response_compressed=testing_pb2.BoolValue(value=compressed),
            payload=testing_pb2.Payload(body=bytes(LARGE)),
        ),
        timeout=CALL_TIMEOUT_S,
    )

    assert answer.payload.body == bytes(LARGE)
    assert line.relay.up < LARGE / 10, "the request was not compressed"
    if compressed and line.server == "grpcio":
        return  # grpc.aio forgets what set_compression asks of a unary answer (grpc issue 34690)
    assert (line.relay.down < LARGE / 10) is compressed


@pytest.mark.parametrize("compressed", [True, False])
async def test_streaming_compression(line: Line, compressed: bool) -> None:
    asked = testing_pb2.ResponseParameters(
        size=LARGE, compressed=testing_pb2.BoolValue(value=compressed)
    )
    request = testing_pb2.StreamingOutputCallRequest(response_parameters=[asked] * 3)
    call = line.stub.StreamingOutputCall(request, timeout=CALL_TIMEOUT_S)

    assert [len(answer.payload.body) async for answer in call] == [LARGE] * 3
    assert (line.relay.down < LARGE / 10) is compressed


async def test_compressed_client_streaming(line: Line) -> None:
    payload = testing_pb2.Payload(body=bytes(LARGE))
    requests = [testing_pb2.StreamingInputCallRequest(payload=payload)] * 3
    answer = await line.stub.StreamingInputCall(iter(requests), timeout=CALL_TIMEOUT_S)

    assert answer.aggregated_payload_size == 3 * LARGE
    assert line.relay.up < LARGE / 10


async def test_half_duplex(line: Line) -> None:
    sizes = [[31415], [9, 2653], [], [58979]]
    requests = [
        testing_pb2.StreamingOutputCallRequest(
            response_parameters=[
                testing_pb2.ResponseParameters(size=size, interval_us=1000) for size in group
            ]
        )
        for group in sizes
    ]
    call = line.stub.HalfDuplexCall(iter(requests), timeout=CALL_TIMEOUT_S)

    assert [len(answer.payload.body) async for answer in call] == [31415, 9, 2653, 58979]


async def test_initial_metadata_of_a_cacheable_call(line: Line) -> None:
    call = line.stub.CacheableUnaryCall(testing_pb2.SimpleRequest(), timeout=CALL_TIMEOUT_S)

    assert (await call).payload.body.isdigit()
    assert ("cache-control", "max-age=60, public") in tuple(await call.initial_metadata())
