"""What all links guarantee. A module with a fixture `mesh`, which gives nodes that can reach each
other, inherits the class."""

from __future__ import annotations

import asyncio
from typing import Protocol

import pytest

from chinwag.mesh.v1 import mesh_service_pb2 as mesh_pb
from chinwag_server.mesh.links import MESSAGE_BYTES, Links, Unreachable
from chinwag_server.wire.status import Code
from tests.mesh.bus_contract import until

ASK_S = 10.0


class Node:
    """What one node of a test does for the others.

    Attributes:
        told: Who told what, in order; asked: who asked what, as it began.
        at_work: Questions that are being answered; most_at_work: the most there were.
        gate: "wait" is answered when it is set.
        changes: Of this node's links.
    """

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.links: Links
        self.told_of: list[tuple[str, bytes]] = []
        self.asked_of: list[tuple[str, str]] = []
        self.at_work = 0
        self.most_at_work = 0
        self.cancelled = 0
        self.timeouts_ms: list[int] = []
        self.gate = asyncio.Event()
        self.changes: list[tuple[str, bool]] = []

    def told(self, node_id: str, news: mesh_pb.News) -> None:
        self.told_of.append((node_id, news.for_users.piece))
        if news.for_users.piece == b"fail":
            raise ValueError("told to fail")

    async def asked(self, node_id: str, question: mesh_pb.Question) -> mesh_pb.Answer:
        self.asked_of.append((node_id, question.call.channel_id))
        self.timeouts_ms.append(question.timeout_ms)
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            match question.call.method:
                case "wait":
                    await self.gate.wait()
                case "turn":
                    await asyncio.sleep(0)
                case "fail":
                    raise ValueError("asked to fail")
                case "cancelled" | "cancel":
                    lost = asyncio.get_running_loop().create_future()
                    if question.call.method == "cancelled":
                        lost.cancel()
                    asyncio.get_running_loop().call_soon(lost.cancel)
                    await lost
                case "fill":
                    size = int(question.call.request)
                    return mesh_pb.Answer(call=mesh_pb.CallResult(response=bytes(size)))
            return mesh_pb.Answer(call=mesh_pb.CallResult(response=question.call.request))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.at_work -= 1

    async def ask(
        self, node: Node, method: str, request: bytes = b"", timeout_s: float = ASK_S
    ) -> bytes:
        """What a node answers to a call."""
        question = asks(method, request)
        answer = await self.links.ask(node.node_id, question, timeout_s)
        assert answer.HasField("call"), answer
        return answer.call.response

    def tell(self, node: Node, piece: bytes) -> bool:
        """Tells a node a piece."""
        return self.links.tell(node.node_id, news(piece))


class Mesh(Protocol):
    """What a test's nodes have in common."""

    async def node(self, node_id: str, **options: int) -> Node:
        """A node that has started and follows nobody yet."""

    def address(self, node: Node) -> str:
        """Where the others reach it."""

    def cut(self, first: Node, second: Node) -> None:
        """Breaks the connections between two nodes."""


def asks(method: str, request: bytes = b"", channel_id: str = "") -> mesh_pb.Question:
    """A question that tests ask."""
    call = mesh_pb.Call(method=method, request=request, channel_id=channel_id)
    return mesh_pb.Question(call=call)


def news(piece: bytes) -> mesh_pb.News:
    """News that tests tell."""
    return mesh_pb.News(for_users=mesh_pb.ForUsers(piece=piece))


async def connect(mesh: Mesh, *nodes: Node) -> None:
    """Has all follow each other, and waits until their links are up."""
    addresses = {node.node_id: mesh.address(node) for node in nodes}
    for node in nodes:
        node.links.follow(addresses)
    await until(
        lambda: all(
            node.links.is_up(other)
            for node in nodes
            for other in addresses
            if other != node.node_id
        ),
        "all are linked",
    )


async def two(mesh: Mesh, **options: int) -> tuple[Node, Node]:
    """Two nodes that are linked."""
    here, there = await mesh.node("a", **options), await mesh.node("b", **options)
    await connect(mesh, here, there)
    return here, there


async def unreachable(node: Node, other: Node, method: str, timeout_s: float = ASK_S) -> bool:
    """Asks what is not answered; whether it was sent."""
    with pytest.raises(Unreachable) as caught:
        await node.ask(other, method, timeout_s=timeout_s)
    return caught.value.sent


class LinksContract:
    async def test_questions_are_answered_both_ways(self, mesh: Mesh) -> None:
        nodes = [await mesh.node(name) for name in "abc"]
        await connect(mesh, *nodes)
        for asker in nodes:
            for asked in nodes:
                if asker is not asked:
                    text = f"{asker.node_id} to {asked.node_id}".encode()
                    assert await asker.ask(asked, "echo", text) == text
                    assert asked.asked_of[-1][0] == asker.node_id

    async def test_an_answer_is_what_was_given(self, mesh: Mesh) -> None:
        here, there = await two(mesh)
        for _ in range(2):
            answer = await here.links.ask("b", asks("echo", b"one"), 0.8)
            assert answer == mesh_pb.Answer(call=mesh_pb.CallResult(response=b"one"))
        assert all(700 < timeout_ms <= 800 for timeout_ms in there.timeouts_ms)

    async def test_questions_begin_in_their_order(self, mesh: Mesh) -> None:
        here, there = await two(mesh)
        names = [str(number) for number in range(3000)]
        methods = ("echo", "turn")
        answers = await asyncio.gather(
            *(
                here.links.ask("b", asks(methods[int(name) % 2], name.encode(), name), ASK_S)
                for name in names
            )
        )
        assert [name for _, name in there.asked_of] == names
        assert [answer.call.response.decode() for answer in answers] == names

    async def test_a_question_that_waits_holds_up_no_other(self, mesh: Mesh) -> None:
        here, there = await two(mesh)
        waiting = asyncio.create_task(here.ask(there, "wait", b"late"))
        assert await here.ask(there, "echo", b"early") == b"early"
        assert not waiting.done()
        there.gate.set()
        assert await waiting == b"late"

    async def test_news_come_in_their_order(self, mesh: Mesh) -> None:
        here, there = await two(mesh)
        pieces = [b"%d" % number for number in range(5000)]
        for number, piece in enumerate(pieces):
            assert here.tell(there, piece)
            if not number % 100:
                await asyncio.sleep(0)
        await until(lambda: len(there.told_of) == len(pieces), "all are told")
        assert there.told_of == [("a", piece) for piece in pieces]

    async def test_nothing_is_shared_with_who_gets_it(self, mesh: Mesh) -> None:
        here, there = await two(mesh)
        question, told = asks("turn", b"one"), news(b"one")
        asking = asyncio.create_task(here.links.ask("b", question, ASK_S))
        await asyncio.sleep(0)
        here.links.tell("b", told)
        question.call.request = told.for_users.piece = b"two"
        assert (await asking).call.response == b"one"
        await until(lambda: there.told_of == [("a", b"one")], "it is told as it was")

    async def test_what_fails_there_is_an_error_here(self, mesh: Mesh) -> None:
        here, there = await two(mesh)
        for method in ("fail", "cancelled", "cancel"):
            answer = await here.links.ask("b", asks(method), ASK_S)
            assert answer.error.code == Code.INTERNAL
            assert "asked to fail" not in answer.error.message
        for piece in (b"fail", b"fine"):
            here.tell(there, piece)
        assert await here.ask(there, "echo", b"one") == b"one"
        await until(lambda: len(there.told_of) == 2, "the next news are told")

    async def test_a_node_that_is_not_followed_is_not_asked(self, mesh: Mesh) -> None:
        here, there = await mesh.node("a"), await mesh.node("b")
        assert not await unreachable(here, there, "echo")
        assert not here.tell(there, b"one")
        assert not here.links.is_up("b")

    async def test_no_answer_in_time(self, mesh: Mesh) -> None:
        here, there = await two(mesh)
        loop = asyncio.get_running_loop()
        began = loop.time()
        late = asyncio.create_task(unreachable(here, there, "wait", timeout_s=0.4))
        assert await unreachable(here, there, "wait", timeout_s=0.1)
        assert 0.1 <= loop.time() - began < 0.35
        assert await late
        assert 0.4 <= loop.time() - began < 0.8
        await until(lambda: there.at_work == 0, "the work is given up")
        assert there.cancelled == 2
        assert await here.ask(there, "echo", b"one") == b"one"

    async def test_an_asker_that_has_gone_harms_nobody(self, mesh: Mesh) -> None:
        here, there = await two(mesh)
        asking = asyncio.create_task(here.ask(there, "wait", timeout_s=0.5))
        await until(lambda: there.at_work == 1, "it is asked")
        asking.cancel()
        assert await here.ask(there, "echo", b"one") == b"one"
        await until(lambda: there.at_work == 0, "the work is given up in time")

    async def test_a_link_that_breaks_fails_its_questions_and_is_opened_again(
        self, mesh: Mesh
    ) -> None:
        here, there = await two(mesh)
        await until(lambda: here.changes == [("b", True)], "it is told that the link is up")
        asking = asyncio.create_task(unreachable(here, there, "wait"))
        await until(lambda: there.at_work == 1, "it is asked")
        mesh.cut(here, there)
        assert await asking
        await until(lambda: len(here.changes) == 3, "the link is up again")
        assert here.changes == [("b", True), ("b", False), ("b", True)]
        await until(lambda: there.at_work == 0, "the work is given up")
        assert await here.ask(there, "echo", b"one") == b"one"

    async def test_a_node_that_is_followed_no_more(self, mesh: Mesh) -> None:
        here, there = await two(mesh)
        asking = asyncio.create_task(unreachable(here, there, "wait"))
        await until(lambda: there.at_work == 1, "it is asked")
        here.links.follow({})
        assert await asking
        assert not await unreachable(here, there, "echo")
        assert here.changes == [("b", True), ("b", False)]
        await until(lambda: not there.links.is_up("a"), "it is not let in either")
        here.links.follow({"b": mesh.address(there)})
        await until(lambda: here.links.is_up("b") and there.links.is_up("a"), "both are up")

    async def test_an_opener_that_becomes_known_a_moment_later(self, mesh: Mesh) -> None:
        here, there = await mesh.node("a"), await mesh.node("b")
        here.links.follow({"b": mesh.address(there)})
        await asyncio.sleep(0.3)
        assert not here.links.is_up("b")
        there.links.follow({"a": mesh.address(here)})
        await until(lambda: here.links.is_up("b"), "it is let in")
        assert await here.ask(there, "echo", b"one") == b"one"

    async def test_a_node_that_stops_and_one_that_takes_its_place(self, mesh: Mesh) -> None:
        here, there = await two(mesh)
        asking = asyncio.create_task(unreachable(here, there, "wait"))
        await until(lambda: there.at_work == 1, "it is asked")
        await there.links.stop()
        assert await asking
        assert not await unreachable(here, there, "echo")
        assert there.changes[-1] == ("a", False)
        after = await mesh.node("c")
        await connect(mesh, here, after)
        assert await here.ask(after, "echo", b"one") == b"one"
        assert here.changes[-1] == ("c", True)

    async def test_the_questions_in_flight_are_bounded(self, mesh: Mesh) -> None:
        here, there = await two(mesh, questions=10)
        asking = [asyncio.create_task(here.ask(there, "wait")) for _ in range(10)]
        await until(lambda: there.at_work == 10, "all are asked")
        assert not await unreachable(here, there, "echo")
        there.gate.set()
        await asyncio.gather(*asking)
        assert await here.ask(there, "echo", b"one") == b"one"

    async def test_the_answers_at_work_are_bounded(self, mesh: Mesh) -> None:
        here, there = await two(mesh, at_work=10)
        asking = [asyncio.create_task(here.ask(there, "wait", b"%d" % n)) for n in range(200)]
        await until(lambda: there.at_work == 10, "some are asked")
        await asyncio.sleep(0.1)
        assert len(there.asked_of) == 10
        there.gate.set()
        assert await asyncio.gather(*asking) == [b"%d" % number for number in range(200)]
        assert there.most_at_work == 10

    async def test_what_waits_to_leave_is_bounded(self, mesh: Mesh) -> None:
        here, there = await two(mesh, queue_bytes=100_000)
        told = 0
        while here.tell(there, b"x" * 1000):
            told += 1
        assert 90 <= told <= 100
        with pytest.raises(Unreachable, match="wait already") as caught:
            await here.ask(there, "echo", b"x" * 1000)
        assert not caught.value.sent
        await until(lambda: len(there.told_of) == told, "those that were taken are told")
        assert await here.ask(there, "echo", b"one") == b"one"

    async def test_large_messages(self, mesh: Mesh) -> None:
        here, there = await two(mesh)
        large = bytes(MESSAGE_BYTES - 100)
        asking = [here.ask(there, "echo", text) for text in (b"before", large, b"after")]
        assert await asyncio.gather(*asking) == [b"before", large, b"after"]
        assert here.tell(there, large)
        await until(lambda: len(there.told_of) == 1, "it is told")
        assert not here.tell(there, bytes(MESSAGE_BYTES + 100))
        with pytest.raises(Unreachable, match="at most") as caught:
            await here.ask(there, "echo", bytes(MESSAGE_BYTES + 100))
        assert not caught.value.sent
        answer = await here.links.ask("b", asks("fill", b"%d" % (MESSAGE_BYTES + 1)), ASK_S)
        assert answer.error.code == Code.RESOURCE_EXHAUSTED
        assert await here.ask(there, "fill", b"10") == bytes(10)

    async def test_stopping_with_questions_in_flight(self, mesh: Mesh) -> None:
        here, there = await two(mesh)
        asking = [asyncio.create_task(unreachable(here, there, "wait")) for _ in range(100)]
        await until(lambda: there.at_work == 100, "all are asked")
        await here.links.stop()
        assert all(await asyncio.gather(*asking))
        await until(lambda: there.at_work == 0, "the work is given up")
        assert not await unreachable(here, there, "echo")
        await here.links.stop()
