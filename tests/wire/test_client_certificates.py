"""TLS where clients must show a certificate: whom the core lets in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from chinwag_server.wire import Server, Tls
from tests.server.rpc import certificates
from tests.wire.compat.gen import compat_pb2 as pb
from tests.wire.compat.gen import compat_pb2_grpc
from tests.wire.compat.servicer import Compat

HOST = "127.0.0.1"
TIMEOUT_S = 10.0


@pytest.fixture
def member(tmp_path: Path) -> certificates.Files:
    """A client's certificate, which is the authority of all that are let in."""
    return certificates.make(tmp_path, "member")


@pytest.fixture
async def target(
    wire_certificate: certificates.Files, member: certificates.Files
) -> AsyncIterator[str]:
    server = Server()
    compat_pb2_grpc.add_CompatServicer_to_server(Compat(), server)  # type: ignore[arg-type]
    tls = Tls(wire_certificate.cert, wire_certificate.key, client_ca_file=member.cert)
    port = await server.listen(HOST, tls=tls)
    yield f"{HOST}:{port}"
    await server.stop(0)


async def echo(target: str, server: certificates.Files, own: certificates.Files | None) -> bytes:
    """Calls a method with a certificate of one's own, or without."""
    credentials = grpc.ssl_channel_credentials(
        server.cert.read_bytes(),
        own.key.read_bytes() if own else None,
        own.cert.read_bytes() if own else None,
    )
    async with aio.secure_channel(target, credentials) as channel:
        stub: Any = compat_pb2_grpc.CompatStub(channel)
        answer = await stub.Echo(pb.EchoRequest(payload=b"hello"), timeout=TIMEOUT_S)
        payload: bytes = answer.payload
        return payload


async def test_a_client_with_a_certificate_gets_in(
    target: str, wire_certificate: certificates.Files, member: certificates.Files
) -> None:
    assert await echo(target, wire_certificate, member) == b"hello"


@pytest.mark.parametrize("who", ["nobody", "a stranger"])
async def test_others_do_not(
    target: str, wire_certificate: certificates.Files, tmp_path: Path, who: str
) -> None:
    own = certificates.make(tmp_path, "stranger") if who == "a stranger" else None
    with pytest.raises(aio.AioRpcError) as refused:
        await echo(target, wire_certificate, own)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
