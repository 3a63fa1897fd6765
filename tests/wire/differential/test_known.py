"""Where the wire once differed from grpc.aio; the random calls still step around some of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import BytesValue
from grpc import aio

from chinwag.chat.v1 import connect_pb2
from chinwag_server.wire import Server
from tests.server.fixtures import StartNode
from tests.wire.differential.outcomes import differences, outcome_of
from tests.wire.differential.plans import Plan, path
from tests.wire.differential.product import MESSAGE_BYTES, Metadata, Open, Say, World
from tests.wire.differential.scripted import HOST, both_sides
from tests.wire.differential.test_random import SETTINGS

ANN: Metadata = (("authorization", "Bearer ann~/1"),)


async def test_abort_keeps_the_details_that_were_set() -> None:
    plan = Plan(path("Unary"), (("set", 9, "why"), ("abort", 3, "", ())))
    async with both_sides() as sides:
        ours, theirs = [await outcome_of(side, plan) for side in sides]
    assert not differences(ours, theirs, plan)


async def test_the_end_of_requests_is_grpcs_eof() -> None:
    """A servicer written for grpc.aio that loops until EOF would never end, and since such a read
    does not wait, nothing else on the node would run."""
    ends: list[object] = []

    async def method(_requests: Any, context: Any) -> BytesValue:
        ends.append(await context.read())
        return BytesValue()

    handler = grpc.stream_unary_rpc_method_handler(
        method, BytesValue.FromString, BytesValue.SerializeToString
    )
    server = Server()
    server.add_registered_method_handlers("t.T", {"M": handler})
    port = await server.listen(HOST, 0)
    try:
        async with aio.insecure_channel(f"{HOST}:{port}") as channel:
            call: Any = channel.stream_unary("/t.T/M")
            await call(iter(()), timeout=5)
    finally:
        await server.stop(0)
    assert ends == [aio.EOF]


async def test_a_frame_over_the_limit_is_refused_and_the_stream_stays(
    start_node: StartNode, tmp_path: Path
) -> None:
    frame = connect_pb2.ConnectRequest()
    frame.renew_token.access_token = "x" * MESSAGE_BYTES
    hello = connect_pb2.ConnectRequest(hello=connect_pb2.Hello(protocol_version=1))
    seen = []
    for wire in ("wire", "grpcio"):
        node = await start_node(listen__wire=wire, data_dir=tmp_path / wire, **SETTINGS)
        with grpc.insecure_channel(node.target) as channel:
            world = World(node, channel, ".")
            for action in (Open(0, ANN), Say(0, hello)):
                await world.do(action)
            seen.append(await world.do(Say(0, frame)))
            await world.close()
    assert seen[0] == seen[1]
