"""Sends on their way to owners that come and go: none overtakes another of its device."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from chinwag.chat.v1 import connect_pb2
from chinwag.mesh.v1 import mesh_service_pb2 as pb
from chinwag_server.chat.routed import sends as routed
from chinwag_server.chat.routed.sends import RoutedSends
from chinwag_server.chat.sends import Answer, Sent
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal

ANN = Caller("ann", "ann-1")
BOB = Caller("bob", "bob-1")
FAILED = Refusal("STORAGE_UNAVAILABLE", "not now")


class Mesh:
    """This node, another one that may be the owner, and what became of sends."""

    def __init__(self) -> None:
        self.node_id = "here"
        self.owner: str | None = "here"
        self.here: list[tuple[str, int, Answer]] = []  # text, index and answer of each
        self.there: list[list[str]] = []
        self.answer: list[pb.SendOutcome] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.outcomes: dict[str, str] = {}
        self.sends = RoutedSends(self, self, self)  # type: ignore[arg-type]

    # --- Owners, Links and the local Sender ---

    def owns(self, _channel_id: str) -> bool:
        return self.owner == "here"

    def owner_of(self, _channel_id: str) -> str | None:
        return self.owner

    async def ask(self, _node_id: str, question: pb.Question, _timeout_s: float) -> pb.Answer:
        self.there.append([send.request.content.text for send in question.sends.sends])
        await self.answers.wait()
        return pb.Answer(sends=pb.SendsResult(outcomes=self.answer))

    async def send(
        self, _caller: Caller, requests: Sequence[connect_pb2.SendMessageRequest], answer: Answer
    ) -> None:
        self.here += [(each.content.text, index, answer) for index, each in enumerate(requests)]

    # --- what a test does ---

    async def say(self, caller: Caller, *texts: str) -> None:
        requests = [connect_pb2.SendMessageRequest(channel_id="c") for _ in texts]
        for request, text in zip(requests, texts, strict=True):
            request.content.text = text

        def answered(index: int, outcome: Sent | Refusal) -> None:
            told = outcome.reason if isinstance(outcome, Refusal) else str(outcome.message_id)
            self.outcomes[texts[index]] = told

        await self.sends.send(caller, requests, answered)

    def settle(self, outcome: Sent | Refusal) -> None:
        """All that is under way here comes to this."""
        some, self.here = self.here, []
        for _, index, answer in some:
            answer(index, outcome)


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_is_behind_a_send_that_is_given_up_is_given_up_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first has waited for as long as any may, the second has not: it must not be stored."""
    mesh = Mesh()
    monkeypatch.setattr(routed, "WAIT_S", 0.0)
    await mesh.say(ANN, "first")
    monkeypatch.setattr(routed, "WAIT_S", 5.0)
    await mesh.say(ANN, "second")
    await mesh.say(BOB, "of another device")
    mesh.owner = None
    mesh.settle(FAILED)
    mesh.owner = "here"
    await asyncio.sleep(0.1)
    assert mesh.outcomes == {"first": "STORAGE_UNAVAILABLE", "second": "STORAGE_UNAVAILABLE"}
    assert [text for text, _, _ in mesh.here] == ["of another device"]
    # From the beginning, it may come again.
    mesh.settle(Sent(7, 0))
    await mesh.say(ANN, "first", "second")
    mesh.settle(Sent(8, 0))
    assert mesh.outcomes == {"of another device": "7", "first": "8", "second": "8"}


async def test_what_waits_behind_a_send_that_is_refused_for_a_moment_is_refused_too() -> None:
    mesh = Mesh()
    mesh.owner = "there"
    status = Refusal("OVERLOADED", "not now", retry_after=1.0).status()
    mesh.answer = [pb.SendOutcome(failed=pb.Outcome(refusal=status))]
    mesh.answers.clear()
    await mesh.say(ANN, "first")
    await turns()
    await mesh.say(ANN, "second")
    mesh.answers.set()
    await turns()
    assert mesh.there == [["first"]]
    assert mesh.outcomes == dict.fromkeys(("first", "second"), "OVERLOADED")


async def test_a_devices_sends_go_to_the_owner_as_one_run() -> None:
    """The owner sees at once what is behind one that it refuses for a moment."""
    mesh = Mesh()
    mesh.owner = "there"
    mesh.answer = [pb.SendOutcome(message_id=number) for number in (1, 2, 3)]
    await mesh.say(ANN, "one")
    await mesh.say(BOB, "of another device")
    await mesh.say(ANN, "two")
    await turns()
    assert mesh.there == [["one", "two", "of another device"]]
    assert mesh.outcomes == {"one": "1", "two": "2", "of another device": "3"}
