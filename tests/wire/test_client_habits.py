"""What clients do beside their calls, and what a server makes of it."""

from __future__ import annotations

import asyncio
from typing import Any

from grpc import aio

from chinwag.transport import OPTIONS
from chinwag_server.wire import frames
from tests.wire.compat.gen import compat_pb2 as pb
from tests.wire.compat.gen import compat_pb2_grpc
from tests.wire.compat.serving import HOST, serving
from tests.wire.core.peer import read_frames
from tests.wire.interop.relay import relay_to

MESSAGES = 30
PAUSE_S = 0.01


async def pings_of(options: tuple[tuple[str, int], ...]) -> int:
    """How often a client asks for a PING while it is sent a message now and then."""
    async with serving("wire") as target, relay_to(HOST, int(target.rpartition(":")[2])) as relay:
        async with aio.insecure_channel(f"{HOST}:{relay.port}", options=options) as channel:
            stub: Any = compat_pb2_grpc.CompatStub(channel)
            chat = stub.Chat(timeout=20)
            for _ in range(MESSAGES):
                await chat.write(pb.EchoRequest(payload=bytes(200)))
                await chat.read()
                await asyncio.sleep(PAUSE_S)
            await chat.done_writing()
        sent = bytes(relay.asked)
    assert sent.startswith(frames.PREFACE)
    return sum(
        frame.kind == frames.PING and not frame.flags & frames.ACK
        for frame in read_frames(sent[len(frames.PREFACE) :])
    )


async def test_our_sdk_does_not_probe_the_bandwidth() -> None:
    probing = tuple(option for option in OPTIONS if option[0] != "grpc.http2.bdp_probe")
    assert await pings_of(probing) > 0, "this test sees no probes"
    assert await pings_of(OPTIONS) == 0
