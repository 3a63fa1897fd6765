"""The model server behind real sockets: several nodes over one store, in threads, to be killed.

In the embedded server each node has a store of its own, so a client that goes from one to another
is tried here, against the model.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc

from chinwag.chat.v1 import (
    channel_pb2,
    chat_service_pb2,
    chat_service_pb2_grpc,
    connect_pb2,
    entry_pb2,
)
from chinwag.common.v1 import close_pb2
from tests.sdk.model import Server, Stream

CHANNEL = "c1"
STREAMS = 100


class Nodes:
    """A model server with some nodes.

    Args:
        on_open: Asked at each opening of a stream with the node's address: the Close that it is
            answered with, or None.

    Attributes:
        opened: The nodes' addresses, in the order in which streams were opened at them.
        called: How often which method came.
        breaks: Called first in each unary call: may abort it.
    """

    def __init__(
        self, count: int, on_open: Callable[[str], close_pb2.Close | None] = lambda _: None
    ) -> None:
        self.changed = threading.Condition()
        self.server = Server([CHANNEL])
        self.opened: list[str] = []
        self.called: Counter[str] = Counter()
        self.breaks: Callable[[str, grpc.ServicerContext], None] = lambda _address, _context: None
        self.on_open = on_open
        self._running: dict[str, grpc.Server] = {}
        self.addresses = [f"127.0.0.1:{_free_port()}" for _ in range(count)]
        for address in self.addresses:
            self.start(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for address in list(self._running):
            self.kill(address)

    def start(self, address: str) -> None:
        """A node begins to serve."""
        node = grpc.server(ThreadPoolExecutor(STREAMS), options=[("grpc.so_reuseport", 0)])
        add = chat_service_pb2_grpc.add_ChatServiceServicer_to_server
        add(_Chat(self, address), node)  # type: ignore[abstract] # the rest is not called
        assert node.add_insecure_port(address)
        node.start()
        self._running[address] = node

    def kill(self, address: str) -> None:
        """It ends at once: its connections break."""
        node = self._running.pop(address)
        node.stop(None).wait(10)

    def say(self, text: str) -> None:
        """Somebody else says something."""
        with self.changed:
            self.server.say(self.server.logs[CHANNEL], text, "bob", "")
            self.changed.notify_all()

    def close(self, address: str, close: close_pb2.Close) -> None:
        """A node ends its streams with guidance."""
        with self.changed:
            for stream in self.server.streams:
                if stream.address == address:
                    stream.close(close)
            self.changed.notify_all()

    @property
    def texts(self) -> list[str]:
        """What stands in the channel."""
        entries = self.server.logs[CHANNEL].entries
        return [e.message_sent.content.text for e in entries if e.HasField("message_sent")]


class _Chat(chat_service_pb2_grpc.ChatServiceServicer):
    """One node's calls."""

    def __init__(self, nodes: Nodes, address: str) -> None:
        self._nodes = nodes
        self._address = address

    def Connect(  # noqa: N802
        self, request_iterator: Iterator[connect_pb2.ConnectRequest], context: grpc.ServicerContext
    ) -> Iterator[connect_pb2.ConnectResponse]:
        nodes = self._nodes
        with nodes.changed:
            nodes.opened.append(self._address)
            stream = Stream(nodes.server, self._address)
            close = nodes.on_open(self._address)
            if close is not None:
                stream.close(close)

        def read() -> None:
            try:
                for frame in request_iterator:
                    with nodes.changed:
                        # What a dead node has received is lost.
                        if context.is_active():
                            stream.receive(frame)
                            nodes.changed.notify_all()
            except Exception:
                pass  # the connection broke
            over()

        def over() -> None:
            with nodes.changed:
                stream.gone()
                nodes.changed.notify_all()

        context.add_callback(over)
        threading.Thread(target=read, daemon=True).start()
        while True:
            with nodes.changed:
                nodes.changed.wait_for(
                    lambda: stream.out or stream.is_over or not context.is_active(), 10.0
                )
                frames, stream.out = stream.out, []
                is_last = stream.is_over or not context.is_active()
            yield from frames
            if is_last:
                return

    def Sync(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._called("Sync", context)
        (cursor,) = request.cursors
        with self._nodes.changed:
            return self._nodes.server.sync(cursor.channel_id, cursor.generation, cursor.id)

    def GetChannel(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._called("GetChannel", context)
        view = chat_service_pb2.ChannelView(channel=channel_pb2.Channel(id=request.channel_id))
        return chat_service_pb2.GetChannelResponse(channel=view)

    def SendTyping(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._called("SendTyping", context)
        return chat_service_pb2.SendTypingResponse()

    def SendMessage(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        with self._nodes.changed:
            result = Stream(self._nodes.server)._send(request)
            self._nodes.changed.notify_all()
        # Broken only now: the message is stored, and the client does not know.
        self._called("SendMessage", context)
        answer = chat_service_pb2.SendMessageResponse()
        answer.message.id = result.message_id
        return answer

    def StreamEvents(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        nodes, position = self._nodes, int(request.cursor or 0)
        with nodes.changed:
            nodes.opened.append(self._address)
        context.add_callback(self._wake)
        entries = nodes.server.logs[CHANNEL].entries
        while context.is_active():
            with nodes.changed:
                batch: list[entry_pb2.Entry] = entries[position : position + 3]
                if not batch:
                    nodes.changed.wait(10.0)
            if batch:
                position += len(batch)
                yield chat_service_pb2.StreamEventsResponse(entries=batch, cursor=str(position))

    def _wake(self) -> None:
        with self._nodes.changed:
            self._nodes.changed.notify_all()

    def _called(self, method: str, context: grpc.ServicerContext) -> None:
        self._nodes.called[method] += 1
        self._nodes.breaks(self._address, context)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
