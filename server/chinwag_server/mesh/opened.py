"""The asking end of one connection between nodes, from hello to its end. No I/O."""

from __future__ import annotations

from collections.abc import Callable

from chinwag.mesh.v1 import mesh_service_pb2 as mesh_pb
from chinwag_server.mesh.asking import Asking
from chinwag_server.mesh.outbox import Outbox

# Signs of life go out so often within the time after which a peer without one is dead.
TICKS = 6


class Opened:
    """What is asked and told, as frames; and signs of life.

    Args:
        node_id: Who is at the other end.
        questions: In flight, at most.
        queue_bytes: That wait to leave, at most.
        wake: Called when there is something to send: `next` gives it.
    """

    def __init__(
        self, node_id: str, questions: int, queue_bytes: int, wake: Callable[[], None]
    ) -> None:
        self._node_id = node_id
        self._asking = Asking(node_id, questions)
        self._outbox = Outbox(queue_bytes)
        self._wake = wake
        # Frames of the other end, hello among them.
        self._heard = 1
        self._silent = 0
        self._beat_due = False

    def tell(self, news: mesh_pb.News) -> bool:
        """Queues news; whether there was room."""
        piece = mesh_pb.LinkRequest(news=[news]).SerializeToString()
        if self._outbox.refusal(len(piece)):
            return False
        self._outbox.put(piece)
        self._wake()
        return True

    async def ask(self, question: mesh_pb.Question, timeout_s: float) -> mesh_pb.Answer:
        """Asks.

        Raises:
            Unreachable: There is no answer.
        """
        asked = self._asking.put(question, timeout_s)
        piece = mesh_pb.LinkRequest(questions=[question]).SerializeToString()
        refusal = self._outbox.refusal(len(piece))
        if refusal:
            self._asking.fail(asked, f"node {self._node_id} was not asked: {refusal}")
        else:
            self._outbox.put(piece, asked)
            self._wake()
        return await self._asking.wait(asked)

    def next(self) -> bytes:
        """The next frame, a serialised `LinkRequest`; b"": there is nothing to send."""
        frame = self._outbox.take()
        if self._beat_due:
            self._beat_due = False
            frame += mesh_pb.LinkRequest(heard=self._heard).SerializeToString()
        return frame

    def received(self, data: bytes) -> None:
        """Takes a frame of the other end, a serialised `LinkResponse`.

        Raises:
            DecodeError: It is none.
        """
        self._heard += 1
        self._silent = 0
        for answer in mesh_pb.LinkResponse.FromString(data).answers:
            self._asking.answered(answer)

    def tick(self) -> bool:
        """A part of the time has passed after which a peer is dead; whether it lives.

        Ticks are counted, and not seconds: what this process slept through does not count.
        """
        self._silent += 1
        if self._silent >= TICKS:
            return False
        self._beat_due = True
        self._wake()
        return True

    def end(self, why: str) -> None:
        """The connection is over: what was asked on it fails."""
        self._asking.end(f"the link to node {self._node_id} went down: {why}")
