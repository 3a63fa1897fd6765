"""A connection between two nodes in memory: frames that travel, each handled where it arrives."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Protocol

from chinwag.mesh.v1 import mesh_service_pb2 as mesh_pb
from chinwag_server.mesh.answering import Answering
from chinwag_server.mesh.links import Answers, Unreachable
from chinwag_server.mesh.opened import TICKS, Opened

_DIAL_S = 5.0


class Network(Protocol):
    """What a connection needs of what is between the nodes.

    Attributes:
        context: In which frames travel.
    """

    context: Context

    def carry(self, from_id: str, to_id: str) -> Awaitable[None]:
        """A frame travels.

        Raises:
            Unreachable: It is lost.
        """

    def discard(self, connection: Connection) -> None:
        """A connection is over."""


class End(Protocol):
    """What it needs of the nodes at its ends; each is called in its own context."""

    node_id: str
    answers: Answers
    context: Context
    questions: int
    at_work: int
    queue_bytes: int

    def welcomed(self, connection: Connection) -> None:
        """A connection that this node opened was let in."""

    def greeted(self, connection: Connection) -> None:
        """A connection was opened to this node."""

    def ended(self, connection: Connection) -> None:
        """A connection of this node is over."""


class Way:
    """One direction of a connection: a frame is under way, others wait.

    Args:
        take: Gives the next frame; b"": there is none.
        arrived: Called with a frame in the context of who gets it.
        broke: Called when a frame was lost.
    """

    def __init__(
        self,
        travel: Callable[[], Awaitable[None]],
        take: Callable[[], bytes],
        arrived: Callable[[bytes], None],
        broke: Callable[[], None],
        context: Context,
        receiver: Context,
    ) -> None:
        self._travel = travel
        self._take = take
        self._arrived = arrived
        self._broke = broke
        self._context = context
        self._receiver = receiver
        self._task: asyncio.Task[None] | None = None
        self._over = False

    def wake(self) -> None:
        """There is something to send."""
        if self._task is None and not self._over:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), context=self._context)

    def end(self) -> None:
        """What is under way is lost."""
        self._over = True
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while frame := self._take():
                await self._travel()
                loop.call_soon(self._arrived, frame, context=self._receiver)
        except Unreachable:
            self._broke()
        finally:
            self._task = None


class Connection:
    """A connection from one node to another.

    Attributes:
        opened: The opener's end.
    """

    def __init__(self, network: Network, opener: End, acceptor: End) -> None:
        self.from_id, self.to_id = from_id, to_id = opener.node_id, acceptor.node_id
        self._opener = opener
        self._acceptor = acceptor
        self._network = network
        self._loop = asyncio.get_running_loop()
        self._out: deque[bytes] = deque()
        self._answering: Answering | None = None
        self._silent = 0
        self._over = False
        self._hello = mesh_pb.LinkHello(node_id=from_id, to_node_id=to_id)
        self._greeting = mesh_pb.LinkRequest(hello=self._hello).SerializeToString()
        self._welcomed = asyncio.Event()
        self._ended = asyncio.Event()
        self._there = Way(
            lambda: network.carry(from_id, to_id),
            self._take,
            self._asked,
            self._lost,
            network.context,
            acceptor.context,
        )
        self._back = Way(
            lambda: network.carry(to_id, from_id),
            self._take_answers,
            self._answered,
            self._lost,
            network.context,
            opener.context,
        )
        self.opened = Opened(to_id, opener.questions, opener.queue_bytes, self._there.wake)

    async def run(self) -> bool:
        """Opens it and waits for its end, in the opener's context; whether it was let in."""
        try:
            self._there.wake()
            async with asyncio.timeout(_DIAL_S):
                await self._welcomed.wait()
            await self._ended.wait()
        except TimeoutError:
            pass
        finally:
            self.end("its opener ended it")
        return self._welcomed.is_set()

    def welcome(self) -> None:
        """Lets it in, in the acceptor's context."""
        self._answering = Answering(
            self.from_id,
            self._acceptor.answers,
            self._send,
            lambda: True,
            lambda: None,
            self._acceptor.at_work,
        )
        hello = mesh_pb.LinkHello(node_id=self.to_id, to_node_id=self.from_id)
        self._send(mesh_pb.LinkResponse(hello=hello).SerializeToString())

    def end(self, why: str) -> None:
        """Ends it for both, each in its own context."""
        if self._over:
            return
        self._over = True
        self._network.discard(self)
        self._there.end()
        self._back.end()
        self._loop.call_soon(self._end_opener, why, context=self._opener.context)
        self._loop.call_soon(self._end_acceptor, context=self._acceptor.context)

    # --- in the opener's context ---

    def opener_ticks(self) -> None:
        if not self.opened.tick():
            self.end("no sign of life")

    def _take(self) -> bytes:
        greeting, self._greeting = self._greeting, b""
        return greeting or self.opened.next()

    def _answered(self, frame: bytes) -> None:
        if self._over:
            return
        if not self._welcomed.is_set():
            self._welcomed.set()
            self._opener.welcomed(self)
        self.opened.received(frame)

    def _end_opener(self, why: str) -> None:
        self.opened.end(why)
        self._ended.set()
        self._opener.ended(self)

    # --- in the acceptor's context ---

    def acceptor_ticks(self) -> None:
        answering = self._answering
        if answering is None:
            return
        answering.tick()
        self._silent += 1
        if self._silent >= TICKS:
            self.end("no sign of life")
        else:
            self._send(mesh_pb.LinkResponse(heard=1).SerializeToString())

    def _asked(self, frame: bytes) -> None:
        if self._over:
            return
        self._silent = 0
        request = mesh_pb.LinkRequest.FromString(frame)
        if request.HasField("hello"):
            self._acceptor.greeted(self)
        elif self._answering is not None:
            self._answering.tell(request.news)
            self._answering.put(request.questions)

    def _send(self, piece: bytes) -> None:
        if not self._over:
            self._out.append(piece)
            self._back.wake()

    def _take_answers(self) -> bytes:
        frame = b"".join(self._out)
        self._out.clear()
        return frame

    def _end_acceptor(self) -> None:
        if self._answering is not None:
            self._answering.end()
        self._acceptor.ended(self)

    # --- in the network's context ---

    def _lost(self) -> None:
        self.end("a frame was lost under way")
