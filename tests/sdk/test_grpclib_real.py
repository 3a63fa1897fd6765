"""The generated stubs for grpclib against a real node: for those who do not use grpcio."""

from __future__ import annotations

import pytest
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from chinwag.chat.v1 import channel_pb2, chat_service_grpc, chat_service_pb2, connect_pb2
from chinwag.ids import MessageIds
from tests.server.serving import Served

TOKEN = {"authorization": "Bearer ada/ada1"}


async def test_a_unary_call_and_a_stream(bare_server: Served) -> None:
    async with Channel("127.0.0.1", bare_server.node.port) as channel:
        stub = chat_service_grpc.ChatServiceStub(channel)
        made = await stub.CreateChannel(
            chat_service_pb2.CreateChannelRequest(kind=channel_pb2.CHANNEL_KIND_GROUP, name="g"),
            metadata=TOKEN,
        )
        channel_id = made.channel.channel.id
        async with stub.Connect.open(metadata=TOKEN) as stream:
            hello = connect_pb2.Hello(protocol_version=1, client="grpclib")
            await stream.send_message(connect_pb2.ConnectRequest(hello=hello))
            got = connect_pb2.ConnectResponse()
            while not got.HasField("caught_up"):
                got.MergeFrom(await stream.recv_message() or connect_pb2.ConnectResponse())
            assert got.welcome.user_id == "ada"
            assert got.events[0].opened.channel.id == channel_id
            send = connect_pb2.SendMessageRequest(
                channel_id=channel_id,
                client_message_id=MessageIds().draw(got.welcome.server_time.seconds),
            )
            send.content.text = "hello"
            await stream.send_message(connect_pb2.ConnectRequest(sends=[send]))
            while not (got.results and got.events[-1].HasField("entry")):
                got.MergeFrom(await stream.recv_message() or connect_pb2.ConnectResponse())
            assert got.results[0].message_id == got.events[-1].entry.id == 2
            await stream.end()
            await stream.cancel()


async def test_a_refusal(bare_server: Served) -> None:
    async with Channel("127.0.0.1", bare_server.node.port) as channel:
        stub = chat_service_grpc.ChatServiceStub(channel)
        with pytest.raises(GRPCError) as refused:
            await stub.GetChannel(
                chat_service_pb2.GetChannelRequest(channel_id="x"), metadata=TOKEN
            )
        assert refused.value.status is Status.NOT_FOUND
