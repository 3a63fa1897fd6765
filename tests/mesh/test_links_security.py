"""Who is let in at a node's listener for other nodes, and what everybody else is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from chinwag.mesh.v1 import mesh_service_pb2 as mesh_pb
from chinwag_server.mesh.grpc_links import GrpcLinks, LinkOptions
from chinwag_server.mesh.grpc_links.outgoing import LINK
from chinwag_server.rpc.listening import ListenError
from tests.mesh import certificates
from tests.mesh.bus_contract import until
from tests.mesh.grpc_mesh import CLUSTER, GrpcMesh, port
from tests.mesh.links_contract import Node, asks, connect, news, two, unreachable
from tests.server.serving import Served
from tools.engines.etcd import TlsFiles

HELLO_S = 0.4


@pytest.fixture
async def mesh() -> AsyncIterator[GrpcMesh]:
    made = GrpcMesh()
    yield made
    await made.stop()


def options_of(files: TlsFiles) -> dict[str, Any]:
    """A node's options with TLS."""
    return {"tls_cert_file": files.cert, "tls_key_file": files.key, "tls_ca_file": files.ca}


def made(folder: Path) -> TlsFiles:
    """An authority of its own, and a certificate."""
    folder.mkdir()
    return certificates.make(folder)


def hello(**changes: Any) -> mesh_pb.LinkHello:
    """What node "a" says to node "b"."""
    fields = {"cluster_id": CLUSTER, "node_id": "a", "to_node_id": "b", "nonce": os.urandom(16)}
    return mesh_pb.LinkHello(**fields | changes)


@dataclass
class Peer:
    """Somebody who speaks to a node's listener as they like."""

    channel: grpc.aio.Channel
    call: Any

    async def say(self, *frames: bytes | mesh_pb.LinkRequest) -> None:
        """Sends frames."""
        for frame in frames:
            data = frame if isinstance(frame, bytes) else frame.SerializeToString()
            await self.call.write(data)

    async def hear(self) -> mesh_pb.LinkResponse:
        """The next frame."""
        return mesh_pb.LinkResponse.FromString(await self.call.read())

    async def end(self) -> tuple[StatusCode, str]:
        """How the call ends; grpc says it when all was read that came before."""
        async with asyncio.timeout(5):
            with contextlib.suppress(grpc.aio.AioRpcError):
                while isinstance(await self.call.read(), bytes):
                    pass
            return await self.call.code(), await self.call.details()


@pytest.fixture
async def peers() -> AsyncIterator[list[Peer]]:
    opened: list[Peer] = []
    yield opened
    for peer in opened:
        await peer.channel.close()


def open_peer(peers: list[Peer], node: Node, method: str = LINK) -> Peer:
    """A stream to a node."""
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1))
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port(node)}", options=options)
    peers.append(Peer(channel, channel.stream_stream(method)()))
    return peers[-1]


async def listening(mesh: GrpcMesh, **options: Any) -> Node:
    """Node "b", which knows of a node "a" that is nowhere."""
    node = await mesh.node("b", hello_s=HELLO_S, **options)
    node.links.follow({"a": "127.0.0.1:1"})
    return node


# --- TLS ---


async def test_nodes_with_certificates_of_one_authority(mesh: GrpcMesh, tmp_path: Path) -> None:
    options = options_of(made(tmp_path / "one"))
    here, there = await mesh.node("a", **options), await mesh.node("b", **options)
    await connect(mesh, here, there)
    assert await here.ask(there, "echo", b"one") == b"one"
    assert await there.ask(here, "echo", bytes(3 << 20)) == bytes(3 << 20)


async def test_a_certificate_of_another_authority(mesh: GrpcMesh, tmp_path: Path) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other")
    here = await mesh.node("a", **options_of(one))
    # It trusts us, and we do not trust it; and the other way round.
    mixed = options_of(other) | {"tls_ca_file": one.ca}
    for name, options in (("b", options_of(other)), ("c", mixed)):
        there = await mesh.node(name, **options)
        here.links.follow({name: mesh.address(there)})
        there.links.follow({"a": mesh.address(here)})
        await asyncio.sleep(0.5)
        assert not here.links.is_up(name)
        assert not there.links.is_up("a")
        assert not await unreachable(here, there, "echo")
        assert (here.asked_of, there.asked_of) == ([], [])


async def test_a_peer_without_a_certificate(mesh: GrpcMesh, tmp_path: Path) -> None:
    files = made(tmp_path / "one")
    node = await listening(mesh, **options_of(files))
    credentials = grpc.ssl_channel_credentials(files.ca.read_bytes())
    async with grpc.aio.secure_channel(f"127.0.0.1:{port(node)}", credentials) as channel:
        call: Any = channel.stream_stream(LINK)()
        frame = mesh_pb.LinkRequest(hello=hello())
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(frame.SerializeToString())
        async with asyncio.timeout(5):
            assert await call.code() is StatusCode.UNAVAILABLE
    plain = await mesh.node("a")
    plain.links.follow({"b": mesh.address(node)})
    await asyncio.sleep(0.3)
    assert not plain.links.is_up("b")


async def test_a_certificate_that_is_for_another_name(mesh: GrpcMesh, tmp_path: Path) -> None:
    options = options_of(made(tmp_path / "one"))
    here, there = (
        await mesh.node("a", tls_name="mesh.test", **options),
        await mesh.node("b", **options),
    )
    here.links.follow({"b": mesh.address(there)})
    there.links.follow({"a": mesh.address(here)})
    await until(lambda: there.links.is_up("a"), "one that does not ask for a name gets through")
    assert not here.links.is_up("b")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
async def test_no_plain_text_for_other_machines(host: str) -> None:
    links = GrpcLinks("a", CLUSTER, Node("a"), LinkOptions(host=host))
    with pytest.raises(ListenError, match="refusing to link nodes in plain text"):
        await links.start()


async def test_tls_files_are_given_together_and_sound(tmp_path: Path) -> None:
    files = made(tmp_path / "one")
    some = LinkOptions(tls_cert_file=files.cert, tls_key_file=files.key)
    with pytest.raises(ListenError, match="all three"):
        await GrpcLinks("a", CLUSTER, Node("a"), some).start()
    files.ca.write_text("none")
    with pytest.raises(ListenError, match="TLS file"):
        await GrpcLinks("a", CLUSTER, Node("a"), LinkOptions(**options_of(files))).start()


async def test_a_port_in_use(mesh: GrpcMesh) -> None:
    node = await mesh.node("a")
    links = GrpcLinks("b", CLUSTER, Node("b"), LinkOptions(port=port(node)))
    with pytest.raises(ListenError, match=f"127.0.0.1:{port(node)}"):
        await links.start()


async def test_no_other_machine_is_dialled_in_plain_text(
    mesh: GrpcMesh, caplog: pytest.LogCaptureFixture
) -> None:
    node = await mesh.node("a")
    node.links.follow({"b": "192.0.2.1:7000"})
    await until(lambda: "plain text" in caplog.text, "it says so")
    assert not node.links.is_up("b")


# --- hello ---


async def test_two_meshes_are_kept_apart(mesh: GrpcMesh, caplog: pytest.LogCaptureFixture) -> None:
    here, there = await mesh.node("a"), await mesh.node("b", cluster_id="other")
    here.links.follow({"b": mesh.address(there)})
    there.links.follow({"a": mesh.address(here)})
    await asyncio.sleep(0.7)
    assert not here.links.is_up("b")
    assert not there.links.is_up("a")
    refused = [line for line in caplog.messages if "FAILED_PRECONDITION" in line]
    # Each says once that it was refused by the other, and once that it has refused it.
    assert 2 <= len(refused) <= 4
    assert all("'other'" in line and f"'{CLUSTER}'" in line for line in refused)


@pytest.mark.parametrize(
    ("said", "code", "text"),
    [
        ({"cluster_id": "other"}, StatusCode.FAILED_PRECONDITION, "cluster 'tested'"),
        ({"to_node_id": "c"}, StatusCode.FAILED_PRECONDITION, "here is node b, not c"),
        ({"node_id": ""}, StatusCode.UNAUTHENTICATED, "names its node"),
        ({"node_id": "x" * 1000}, StatusCode.UNAUTHENTICATED, "names its node"),
        ({"nonce": b"short"}, StatusCode.UNAUTHENTICATED, "nonce of 16 bytes"),
        ({"node_id": "c"}, StatusCode.PERMISSION_DENIED, "knows no node c"),
        ({"node_id": "b"}, StatusCode.PERMISSION_DENIED, "knows no node b"),
    ],
)
async def test_a_hello_that_is_not_for_us(
    mesh: GrpcMesh, peers: list[Peer], said: dict[str, Any], code: StatusCode, text: str
) -> None:
    node = await listening(mesh)
    peer = open_peer(peers, node)
    await peer.say(mesh_pb.LinkRequest(hello=hello(**said)))
    found, details = await peer.end()
    assert found is code
    assert text in details


async def test_a_hello_is_answered_by_one(mesh: GrpcMesh, peers: list[Peer]) -> None:
    node = await listening(mesh)
    peer = open_peer(peers, node)
    await peer.say(mesh_pb.LinkRequest(hello=hello()))
    ours = (await peer.hear()).hello
    assert (ours.cluster_id, ours.node_id, ours.to_node_id) == (CLUSTER, "b", "a")
    assert len(ours.nonce) == 16
    await peer.say(mesh_pb.LinkRequest(news=[news(b"one")]))
    await until(lambda: node.told_of == [("a", b"one")], "it is told")


async def test_a_hello_cannot_be_used_twice(mesh: GrpcMesh, peers: list[Peer]) -> None:
    node = await listening(mesh)
    captured = mesh_pb.LinkRequest(hello=hello())
    first, second = open_peer(peers, node), open_peer(peers, node)
    await first.say(captured)
    await first.hear()
    await second.say(captured)
    code, details = await second.end()
    assert code is StatusCode.PERMISSION_DENIED
    assert "used before" in details
    await first.say(mesh_pb.LinkRequest(news=[news(b"one")]))
    await until(lambda: node.told_of == [("a", b"one")], "the first link is as it was")


async def test_a_newer_link_replaces_an_older(mesh: GrpcMesh, peers: list[Peer]) -> None:
    node = await listening(mesh)
    first, second = open_peer(peers, node), open_peer(peers, node)
    for peer in (first, second):
        await peer.say(mesh_pb.LinkRequest(hello=hello()))
        await peer.hear()
    assert (await first.end())[0] is StatusCode.ABORTED
    await second.say(mesh_pb.LinkRequest(news=[news(b"one")]))
    await until(lambda: node.told_of == [("a", b"one")], "the second lives")


@pytest.mark.parametrize(
    "answer",
    [
        hello(node_id="c", to_node_id="a"),
        hello(node_id="b", to_node_id="c"),
        hello(node_id="b", to_node_id="a", cluster_id="other"),
        mesh_pb.LinkHello(),
    ],
)
async def test_an_opener_looks_at_the_answer_too(
    mesh: GrpcMesh, answer: mesh_pb.LinkHello, caplog: pytest.LogCaptureFixture
) -> None:
    class Impostor:
        """Accepts every link."""

        async def Link(self, requests: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
            yield mesh_pb.LinkResponse(hello=answer).SerializeToString()
            await asyncio.sleep(10)

    server = grpc.aio.server()
    handler: Any = grpc.stream_stream_rpc_method_handler(Impostor().Link)
    service = LINK.split("/")[1]
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"Link": handler}),)
    )
    bound = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    node = await mesh.node("a")
    node.links.follow({"b": f"127.0.0.1:{bound}"})
    await until(lambda: "no link: " in caplog.text, "it is refused")
    assert not node.links.is_up("b")
    await server.stop(0)


# --- hostile peers ---


async def test_no_hello(mesh: GrpcMesh, peers: list[Peer]) -> None:
    node = await listening(mesh)
    peer = open_peer(peers, node)
    code, details = await peer.end()
    assert code is StatusCode.UNAUTHENTICATED
    assert "begins with a hello, within 0.4 s" in details
    assert not node.links._accepted  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\xff\xff", StatusCode.INVALID_ARGUMENT),
        (b"", StatusCode.UNAUTHENTICATED),
        (mesh_pb.LinkRequest(questions=[asks("echo")]), StatusCode.UNAUTHENTICATED),
        (mesh_pb.LinkRequest(news=[news(b"one")]), StatusCode.UNAUTHENTICATED),
        (mesh_pb.LinkRequest(hello=hello(), news=[news(b"one")]), StatusCode.UNAUTHENTICATED),
    ],
)
async def test_something_else_than_a_hello(
    mesh: GrpcMesh, peers: list[Peer], frame: bytes | mesh_pb.LinkRequest, code: StatusCode
) -> None:
    node = await listening(mesh)
    peer = open_peer(peers, node)
    await peer.say(frame)
    assert (await peer.end())[0] is code
    assert (node.told_of, node.asked_of) == ([], [])


async def test_a_message_that_is_too_large(mesh: GrpcMesh, peers: list[Peer]) -> None:
    node = await listening(mesh)
    peer = open_peer(peers, node)
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        await peer.say(bytes(5 << 20))
    # grpc.aio takes its failure to write the rest for the status, if it sees that first.
    assert (await peer.end())[0] in (StatusCode.RESOURCE_EXHAUSTED, StatusCode.INTERNAL)
    await until(lambda: not node.links._accepted, "it is over")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "frames",
    [
        (b"\xff\xff",),
        (mesh_pb.LinkRequest(hello=hello()),),
        (mesh_pb.LinkRequest(questions=[asks("echo")]),),
        (mesh_pb.LinkRequest(questions=[mesh_pb.Question(id=n) for n in (2, 1)]),),
        (mesh_pb.LinkRequest(questions=[mesh_pb.Question(id=1)]),) * 2,
    ],
)
async def test_frames_that_break_a_rule(
    mesh: GrpcMesh, peers: list[Peer], frames: tuple[bytes | mesh_pb.LinkRequest, ...]
) -> None:
    node = await listening(mesh)
    peer = open_peer(peers, node)
    await peer.say(mesh_pb.LinkRequest(hello=hello()))
    await peer.hear()
    await peer.say(*frames)
    assert (await peer.end())[0] is StatusCode.INVALID_ARGUMENT


async def test_who_does_not_read_is_not_answered_to_no_end(
    mesh: GrpcMesh, peers: list[Peer]
) -> None:
    node = await listening(mesh, queue_bytes=2 << 20)
    peer = open_peer(peers, node)
    await peer.say(mesh_pb.LinkRequest(hello=hello()))
    await peer.hear()
    questions = [asks("fill", b"1000000") for _ in range(1000)]
    for number, question in enumerate(questions, 1):
        question.id = number
    await peer.say(mesh_pb.LinkRequest(questions=questions))
    await asyncio.sleep(1)
    # What waits, what lies in the windows, and what is under way.
    assert 1 <= len(node.asked_of) < 30


async def test_garbage_on_the_socket_harms_no_link(mesh: GrpcMesh) -> None:
    here, there = await two(mesh)
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + bytes(500), os.urandom(100_000)):
        reader, writer = await asyncio.open_connection("127.0.0.1", port(there))
        writer.write(garbage)
        async with asyncio.timeout(5):
            while await reader.read(1 << 16):
                pass
        writer.close()
    assert await here.ask(there, "echo", b"one") == b"one"
    assert here.changes == [("b", True)]


async def test_refusals_are_logged_once_a_minute(
    mesh: GrpcMesh, peers: list[Peer], caplog: pytest.LogCaptureFixture
) -> None:
    node = await listening(mesh)
    caplog.clear()
    for _ in range(20):
        peer = open_peer(peers, node)
        await peer.say(mesh_pb.LinkRequest(hello=hello(to_node_id="c")))
        await peer.end()
    assert len([line for line in caplog.messages if "was refused" in line]) == 1


async def test_nothing_else_is_served_there(mesh: GrpcMesh, peers: list[Peer]) -> None:
    node = await listening(mesh)
    for method in ("/chinwag.mesh.v1.MeshService/Other", "/grpc.health.v1.Health/Check"):
        assert (await open_peer(peers, node, method).end())[0] is StatusCode.UNIMPLEMENTED


async def test_the_public_port_does_not_serve_links(bare_server: Served) -> None:
    # Without a frame: grpc.aio may take the failure to write one for the status.
    call: Any = bare_server.channel().stream_stream(LINK)()
    async with asyncio.timeout(5):
        assert await call.code() is StatusCode.UNIMPLEMENTED
