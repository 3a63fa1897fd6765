"""The services that every gRPC server offers: grpc.health.v1 and reflection, as grpcio has them."""

from __future__ import annotations

from collections.abc import Iterable

from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_health.v1._async import HealthServicer  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha._async import ReflectionServicer  # type: ignore[import-untyped]

from chinwag_server.rpc.registry import Registry

REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
_Status = health_pb2.HealthCheckResponse


class Health:
    """What the node says of itself: of "" (all of it) and of each service by name."""

    def __init__(self) -> None:
        self._servicer = HealthServicer()

    def register(self, registry: Registry) -> None:
        """Offers the service."""
        registry.add(health_pb2_grpc.add_HealthServicer_to_server, self._servicer)

    async def serving(self, registry: Registry) -> None:
        """From now on SERVING, but for services of which nothing is implemented."""
        offered = {method.service for method in registry if method.behaviour is not None}
        for service in registry.services:
            await self._servicer.set(
                service, _Status.SERVING if service in offered else _Status.NOT_SERVING
            )

    async def drain(self) -> None:
        """From now on NOT_SERVING, to the end."""
        await self._servicer.enter_graceful_shutdown()


def register_reflection(registry: Registry, services: Iterable[str]) -> None:
    """Offers the descriptors of these services and of reflection itself."""
    registry.add(
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server,
        ReflectionServicer([*services, REFLECTION]),
    )
