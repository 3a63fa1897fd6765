"""A device that does not read, on a real socket: closed with "resume", and nothing skipped over."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from chinwag.chat.v1 import channel_pb2, connect_pb2
from chinwag.chat.v1 import chat_service_pb2 as pb
from chinwag.common.v1 import close_pb2
from tests.delivery.conftest import Stage
from tests.delivery.test_delivery import request, send

TEXT = "x" * 90_000
AT_ONCE = 20


async def opened(channel: grpc.aio.Channel, token: str, hello: connect_pb2.Hello) -> Any:
    """A stream that has said hello."""
    method: Any = channel.stream_stream(
        "/chinwag.chat.v1.ChatService/Connect",
        response_deserializer=connect_pb2.ConnectResponse.FromString,
    )
    call = method(metadata=(("authorization", f"Bearer {token}"),), timeout=60)
    await call.write(connect_pb2.ConnectRequest(hello=hello).SerializeToString())
    return call


async def read_until(call: Any, field: str) -> tuple[list[int], connect_pb2.ConnectResponse]:
    """The ids of entries up to the frame that has a field, and that frame."""
    ids: list[int] = []
    while True:
        frame = await call.read()
        assert frame is not grpc.aio.EOF, f"the stream ended without {field}"
        ids += [event.entry.id for event in frame.events if event.HasField("entry")]
        if frame.HasField(field):
            return ids, frame


async def test_a_device_that_does_not_read_is_closed_and_resumes(stage: Stage) -> None:
    await stage.people("ann", "bob", "cid")
    group = await stage.admin.make_group("ann", "g", ["bob", "cid"])
    reader = await stage.device("cid", "phone")
    token = (await stage.admin.issue_token("bob", "phone")).access_token
    last = 0
    async with grpc.aio.insecure_channel(
        stage.server.target, options=[("grpc.max_receive_message_length", 16 << 20)]
    ) as channel:
        start = channel_pb2.Cursor(channel_id=group, generation=await generation(stage, group))
        hello = connect_pb2.Hello(protocol_version=1, cursors=[start])
        call = await opened(channel, token, hello)
        first, _ = await read_until(call, "caught_up")
        # Far more than the queue (8 MiB) and what sockets and grpc hold for one stream.
        for _ in range(30):
            sends = (send(stage, "ann", request(group, TEXT)) for _ in range(AT_ONCE))
            last = max(await asyncio.gather(*sends))
        more, frame = await read_until(call, "close")
        assert frame.close.reason == close_pb2.CLOSE_REASON_SLOW_READER
        assert frame.close.reconnect
        got = first + more
        assert got == list(range(1, len(got) + 1))
        assert len(got) < last
        # It comes back with what it has, and gets exactly the rest.
        start.id = len(got)
        call = await opened(channel, token, connect_pb2.Hello(protocol_version=1, cursors=[start]))
        rest, _ = await read_until(call, "caught_up")
        assert rest == list(range(len(got) + 1, last + 1))
    # Nobody else was held up.
    assert await reader.wait_for(group, last, 20)


async def generation(stage: Stage, group: str) -> int:
    """A channel's generation."""
    view: Any = await stage.admin.call(
        stage.admin.chat.GetChannel, pb.GetChannelRequest(channel_id=group), "bob"
    )
    return int(view.channel.channel.generation)
