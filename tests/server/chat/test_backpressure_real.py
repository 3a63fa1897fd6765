"""A store that is behind slows its senders, by a window that is not given; nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chinwag.chat.v1 import (
    channel_pb2,
    chat_service_pb2,
    chat_service_pb2_grpc,
    connect_pb2,
    message_pb2,
)
from tests.server.serving import Served, bearer
from tests.wire.hostile.crowd import new_id

FRAMES = 400
TEXT = "x" * 10_000


def frame(channel_id: str) -> connect_pb2.ConnectRequest:
    content = message_pb2.MessageContent(text=TEXT)
    return connect_pb2.ConnectRequest(
        sends=[
            connect_pb2.SendMessageRequest(
                channel_id=channel_id, client_message_id=new_id(), content=content
            )
        ]
    )


# grpc.aio takes some megabytes ahead of its handlers; there the bound is its own.
@pytest.mark.parametrize("adapter", ["wire"], indirect=True)
async def test_a_full_store_closes_the_window(bare_server: Served) -> None:
    stub: Any = bare_server.stub(chat_service_pb2_grpc.ChatServiceStub)
    created = await stub.CreateChannel(
        chat_service_pb2.CreateChannelRequest(
            kind=channel_pb2.CHANNEL_KIND_GROUP, name="g", member_user_ids=["bob"]
        ),
        metadata=bearer("ann/1"),
    )
    channel_id = created.channel.channel.id
    call = stub.Connect(metadata=bearer("ann/1"), timeout=60)
    hello = connect_pb2.Hello(protocol_version=1)
    await call.write(connect_pb2.ConnectRequest(hello=hello))
    while not (await call.read()).HasField("caught_up"):
        pass
    channels = bare_server.node.chat.channels
    enough, channels._max_backlog_bytes = channels._max_backlog_bytes, -1
    written = 0

    async def write() -> None:
        nonlocal written
        for _ in range(FRAMES):
            await call.write(frame(channel_id))
            written += 1

    writing = asyncio.ensure_future(write())
    await asyncio.sleep(1.0)
    stopped_at = written
    assert stopped_at < FRAMES / 2, "4 MB were taken of a sender whose store takes nothing"
    await asyncio.sleep(0.3)
    assert written == stopped_at
    # Somebody else is served.
    me = await stub.ListChannels(
        chat_service_pb2.ListChannelsRequest(), metadata=bearer("bob/1"), timeout=10
    )
    assert len(me.channels) == 1

    channels._max_backlog_bytes = enough
    channels._room.set()
    stored: list[int] = []
    while len(stored) < FRAMES:
        answer = await call.read()
        stored += [result.message_id for result in answer.results]
    await writing
    assert stored == sorted(set(stored))
    call.cancel()
