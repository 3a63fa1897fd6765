"""A server over a real network that does nothing but what a scenario says."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2
from grpc import aio

from chinwag.account.v1 import account_service_pb2
from chinwag.chat.v1 import chat_service_pb2, connect_pb2

CONNECT = "/chinwag.chat.v1.ChatService/Connect"
SERVICES = (
    chat_service_pb2.DESCRIPTOR.services_by_name["ChatService"],
    account_service_pb2.DESCRIPTOR.services_by_name["AccountService"],
)
# The fields of a client's frame, in the order in which a server handles them.
REPEATED = ("sends", "marks", "typing", "subscribe", "unsubscribe")
SINGLE = ("hello", "renew_token", "watches", "ping")
DETAILS = "grpc-status-details-bin"


def as_dict(message: Message) -> dict[str, Any]:
    """A message as JSON, with the names of the .proto."""
    made: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return made


@dataclass
class Stream:
    """One Connect call, from the server's side.

    Attributes:
        items: What the client said: (field, value), a repeated field's elements one by one. How the
            client parts them into frames is its own business.
        out: Frames to send, and the status to end with.
        ended: The client, or the scenario, has ended it.
    """

    token: str
    pongs: bool
    items: list[tuple[str, Any]] = field(default_factory=list)
    out: asyncio.Queue[bytes | status_pb2.Status] = field(default_factory=asyncio.Queue)
    ended: bool = False

    def take(self, frame: connect_pb2.ConnectRequest) -> None:
        """A frame came."""
        said = as_dict(frame)
        for name in SINGLE:
            if name == "ping" and name in said and self.pongs:
                pong = connect_pb2.Pong(id=frame.ping.id)
                self.out.put_nowait(connect_pb2.ConnectResponse(pong=pong).SerializeToString())
            elif name in said:
                self.items.append((name, said[name]))
        for name in REPEATED:
            self.items.extend((name, each) for each in said.get(name, []))


@dataclass
class Call:
    """A unary call that waits for its answer."""

    method: MethodDescriptor
    token: str
    request: dict[str, Any]
    answer: asyncio.Future[Message | status_pb2.Status]


class Node(grpc.GenericRpcHandler):
    """One listening server.

    Args:
        changed: Called whenever something came.
        pongs: Whether pings are answered.
    """

    def __init__(self, changed: asyncio.Event, *, pongs: bool) -> None:
        self._changed = changed
        self._pongs = pongs
        self._server: aio.Server | None = None
        self.streams: list[Stream] = []
        self.calls: list[Call] = []
        self.address = ""

    async def start(self, address: str = "127.0.0.1:0") -> None:
        """Listens."""
        server = aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((self,))
        port = server.add_insecure_port(address)
        await server.start()
        self._server, self.address = server, f"127.0.0.1:{port}"

    async def stop(self) -> None:
        """Is gone: what is under way breaks."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    # --- what grpc asks ---

    def service(self, handler_call_details: Any) -> Any:
        name = handler_call_details.method
        metadata = dict(handler_call_details.invocation_metadata)
        token = metadata.get("authorization", "").removeprefix("Bearer ")
        if name == CONNECT:
            return grpc.stream_stream_rpc_method_handler(
                functools.partial(self._connect, token),
                request_deserializer=connect_pb2.ConnectRequest.FromString,
            )
        for service in SERVICES:
            for method in service.methods:
                if name == f"/{service.full_name}/{method.name}":
                    return self._unary(method, token)
        return None

    def _unary(self, method: MethodDescriptor, token: str) -> Any:
        async def handle(request: Message, context: aio.ServicerContext[Any, Any]) -> Message:
            answer = asyncio.get_running_loop().create_future()
            self.calls.append(Call(method, token, as_dict(request), answer))
            self._changed.set()
            result = await answer
            if isinstance(result, status_pb2.Status):
                await _abort(context, result)
            assert isinstance(result, Message)
            return result

        return grpc.unary_unary_rpc_method_handler(
            handle,
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )

    async def _connect(
        self, token: str, requests: AsyncIterator[Any], context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[bytes]:
        stream = Stream(token, self._pongs)
        self.streams.append(stream)
        self._changed.set()
        reader = asyncio.ensure_future(self._read(stream, requests))
        try:
            while True:
                wanted = await stream.out.get()
                if isinstance(wanted, bytes):
                    yield wanted
                else:
                    await _abort(context, wanted)
                    return
        finally:
            reader.cancel()
            stream.ended = True
            self._changed.set()

    async def _read(self, stream: Stream, requests: AsyncIterator[Any]) -> None:
        async for frame in requests:
            stream.take(frame)
            self._changed.set()


async def _abort(context: aio.ServicerContext[Any, Any], status: status_pb2.Status) -> None:
    if not status.code:
        return
    if status.details:
        context.set_trailing_metadata(((DETAILS, status.SerializeToString()),))
    codes = {code.value[0]: code for code in grpc.StatusCode}
    await context.abort(codes[status.code], status.message)
