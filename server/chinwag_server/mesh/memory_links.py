"""Links in memory: for nodes that live in one process, as in tests and simulations."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from contextvars import copy_context

from chinwag.mesh.v1 import mesh_service_pb2 as mesh_pb
from chinwag_server.mesh.links import DEAD_S, QUESTIONS, QUEUE_BYTES, Answers, Unreachable
from chinwag_server.mesh.memory_connection import Connection
from chinwag_server.mesh.opened import TICKS

log = logging.getLogger(__name__)

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
        self._travel = travel
        self.rng = rng or random.Random()
        self.context = copy_context()
        self.ends: dict[str, MemoryLinks] = {}
        self._connections: dict[Connection, None] = {}

    def cut(self, first: str, second: str) -> None:
        """Breaks the connections between two nodes; they are opened again."""
        for connection in tuple(self._connections):
            if {connection.from_id, connection.to_id} == {first, second}:
                connection.end("it was cut")

    def carry(self, from_id: str, to_id: str) -> Awaitable[None]:
        """A frame travels."""
        return self._travel(from_id, to_id)

    def connect(self, opener: MemoryLinks, node_id: str) -> Connection | None:
        """A connection to a node; None: there is no such node."""
        acceptor = self.ends.get(node_id)
        if acceptor is None:
            return None
        connection = Connection(self, opener, acceptor)
        self._connections[connection] = None
        return connection

    def discard(self, connection: Connection) -> None:
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
        self._opened: dict[str, Connection] = {}
        # Those that others have opened, and of them those whose openers are not known yet.
        self._accepted: dict[str, Connection] = {}
        self._unknown: dict[str, Connection] = {}
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
            connection = self.network.connect(self, node_id)
            if connection is not None and await connection.run():
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

    def welcomed(self, connection: Connection) -> None:
        """A connection that this node opened was let in."""
        self._opened[connection.to_id] = connection
        self._change(connection.to_id, True)

    def greeted(self, connection: Connection) -> None:
        """A connection was opened to this node: it is let in when its opener is known."""
        node_id = connection.from_id
        of = self._accepted if node_id in self._nodes else self._unknown
        before = of.pop(node_id, None)
        of[node_id] = connection
        if before is not None:
            before.end("a newer one was opened")
        if of is self._accepted:
            connection.welcome()

    def ended(self, connection: Connection) -> None:
        """A connection of this node is over."""
        for of in (self._accepted, self._unknown):
            if of.get(connection.from_id) is connection:
                del of[connection.from_id]
        if self._opened.get(connection.to_id) is connection:
            del self._opened[connection.to_id]
            self._change(connection.to_id, False)
