"""The interop services in the test's event loop, on the wire and on grpc.aio, its reference."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from tests.server.rpc.certificates import Files
from tests.wire.interop.servicer import register

HOST = "127.0.0.1"
STOP_GRACE_S = 5.0


@asynccontextmanager
async def on_wire(certificate: Files | None = None) -> AsyncIterator[int]:
    """Serves on our own core, over TLS if there is a certificate; gives the port."""
    from chinwag_server.wire import Limits, Server, Tls

    server = Server(limits=Limits())
    register(server)
    tls = None if certificate is None else Tls(certificate.cert, certificate.key)
    port = await server.listen(HOST, 0, tls=tls)
    try:
        yield port
    finally:
        await server.stop(grace_s=STOP_GRACE_S)


@asynccontextmanager
async def on_grpcio(certificate: Files | None = None) -> AsyncIterator[int]:
    """The same on grpc.aio."""
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    register(server)
    if certificate is None:
        port = server.add_insecure_port(f"{HOST}:0")
    else:
        pair = (certificate.key.read_bytes(), certificate.cert.read_bytes())
        port = server.add_secure_port(f"{HOST}:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    try:
        yield port
    finally:
        await server.stop(STOP_GRACE_S)


SERVERS = {"wire": on_wire, "grpcio": on_grpcio}
