"""The port to the other nodes: questions that are answered, and news that is told.

A link goes from one node to one other: whoever opened it asks and tells, the other answers, and
the way back is a link of its own. Every adapter passes tests/mesh/links_contract.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from chinwag.mesh.v1 import mesh_service_pb2 as mesh_pb

# Of a question, an answer or a piece of news, serialised.
MESSAGE_BYTES = 4 << 20
# Of the questions in flight and of the answers at work, on one link.
QUESTIONS = 4096
# What waits to leave on one link.
QUEUE_BYTES = 16 << 20
# A peer without a sign of life for so long is dead.
DEAD_S = 3.0


class Unreachable(Exception):
    """The node could not be asked, or did not answer in time: it is not known what it did.

    Attributes:
        sent: False if the question certainly never reached the node.
    """

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


class Answers(Protocol):
    """What a node does for the others. It may be asked for a node whose link has just ended."""

    def told(self, node_id: str, news: mesh_pb.News) -> None:
        """News from a node, in its order; must not wait."""

    async def asked(self, node_id: str, question: mesh_pb.Question) -> mesh_pb.Answer:
        """Answers a question of a node. Its `id` is the adapter's.

        Started in the order of the questions, and run up to its first wait without a task (see
        `rpc.eager`: until then nothing may ask for the current task). Cancelled when the link
        ends or the asker has given up. An exception becomes an `Answer.error` of INTERNAL.
        """


class Links(Protocol):
    """A node's links to all others.

    Of one link questions arrive in their order, and news in its; between the two, and between
    answers and the news of the link that goes the other way, there is none.
    """

    def follow(self, nodes: Mapping[str, str]) -> None:
        """Says which the other nodes of the mesh are: id to HOST:PORT.

        Links from and to those that are gone end; links to new ones are opened, and opened again
        with back-off and jitter as long as the node is listed.
        """

    def tell(self, node_id: str, news: mesh_pb.News) -> bool:
        """Queues news, in order. Never waits.

        Returns:
            False: the link is down, its queue is full or the news too large; the news is lost.
        """

    async def ask(
        self, node_id: str, question: mesh_pb.Question, timeout_s: float
    ) -> mesh_pb.Answer:
        """Asks a node. Its `id` and `timeout_ms` are set here; questions are put in the order in
        which these coroutines begin.

        Raises:
            Unreachable: The link is or goes down, too much waits, or no answer came in time.
        """

    def on_change(self, changed: Callable[[str, bool], None]) -> None:
        """Calls with (node id, up) whenever a link to a node comes up or goes down. What was told
        on a link that goes down may be lost."""

    def is_up(self, node_id: str) -> bool:
        """Whether the node can be asked now, as far as is known."""

    async def start(self) -> None:
        """Listens, and opens the links to the nodes that are followed.

        Raises:
            ListenError: The address may not be used, or the port is taken.
        """

    async def stop(self) -> None:
        """Ends all links."""
