"""The service of compat.proto in the test's event loop, on either core."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grpc import aio

from chinwag_server.wire import Server
from tests.wire.compat.gen import compat_pb2_grpc
from tests.wire.compat.servicer import Compat

HOST = "127.0.0.1"


@asynccontextmanager
async def serving(core: str) -> AsyncIterator[str]:
    """Serves on "wire" or "grpcio"; gives the target."""
    if core == "grpcio":
        reference = aio.server(options=(("grpc.so_reuseport", 0),))
        compat_pb2_grpc.add_CompatServicer_to_server(Compat(), reference)
        port = reference.add_insecure_port(f"{HOST}:0")
        await reference.start()
        try:
            yield f"{HOST}:{port}"
        finally:
            await reference.stop(0)
        return
    server = Server()
    add = compat_pb2_grpc.add_CompatServicer_to_server
    add(Compat(), server)  # type: ignore[arg-type]
    port = await server.listen(HOST, 0)
    try:
        yield f"{HOST}:{port}"
    finally:
        await server.stop(0)
