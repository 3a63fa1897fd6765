"""Links in memory: for nodes that live in one process, as in tests and simulations."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context, copy_context

from chinwag.mesh.v1 import mesh_service_pb2 as mesh_pb
from chinwag_server.mesh.answering import Answering
from chinwag_server.mesh.links import DEAD_S, QUESTIONS, QUEUE_BYTES, Answers, Unreachable
from chinwag_server.mesh.opened import TICKS, Opened

log = logging.getLogger(__name__)

DIAL_S = 5.0
RETRY_S = 0.05
MAX_RETRY_S = 2.0


async def _at_once(from_id: str, to_id: str) -> None:
    pass


class MemoryNetwork:
    """What the nodes have in common. Make it in no node's context: frames travel in this one, also
    those of nodes that have stopped meanwhile.

    Args:
        travel: Awaited for each frame, with the ids of who sends and who gets it. It may wait,
            for ever too, or raise Unreachable: then the connection breaks, and what was under way
            is lost. Frames of one connection and direction travel one after another.
        rng: For the jitter of pauses.
    """

    def __init__(
        self,
        travel: Callable[[str, str], Awaitable[None]] = _at_once,
        rng: random.Random | None = None,
    ) -> None:
        self.travel = travel
        self.rng = rng or random.Random()
        self.context = copy_context()
        self.ends: dict[str, MemoryLinks] = {}
        self._connections: dict[_Connection, None] = {}

    def cut(self, first: str, second: str) -> None:
        """Breaks the connections between two nodes; they are opened again."""
        for connection in tuple(self._connections):
            if {connection.from_id, connection.to_id} == {first, second}:
                connection.end("it was cut")

    def add(self, connection: _Connection) -> None:
        """A connection was opened."""
        self._connections[connection] = None

    def discard(self, connection: _Connection) -> None:
        """A connection is over."""
        self._connections.pop(connection, None)


class MemoryLinks:
    """One node's links. `start` it in the node's context: what comes is handled in that.

    Args:
        dead_s: A peer without a sign of life for so long is dead.
        questions: In flight on one link; at_work: answers on one.
        queue_bytes: What may wait to leave on one link.
    """

    def __init__(
        self,
        network: MemoryNetwork,
        node_id: str,
        answers: Answers,
        *,
        dead_s: float = DEAD_S,
        questions: int = QUESTIONS,
        at_work: int = QUESTIONS,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        self.network = network
        self.node_id = node_id
        self.answers = answers
        self.questions = questions
        self.at_work = at_work
        self.queue_bytes = queue_bytes
        self.dead_s = dead_s
        self.context = copy_context()
        self._nodes: dict[str, str] = {}
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._opened: dict[str, _Connection] = {}
        # Those that others have opened, and of them those whose openers are not known yet.
        self._accepted: dict[str, _Connection] = {}
        self._unknown: dict[str, _Connection] = {}
        self._callbacks: list[Callable[[str, bool], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    # --- the port ---

    def follow(self, nodes: Mapping[str, str]) -> None:
        self._nodes = {node_id: nodes[node_id] for node_id in nodes if node_id != self.node_id}
        if self._timer is not None:
            self._follow()

    def tell(self, node_id: str, news: mesh_pb.News) -> bool:
        connection = self._opened.get(node_id)
        return connection is not None and connection.opened.tell(news)

    async def ask(
        self, node_id: str, question: mesh_pb.Question, timeout_s: float
    ) -> mesh_pb.Answer:
        connection = self._opened.get(node_id)
        if connection is None:
            raise Unreachable(f"the link to node {node_id} is down", sent=False)
        return await connection.opened.ask(question, timeout_s)

    def on_change(self, changed: Callable[[str, bool], None]) -> None:
        self._callbacks.append(changed)

    def is_up(self, node_id: str) -> bool:
        return node_id in self._opened

    async def start(self) -> None:
        self.context = copy_context()
        self.network.ends[self.node_id] = self
        self._timer = asyncio.get_running_loop().call_later(self.dead_s / TICKS, self._tick)
        self._follow()

    async def stop(self) -> None:
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        self.network.ends.pop(self.node_id, None)
        self._nodes = {}
        opening = tuple(self._opening.values())
        self._follow()
        for connection in tuple(self._unknown.values()):
            connection.end("the node has stopped")
        await asyncio.gather(*opening, return_exceptions=True)

    # --- links ---

    def _follow(self) -> None:
        # In an order that a simulation can repeat: sets have none.
        for node_id in [node_id for node_id in self._opening if node_id not in self._nodes]:
            self._opening.pop(node_id).cancel()
        for connection in (*self._opened.values(), *self._accepted.values()):
            if not {connection.from_id, connection.to_id} <= {*self._nodes, self.node_id}:
                connection.end("a node is none of the mesh's any more")
        for node_id in self._nodes:
            if node_id not in self._opening:
                self._opening[node_id] = asyncio.create_task(self._keep_open(node_id))
            if node_id in self._unknown:
                self.greeted(self._unknown.pop(node_id))

    async def _keep_open(self, node_id: str) -> None:
        pause_s = RETRY_S
        while True:
            end = self.network.ends.get(node_id)
            if end is not None and await _Connection(self, end).run():
                pause_s = RETRY_S
            await asyncio.sleep(pause_s * self.network.rng.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, MAX_RETRY_S)

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self.dead_s / TICKS, self._tick)
        for connection in tuple(self._opened.values()):
            connection.opener_ticks()
        for connection in tuple(self._accepted.values()):
            connection.acceptor_ticks()

    def _change(self, node_id: str, up: bool) -> None:
        for changed in self._callbacks:
            try:
                changed(node_id, up)
            except Exception:
                log.exception("the link to node %s changed, and what follows failed", node_id)

    # --- of connections, in this node's context ---

    def welcomed(self, connection: _Connection) -> None:
        """A connection that this node opened was let in."""
        self._opened[connection.to_id] = connection
        self._change(connection.to_id, True)

    def greeted(self, connection: _Connection) -> None:
        """A connection was opened to this node: it is let in when its opener is known."""
        node_id = connection.from_id
        of = self._accepted if node_id in self._nodes else self._unknown
        before = of.pop(node_id, None)
        of[node_id] = connection
        if before is not None:
            before.end("a newer one was opened")
        if of is self._accepted:
            connection.welcome()

    def ended(self, connection: _Connection) -> None:
        """A connection of this node is over."""
        for of in (self._accepted, self._unknown):
            if of.get(connection.from_id) is connection:
                del of[connection.from_id]
        if self._opened.get(connection.to_id) is connection:
            del self._opened[connection.to_id]
            self._change(connection.to_id, False)


class _Way:
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


class _Connection:
    """A connection from one node to another.

    Attributes:
        opened: The opener's end.
    """

    def __init__(self, opener: MemoryLinks, acceptor: MemoryLinks) -> None:
        self.from_id, self.to_id = from_id, to_id = opener.node_id, acceptor.node_id
        self._opener = opener
        self._acceptor = acceptor
        self._network = network = opener.network
        self._loop = asyncio.get_running_loop()
        self._out: deque[bytes] = deque()
        self._answering: Answering | None = None
        self._silent = 0
        self._over = False
        self._hello = mesh_pb.LinkHello(node_id=from_id, to_node_id=to_id)
        self._greeting = mesh_pb.LinkRequest(hello=self._hello).SerializeToString()
        self._welcomed = asyncio.Event()
        self._ended = asyncio.Event()
        self._there = _Way(
            lambda: network.travel(from_id, to_id),
            self._take,
            self._asked,
            self._lost,
            network.context,
            acceptor.context,
        )
        self._back = _Way(
            lambda: network.travel(to_id, from_id),
            self._take_answers,
            self._answered,
            self._lost,
            network.context,
            opener.context,
        )
        self.opened = Opened(to_id, opener.questions, opener.queue_bytes, self._there.wake)

    async def run(self) -> bool:
        """Opens it and waits for its end, in the opener's context; whether it was let in."""
        self._network.add(self)
        try:
            self._there.wake()
            async with asyncio.timeout(DIAL_S):
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
