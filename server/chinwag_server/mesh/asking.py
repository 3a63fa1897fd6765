"""The questions in flight on one link: their numbers, deadlines and bound. No I/O."""

from __future__ import annotations

import asyncio
import heapq

from chinwag.mesh.v1 import mesh_service_pb2 as mesh_pb
from chinwag_server.mesh.links import Unreachable

_SLACK = 64
_MAX_TIMEOUT_MS = (1 << 32) - 1


class Asked:
    """A question in flight.

    Attributes:
        sent: It may have reached the node.
    """

    __slots__ = ("answer", "due", "number", "sent")

    def __init__(self, number: int, due: float, answer: asyncio.Future[mesh_pb.Answer]) -> None:
        self.number = number
        self.due = due
        self.answer = answer
        self.sent = False


class Asking:
    """What was asked on one link, from its beginning to its end.

    Args:
        node_id: Who is asked, for messages.
        most: Questions in flight.
    """

    def __init__(self, node_id: str, most: int) -> None:
        self._node_id = node_id
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._last = 0
        self._asked: dict[int, Asked] = {}
        # One timer for all: the earliest deadlines first, also of what has been answered since.
        self._deadlines: list[tuple[float, int]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._ended = ""

    def __len__(self) -> int:
        return len(self._asked)

    def put(self, question: mesh_pb.Question, timeout_s: float) -> Asked:
        """Numbers a question. Its answer is awaited by `wait`.

        Raises:
            Unreachable: There are too many, or the link is over.
        """
        if self._ended:
            raise Unreachable(self._ended, sent=False)
        if len(self._asked) >= self._most:
            raise Unreachable(
                f"node {self._node_id} owes {self._most} answers: ask less at once", sent=False
            )
        self._last += 1
        question.id = self._last
        question.timeout_ms = min(max(1, int(timeout_s * 1000)), _MAX_TIMEOUT_MS)
        due = self._loop.time() + timeout_s
        asked = self._asked[self._last] = Asked(self._last, due, self._loop.create_future())
        heapq.heappush(self._deadlines, (due, self._last))
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._expire)
        elif due < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(due, self._expire)
        return asked

    async def wait(self, asked: Asked) -> mesh_pb.Answer:
        """The answer.

        Raises:
            Unreachable: There is none.
        """
        try:
            return await asked.answer
        finally:
            self._asked.pop(asked.number, None)

    def answered(self, answer: mesh_pb.Answer) -> None:
        """An answer has come; one that nobody waits for any more is dropped."""
        asked = self._asked.pop(answer.id, None)
        if asked is not None and not asked.answer.done():
            answer.id = 0
            asked.answer.set_result(answer)

    def end(self, text: str) -> None:
        """The link is over: nothing is answered any more."""
        self._ended = text
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        asked, self._asked = self._asked, {}
        self._deadlines.clear()
        for one in asked.values():
            self.fail(one, text)

    def fail(self, asked: Asked, text: str) -> None:
        """A question will not be answered."""
        self._asked.pop(asked.number, None)
        if not asked.answer.done():
            asked.answer.set_exception(Unreachable(text, sent=asked.sent))
            # Whoever asked may have gone: then nobody looks, and nothing has to be said of it.
            asked.answer.exception()

    def _expire(self) -> None:
        self._timer = None
        deadlines, asked, now = self._deadlines, self._asked, self._loop.time()
        while deadlines and (deadlines[0][0] <= now or deadlines[0][1] not in asked):
            late = asked.get(heapq.heappop(deadlines)[1])
            if late is not None:
                self.fail(late, f"node {self._node_id} did not answer in time")
        if len(deadlines) > 2 * len(asked) + _SLACK:
            # Answered long before their deadlines.
            deadlines[:] = [(one.due, one.number) for one in asked.values()]
            heapq.heapify(deadlines)
        if deadlines:
            self._timer = self._loop.call_at(deadlines[0][0], self._expire)
