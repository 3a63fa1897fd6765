"""A hundred members read one message: what each of them is sent, by a real node."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from grpc import aio

from chinwag.chat.v1 import (
    channel_pb2,
    chat_service_pb2,
    chat_service_pb2_grpc,
    connect_pb2,
    message_pb2,
)
from tests.server.serving import Served, bearer
from tests.wire.hostile.crowd import new_id

MEMBERS = [f"user{number:03}" for number in range(100)]
# That the sender has read it goes without saying.
READERS = frozenset(MEMBERS[1:])
TIMEOUT_S = 30.0


class Reader:
    """A member's device that wants receipts.

    Attributes:
        caught_up: It has what was before it came.
        marks: The newest read mark of each other member that it was told of.
        frames: How many frames with receipts came.
        receipts: How many receipts were in them, by member.
    """

    def __init__(self, user_id: str, call: Any) -> None:
        self.user_id = user_id
        self.call = call
        self.caught_up = asyncio.Event()
        self.got = asyncio.Event()
        self.done = asyncio.Event()
        self.marks: dict[str, int] = {}
        self.frames = 0
        self.receipts: Counter[str] = Counter()

    async def listen(self) -> None:
        """Takes frames until the stream is cancelled."""
        hello = connect_pb2.Hello(
            protocol_version=1, subscriptions=connect_pb2.Subscriptions(receipts=True)
        )
        await self.call.write(connect_pb2.ConnectRequest(hello=hello))
        while (response := await self.call.read()) is not aio.EOF:
            if response.HasField("caught_up"):
                self.caught_up.set()
            if any(event.HasField("entry") for event in response.events):
                self.got.set()
            # Before it, the catch-up tells where everybody stands.
            if self.got.is_set() and response.receipts:
                self._take(response)

    def _take(self, response: connect_pb2.ConnectResponse) -> None:
        self.frames += 1
        told = [receipt.user_id for receipt in response.receipts]
        assert len(told) == len(set(told)), "a member is named twice in one frame"
        self.receipts.update(told)
        for receipt in response.receipts:
            self.marks[receipt.user_id] = receipt.read_id
        if READERS - {self.user_id} <= self.marks.keys():
            self.done.set()


async def test_a_hundred_marks_are_a_few_frames_for_each_member(
    bare_server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = bare_server.node.chat.hub
    flushes = 0
    flush = hub.flush_receipts

    def counted() -> None:
        nonlocal flushes
        flushes += bool(hub._receipts)
        flush()

    monkeypatch.setattr(hub, "flush_receipts", counted)
    stub: Any = bare_server.stub(chat_service_pb2_grpc.ChatServiceStub)
    owner = bearer(f"{MEMBERS[0]}/1")
    created = await stub.CreateChannel(
        chat_service_pb2.CreateChannelRequest(
            kind=channel_pb2.CHANNEL_KIND_GROUP, name="g", member_user_ids=MEMBERS[1:]
        ),
        metadata=owner,
    )
    channel_id = created.channel.channel.id
    readers = [Reader(user, stub.Connect(metadata=bearer(f"{user}/1"))) for user in MEMBERS]
    listening = [asyncio.ensure_future(reader.listen()) for reader in readers]
    async with asyncio.timeout(TIMEOUT_S):
        await asyncio.gather(*(reader.caught_up.wait() for reader in readers))
        sent = await stub.SendMessage(
            connect_pb2.SendMessageRequest(
                channel_id=channel_id,
                client_message_id=new_id(),
                content=message_pb2.MessageContent(text="read me"),
            ),
            metadata=owner,
        )
        await asyncio.gather(*(reader.got.wait() for reader in readers))
        mark = connect_pb2.Mark(channel_id=channel_id, read_id=sent.message.id)
        for reader in readers[1:]:
            await reader.call.write(connect_pb2.ConnectRequest(marks=[mark]))
        await asyncio.gather(*(reader.done.wait() for reader in readers))
    for reader, listens in zip(readers, listening, strict=True):
        reader.call.cancel()
        listens.cancel()
    assert 0 < flushes < 20, "marks that come at once are told at once"
    for reader in readers:
        told = {reader.marks[user] for user in READERS - {reader.user_id}}
        assert told == {sent.message.id}
        assert reader.frames <= flushes, "at most one frame a flush"
        assert set(reader.receipts.values()) <= {1}, "a mark that did not rise was told again"
