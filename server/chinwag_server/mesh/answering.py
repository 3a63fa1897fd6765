"""The questions that one link brings, at work: their order, deadlines and bound. No I/O."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable

from chinwag.mesh.v1 import mesh_service_pb2 as mesh_pb
from chinwag_server.mesh.links import MESSAGE_BYTES, Answers
from chinwag_server.rpc.eager import run_eagerly
from chinwag_server.wire.status import Code

log = logging.getLogger(__name__)

# Begun in one turn of the loop: a frame may hold thousands.
_TURN = 64
# No question is worked on for longer, whatever its asker says.
WORK_S = 60.0


class Answering:
    """What a node works on for the opener of one link.

    Args:
        node_id: Who asks.
        send: Takes an answer as a serialised `LinkResponse`, to be joined with others.
        room: Whether answers would leave soon; if not, none are begun until `go_on`.
        ready: Called when all questions have begun: `busy` is False.
        most: Questions at work; more wait, and `busy` says that no others should come.
    """

    def __init__(
        self,
        node_id: str,
        answers: Answers,
        send: Callable[[bytes], None],
        room: Callable[[], bool],
        ready: Callable[[], None],
        most: int,
    ) -> None:
        self._node_id = node_id
        self._answers = answers
        self._send = send
        self._room = room
        self._ready = ready
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._running: dict[asyncio.Task[None], float] = {}
        # With the time at which their askers give up.
        self._waiting: deque[tuple[mesh_pb.Question, float]] = deque()
        self._turn: asyncio.Handle | None = None
        self._over = False

    @property
    def busy(self) -> bool:
        """Whether questions wait to be begun."""
        return bool(self._waiting)

    def tell(self, news: Iterable[mesh_pb.News]) -> None:
        """Hands news over."""
        for one in news:
            try:
                self._answers.told(self._node_id, one)
            except Exception:
                log.exception("news from node %s were not taken", self._node_id)

    def put(self, questions: Iterable[mesh_pb.Question]) -> None:
        """Begins questions in their order; those that cannot be begun now, later."""
        now = self._loop.time()
        for question in questions:
            timeout_s = min(question.timeout_ms / 1000 or WORK_S, WORK_S)
            self._waiting.append((question, now + timeout_s))
        self.go_on()

    def go_on(self) -> None:
        """Begins what waits, if it can be begun now."""
        if self._waiting and self._turn is None:
            self._begin()

    def tick(self) -> None:
        """Some time has passed: cancels what nobody waits for any more."""
        now = self._loop.time()
        self._cancel([task for task, due in self._running.items() if due <= now])

    def end(self) -> None:
        """The link is over: cancels everything."""
        self._over = True
        self._waiting.clear()
        if self._turn is not None:
            self._turn.cancel()
        self._cancel(list(self._running))

    def _cancel(self, tasks: list[asyncio.Task[None]]) -> None:
        """Some of them; the others in the next turns, so that nobody waits for all."""
        for task in tasks[-_TURN:]:
            task.cancel()
        del tasks[-_TURN:]
        if tasks:
            self._loop.call_soon(self._cancel, tasks)

    def _begin(self) -> None:
        self._turn = None
        waiting, now = self._waiting, self._loop.time()
        for _ in range(_TURN):
            if not self._can_begin():
                break
            question, due = waiting.popleft()
            task = run_eagerly(self._answer(question)) if due > now else None
            if task is not None:
                self._running[task] = due
                task.add_done_callback(self._done)
        if self._can_begin():
            self._turn = self._loop.call_soon(self._begin)
        elif not waiting:
            self._ready()

    def _can_begin(self) -> bool:
        return bool(self._waiting) and len(self._running) < self._most and self._room()

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self.go_on()

    async def _answer(self, question: mesh_pb.Question) -> None:
        try:
            answer = await self._answers.asked(self._node_id, question)
        except Exception:
            log.exception("a question of node %s was not answered", self._node_id)
            answer = _error(Code.INTERNAL, "the node that was asked failed; its log says how")
        answer.id = question.id
        if answer.ByteSize() > MESSAGE_BYTES:
            text = f"the answer has {answer.ByteSize()} bytes, and may have {MESSAGE_BYTES}"
            answer = _error(Code.RESOURCE_EXHAUSTED, text)
            answer.id = question.id
        if not self._over:
            self._send(mesh_pb.LinkResponse(answers=[answer]).SerializeToString())


def _error(code: Code, text: str) -> mesh_pb.Answer:
    answer = mesh_pb.Answer()
    answer.error.code = code
    answer.error.message = text
    return answer
