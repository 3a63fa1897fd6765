"""What /metrics shows of calls and streams."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from chinwag.chat.v1 import chat_service_pb2 as pb
from chinwag.chat.v1 import chat_service_pb2_grpc
from chinwag_server.observe.metrics import Metrics
from tests.server.serving import Served, bearer, refusal
from tests.server.test_drain import connected
from tests.server.test_node import get


async def samples(server: Served) -> dict[tuple[str, ...], float]:
    """Values by (name, label values...)."""
    status, headers, body = await get(server.node.http_port, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


async def test_calls_by_method_and_code(bare_server: Served) -> None:
    stub: Any = bare_server.stub(chat_service_pb2_grpc.ChatServiceStub)
    list_channels = "/chinwag.chat.v1.ChatService/ListChannels"
    for _ in range(3):
        await stub.ListChannels(pb.ListChannelsRequest(), metadata=bearer("ann/1"))
    await refusal(stub.ListChannels(pb.ListChannelsRequest()))
    found = await samples(bare_server)
    assert found["chinwag_calls_total", "OK", list_channels] == 3
    assert found["chinwag_calls_total", "UNAUTHENTICATED", list_channels] == 1
    assert found["chinwag_call_seconds_count", list_channels] == 4
    assert found["chinwag_running_calls", list_channels] == 0


async def test_streams_and_the_process(bare_server: Served) -> None:
    stream = await connected(bare_server, "ann")
    found = await samples(bare_server)
    connect = "/chinwag.chat.v1.ChatService/Connect"
    assert found["chinwag_streams",] == 1
    assert found["chinwag_running_calls", connect] == 1
    assert found["chinwag_store_backlog_bytes",] == 0
    assert found["process_resident_memory_bytes",] > 1 << 20
    stream.cancel()


def test_commits() -> None:
    metrics = Metrics()
    metrics.committed("chat", 7, 0.002)
    page = metrics.page().decode()
    assert 'chinwag_store_commit_submissions_bucket{le="8.0",store="chat"} 1.0' in page
    assert 'chinwag_store_commit_seconds_bucket{le="0.001",store="chat"} 0.0' in page
