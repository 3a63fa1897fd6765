"""The yardstick of the ratios: a bare grpc.aio server that speaks `Connect`'s frames.

It hands each message on to all who named its channel in hello, and answers the sender: no store,
no accounts, no permissions, no order kept over a restart. What is queued for a stream while a
write is under way goes into the next one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import AsyncIterator

# 1.7 to 2 times faster; has to be set before grpc is imported.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from chinwag.chat.v1 import connect_pb2, entry_pb2

METHOD = "/chinwag.chat.v1.ChatService/Connect"


class Stream:
    """What waits for one device."""

    def __init__(self) -> None:
        self.pending: list[bytes] = []
        self.wake = asyncio.Event()
        self.ended = False

    def add(self, piece: bytes) -> None:
        self.pending.append(piece)
        self.wake.set()


class Reference:
    """All channels: who listens, and how many entries there are."""

    def __init__(self) -> None:
        self._streams: dict[str, list[Stream]] = {}
        self._heads: dict[str, int] = {}

    async def connect(
        self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> None:
        stream = Stream()
        channels: list[str] = []
        writer = asyncio.ensure_future(self._write(stream, context))
        try:
            async for data in requests:
                frame = connect_pb2.ConnectRequest.FromString(data)
                if frame.HasField("hello"):
                    channels += [cursor.channel_id for cursor in frame.hello.cursors]
                    for cursor in frame.hello.cursors:
                        self._streams.setdefault(cursor.channel_id, []).append(stream)
                        self._heads.setdefault(cursor.channel_id, cursor.id)
                    answer = connect_pb2.ConnectResponse(
                        welcome=connect_pb2.Welcome(), caught_up=connect_pb2.CaughtUp()
                    )
                    stream.add(answer.SerializeToString())
                for send in frame.sends:
                    self._send(stream, send)
        finally:
            for channel_id in channels:
                self._streams[channel_id].remove(stream)
            writer.cancel()

    def _send(self, stream: Stream, send: connect_pb2.SendMessageRequest) -> None:
        channel_id = send.channel_id
        entry_id = self._heads[channel_id] = self._heads[channel_id] + 1
        seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
        now = Timestamp(seconds=seconds, nanos=nanos)
        entry = entry_pb2.Entry(
            channel_id=channel_id,
            id=entry_id,
            create_time=now,
            message_sent=entry_pb2.MessageSent(
                client_message_id=send.client_message_id, content=send.content
            ),
        )
        event = connect_pb2.ConnectResponse(events=[entry_pb2.Event(entry=entry)])
        result = connect_pb2.SendResult(
            client_message_id=send.client_message_id,
            channel_id=channel_id,
            message_id=entry_id,
            create_time=now,
        )
        piece = event.SerializeToString()
        for other in self._streams[channel_id]:
            other.add(piece)
        stream.add(connect_pb2.ConnectResponse(results=[result]).SerializeToString())

    async def _write(self, stream: Stream, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        while True:
            await stream.wake.wait()
            stream.wake.clear()
            frame = b"".join(stream.pending)
            stream.pending.clear()
            await context.write(frame)


async def serve(port: int) -> None:
    """Serves until the process is ended."""
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(
        Reference().connect
    )
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    service, _, method = METHOD[1:].partition("/")
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {method: handler})]
    )
    if not server.add_insecure_port(f"127.0.0.1:{port}"):
        raise OSError(f"port {port} is in use")
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(serve(parser.parse_args().port))
