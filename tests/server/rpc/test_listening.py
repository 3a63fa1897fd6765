"""Where a server listens, where it refuses to, and TLS."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from chinwag.account.v1 import account_service_pb2 as account_pb
from chinwag.account.v1 import account_service_pb2_grpc
from chinwag_server.rpc.grpcio import peer_address
from chinwag_server.rpc.listening import ListenError, is_loopback
from chinwag_server.wire import frames
from tests.server.fixtures import StartNode
from tests.server.rpc import certificates
from tests.server.serving import Served, refusal
from tests.server.standin import StandInAccount


def jwks(server: Served, credentials: grpc.ChannelCredentials | None = None) -> Any:
    stub: Any = account_service_pb2_grpc.AccountServiceStub(server.channel(credentials))
    return stub.GetJwks(account_pb.GetJwksRequest(), timeout=5)


async def test_a_port_in_use(start_node: StartNode, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=f"127.0.0.1:{port}.*in use"):
            await start_node(open_account=StandInAccount, listen__port=port)
        with pytest.raises(ListenError, match=r"http\.port"):
            await start_node(open_account=StandInAccount, http__port=port)
    # Nothing of the failed starts is left: the data directory is free.
    await start_node(open_account=StandInAccount, listen__port=port)


async def test_two_servers_do_not_share_a_port(start_node: StartNode, tmp_path: Path) -> None:
    first = await start_node(open_account=StandInAccount)
    with pytest.raises(ListenError):
        await start_node(
            open_account=StandInAccount, listen__port=first.node.port, data_dir=tmp_path / "b"
        )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
async def test_a_public_bind_without_tls_is_refused(start_node: StartNode, host: str) -> None:
    with pytest.raises(ListenError, match="--insecure"):
        await start_node(open_account=StandInAccount, listen__host=host)


async def test_insecure_allows_it(start_node: StartNode) -> None:
    server = await start_node(
        open_account=StandInAccount, listen__host="0.0.0.0", listen__insecure=True
    )
    await jwks(server)


async def test_ipv6_loopback(start_node: StartNode) -> None:
    server = await start_node(open_account=StandInAccount, listen__host="::1")
    server.target = f"[::1]:{server.node.port}"
    await jwks(server)


async def test_tls(start_node: StartNode, tmp_path: Path) -> None:
    files = certificates.make(tmp_path, "server")
    server = await start_node(
        open_account=StandInAccount,
        listen__host="0.0.0.0",
        listen__tls_cert_file=files.cert,
        listen__tls_key_file=files.key,
    )
    await jwks(server, grpc.ssl_channel_credentials(files.cert.read_bytes()))
    code, _ = await refusal(jwks(server))
    assert code in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED)


async def test_a_client_certificate_where_one_is_needed(
    start_node: StartNode, tmp_path: Path
) -> None:
    files = certificates.make(tmp_path, "server")
    client = certificates.make(tmp_path, "client")
    stranger = certificates.make(tmp_path, "stranger")
    server = await start_node(
        open_account=StandInAccount,
        listen__tls_cert_file=files.cert,
        listen__tls_key_file=files.key,
        listen__tls_client_ca_file=client.cert,
    )

    def credentials(own: certificates.Files | None) -> grpc.ChannelCredentials:
        key, chain = (own.key.read_bytes(), own.cert.read_bytes()) if own else (None, None)
        return grpc.ssl_channel_credentials(files.cert.read_bytes(), key, chain)

    await jwks(server, credentials(client))
    for wrong in (None, stranger):
        code, _ = await refusal(jwks(server, credentials(wrong)))
        assert code is StatusCode.UNAVAILABLE


async def test_tls_files_that_cannot_be_used(start_node: StartNode, tmp_path: Path) -> None:
    files = certificates.make(tmp_path, "server")
    with pytest.raises(ListenError, match="cannot be read"):
        await start_node(
            open_account=StandInAccount,
            listen__tls_cert_file=tmp_path / "none.pem",
            listen__tls_key_file=files.key,
        )
    stranger = certificates.make(tmp_path, "stranger")
    with pytest.raises(ListenError, match="belong together"):
        await start_node(
            open_account=StandInAccount,
            listen__tls_cert_file=stranger.cert,
            listen__tls_key_file=files.key,
        )
    files.cert.write_text("no certificate")
    with pytest.raises(ListenError, match="PEM"):
        await start_node(
            open_account=StandInAccount,
            listen__tls_cert_file=files.cert,
            listen__tls_key_file=files.key,
        )


async def goaway_after_s(target: str, most_s: float) -> float:
    """How long a server keeps a silent connection before it asks it to go."""
    host, _, port = target.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    started = time.monotonic()
    try:
        writer.write(frames.PREFACE + frames.settings({}) + frames.SETTINGS_ACK)
        async with asyncio.timeout(most_s):
            while True:
                head = await reader.readexactly(frames.HEAD_BYTES)
                high, low, kind, _flags, _stream_id = frames.unpack_head(head)
                if kind == frames.GOAWAY:
                    return time.monotonic() - started
                await reader.readexactly(high << 8 | low)
    finally:
        writer.close()


async def test_an_old_connection_is_asked_to_go(start_node: StartNode) -> None:
    server = await start_node(open_account=StandInAccount, listen__age_ms=1000)
    channel = server.stub(account_service_pb2_grpc.AccountServiceStub)
    request = account_pb.GetJwksRequest()
    await channel.GetJwks(request, timeout=5)  # type: ignore[misc]
    assert 0.8 <= await goaway_after_s(server.target, 4) <= 3  # ours looks once a second
    await channel.GetJwks(request, timeout=5)  # type: ignore[misc]


async def test_no_connection_is_too_old_unless_that_is_set(bare_server: Served) -> None:
    with pytest.raises(TimeoutError):
        await goaway_after_s(bare_server.target, 2.5)


def test_peer_addresses() -> None:
    assert peer_address("ipv4:192.0.2.7:1234") == "192.0.2.7"
    assert peer_address("ipv6:[2001:db8::1]:1234") == "2001:db8::1"
    assert peer_address("ipv6:%5B::1%5D:1234") == "::1"
    assert peer_address("unix:/run/x") == "unix"


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.0.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.example.com", "")))
