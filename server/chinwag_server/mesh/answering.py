"""The questions that one link brings, at work: their order, deadlines and bound. No I/O."""

from __future__ import annotations

import asyncio
import logging
import math
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
        # With the number of its question, and the time at which its asker gives up.
        self._running: dict[asyncio.Task[None], tuple[int, float]] = {}
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
        late = [(task, number) for task, (number, due) in self._running.items() if due <= now]
        for task, number in late:
            self._running[task] = number, math.inf  # once: it may need a while to end
        self._cancel([task for task, _ in late])

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
            if due <= now:
                continue
            try:
                task = run_eagerly(self._answer(question))
            except asyncio.CancelledError:
                self._failed(question.id)  # what it waits for was cancelled before
                continue
            if task is not None:
                self._running[task] = question.id, due
                task.add_done_callback(self._done)
        if self._can_begin():
            self._turn = self._loop.call_soon(self._begin)
        elif not waiting:
            self._ready()

    def _can_begin(self) -> bool:
        return bool(self._waiting) and len(self._running) < self._most and self._room()

    def _done(self, task: asyncio.Task[None]) -> None:
        number, due = self._running.pop(task)
        if task.cancelled() and due < math.inf:
            self._failed(number)  # not by us
        self.go_on()

    async def _answer(self, question: mesh_pb.Question) -> None:
        try:
            answer = await self._answers.asked(self._node_id, question)
        except Exception:
            log.exception("a question of node %s was not answered", self._node_id)
            self._failed(question.id)
            return
        size = answer.ByteSize()
        if size > MESSAGE_BYTES:
            text = f"the answer has {size} bytes, and may have {MESSAGE_BYTES}: ask for less"
            answer = _error(Code.RESOURCE_EXHAUSTED, text)
        self._say(question.id, answer)

    def _failed(self, number: int) -> None:
        self._say(number, _error(Code.INTERNAL, "the node that was asked failed; its log says how"))

    def _say(self, number: int, answer: mesh_pb.Answer) -> None:
        if not self._over:
            answer.id = number
            self._send(mesh_pb.LinkResponse(answers=[answer]).SerializeToString())


def _error(code: Code, text: str) -> mesh_pb.Answer:
    answer = mesh_pb.Answer()
    answer.error.code = code
    answer.error.message = text
    return answer
