"""The edge alone: what it makes of what owners tell, and of devices that come."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chinwag.chat.v1 import entry_pb2
from chinwag_server.chat.listeners import Listeners
from chinwag_server.chat.routed.edge import Edge
from chinwag_server.chat.store import MemberRecord, StoredEntry


class Listener:
    """A device that notes which entries it is offered."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.device_id = "d"

    def offer(self, _channel_id: str, entry_id: int, _piece: bytes) -> None:
        self.got.append(entry_id)


class Log:
    """`EdgeReads` of one channel of which all may see everything."""

    def __init__(self) -> None:
        self.head = 0
        self.on_head: Any = None

    async def entries(
        self, channel_id: str, after_id: int, to_id: int, limit: int, _max_bytes: int
    ) -> list[StoredEntry]:
        ids = range(after_id + 1, min(to_id, self.head, after_id + limit) + 1)
        return [
            StoredEntry(id_, entry_pb2.Entry(channel_id=channel_id, id=id_).SerializeToString())
            for id_ in ids
        ]

    async def group_member(self, channel_id: str, user_id: str) -> MemberRecord | None:
        return MemberRecord(channel_id, user_id, role=1, ranges=((1, 0),))


class Stage:
    def __init__(self) -> None:
        self.listeners = Listeners()
        self.log = Log()
        self.edge = Edge(self.listeners, self.log, lambda _users: None)  # type: ignore[arg-type]

    def device(self, user_id: str) -> Listener:
        listener = Listener()
        self.listeners.join(user_id, listener)  # type: ignore[arg-type]
        return listener

    async def told_of(self, head_id: int, since_id: int, *users: str) -> None:
        self.log.head = head_id
        self.edge.head("c", since_id, head_id, users)
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def test_what_was_lost_is_read_when_its_head_is_repeated(stage: Stage) -> None:
    ann = stage.device("ann")
    stage.edge.start_at("c", 3, "ann")
    await stage.told_of(5, 2, "ann")
    assert ann.got == [4, 5]
    await stage.told_of(5, 2, "ann")
    assert ann.got == [4, 5]


async def test_a_device_that_comes_hides_nothing_from_the_users_other_one(stage: Stage) -> None:
    # Found by seed 8440 of the simulation: the first device was told nothing of a new channel, its
    # owner died; the second one came, and read it.
    first = stage.device("ann")
    stage.device("ann")
    stage.edge.start_at("c", 1, "ann")
    await stage.told_of(1, 0, "ann")
    assert first.got == [1]
    await stage.told_of(1, 0, "ann")
    assert first.got == [1]


async def test_nor_from_other_users(stage: Stage) -> None:
    bob = stage.device("bob")
    stage.device("ann")
    stage.edge.start_at("c", 2, "ann")
    await stage.told_of(2, 0, "ann", "bob")
    assert bob.got == [1, 2]
