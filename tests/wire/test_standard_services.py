"""grpcio's own servicers register on the wire like any other."""

from __future__ import annotations

from typing import Any

from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]
    reflection,
    reflection_pb2,
    reflection_pb2_grpc,
)

from chinwag_server.wire import Server

HOST = "127.0.0.1"


async def test_health_and_reflection() -> None:
    server = Server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = ["grpc.health.v1.Health"]
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
        reflection.aio.ReflectionServicer(names), server
    )
    port = await server.listen(HOST)
    status = health_pb2.HealthCheckResponse
    try:
        async with aio.insecure_channel(f"{HOST}:{port}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest(service="x"), timeout=10)
            assert (await watch.read()).status == status.SERVICE_UNKNOWN
            await servicer.set("x", status.SERVING)
            assert (await watch.read()).status == status.SERVING
            answer = await stub.Check(health_pb2.HealthCheckRequest(service="x"), timeout=10)
            assert answer.status == status.SERVING
            watch.cancel()

            asking: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
            asked = reflection_pb2.ServerReflectionRequest(list_services="")
            found = asking.ServerReflectionInfo(iter([asked]), timeout=10)
            listed = (await found.read()).list_services_response.service
            assert [service.name for service in listed] == names
    finally:
        await server.stop(0)
