"""The form of what nodes tell each other, and what is passed over."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from chinwag.common.v1 import close_pb2
from chinwag_server.account.news import (
    MAX_BYTES,
    AccountNews,
    EventsAdded,
    Hooks,
    KeyRevoked,
    News,
    SessionEnded,
    SigningKeysChanged,
    UserChanged,
    decode,
    encode,
)
from chinwag_server.mesh.memory_bus import Hub, MemoryBus

ALL: list[News] = [
    UserChanged("ann"),
    EventsAdded("ann"),
    SessionEnded("ann", "phone", close_pb2.CLOSE_REASON_LOGGED_OUT),
    SessionEnded("ann", "", close_pb2.CLOSE_REASON_BANNED),
    KeyRevoked("k1"),
    SigningKeysChanged(),
]


@pytest.mark.parametrize("news", ALL, ids=repr)
def test_it_comes_back_whole(news: News) -> None:
    payload = encode(news, "n1")
    assert decode(payload) == ("n1", news)
    assert len(payload) < 200


@pytest.mark.parametrize(
    "changes",
    [{"v": 2}, {"v": None}, {"kind": "weather"}, {"kind": 7}, {"kind": ["user"]}],
    ids=repr,
)
def test_other_kinds_and_forms_are_not_known(changes: dict[str, Any]) -> None:
    message = json.loads(encode(UserChanged("ann"), "n1"))
    assert decode(json.dumps(message | changes).encode()) == ("n1", None)


def test_fields_may_be_added() -> None:
    message = json.loads(encode(UserChanged("ann"), "n1"))
    payload = json.dumps(message | {"version": 7}).encode()
    assert decode(payload) == ("n1", UserChanged("ann"))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"[]",
        b'"text"',
        b"{}",
        b'{"v":1,"node":7,"kind":"user","user_id":"ann"}',
        b'{"v":1,"node":"n1","kind":"user"}',
        b'{"v":1,"node":"n1","kind":"user","user_id":7}',
        b'{"v":1,"node":"n1","kind":"session","user_id":"a","device_id":"b","reason":true}',
        b"[" * 1000,
        b" " * MAX_BYTES + b"{}",
    ],
)
def test_what_is_no_news_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(payload)


class Node:
    """A node's hooks, and what they were called for."""

    def __init__(self, hub: Hub, name: str, topic: str = "accounts/1") -> None:
        self.called: list[tuple[object, ...]] = []
        self.gaps = 0
        self.bus = MemoryBus(hub)
        self.hooks = Hooks(
            on_change=[lambda id_: self.called.append(("change", id_))],
            on_event=[lambda id_: self.called.append(("event", id_))],
            on_end=[lambda *end: self.called.append(("end", *end))],
            on_revoke=[lambda id_: self.called.append(("revoke", id_))],
            on_keys=[lambda: self.called.append(("keys",))],
            heard_user=lambda id_: self.called.append(("heard", id_)),
            heard_keys=lambda: self.called.append(("heard keys",)),
        )
        self.news = AccountNews(self.bus, self.hooks, topic=topic, node=name, on_gap=self.missed)

    def missed(self) -> None:
        self.gaps += 1

    async def start(self) -> None:
        await self.bus.open()
        self.news.start()

    def happen(self) -> None:
        """One of each, as those call it who have made a change."""
        banned = close_pb2.CLOSE_REASON_BANNED
        for change in self.hooks.on_change:
            change("ann")
        for event in self.hooks.on_event:
            event("ann")
        for end in self.hooks.on_end:
            end("ann", None, banned)
        for revoke in self.hooks.on_revoke:
            revoke("k1")
        for keys in self.hooks.on_keys:
            keys()


async def passed() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_each_is_handled_once_by_each() -> None:
    hub = Hub()
    one, two, three = nodes = [Node(hub, name) for name in "abc"]
    stranger = Node(hub, "d", "accounts/2")
    for node in (*nodes, stranger):
        await node.start()
    one.happen()
    await passed()
    banned = close_pb2.CLOSE_REASON_BANNED
    ended = ("end", "ann", None, banned)
    mine = [("change", "ann"), ("event", "ann"), ended, ("revoke", "k1"), ("keys",)]
    assert one.called == mine
    heard = [("heard", "ann"), *mine[:4], ("heard keys",)]
    assert two.called == three.called == heard
    assert stranger.called == []
    two.news.stop()
    two.happen()
    one.happen()
    await passed()
    assert two.called == heard + mine
    assert three.called == heard * 2


async def test_what_is_no_news_harms_nothing() -> None:
    hub = Hub()
    one, two = Node(hub, "a"), Node(hub, "b")
    for node in (one, two):
        await node.start()
    one.bus.publish("accounts/1", b"nonsense")
    one.bus.publish("accounts/1", encode(SessionEnded("ann", "phone", 9999), "a"))
    await passed()
    # A reason of the future ends the session all the same.
    revoked = close_pb2.CLOSE_REASON_SESSION_REVOKED
    assert two.called == [("end", "ann", "phone", revoked)]


async def test_a_gap_is_told() -> None:
    hub = Hub()
    node = Node(hub, "a")
    await node.start()
    hub.lose()
    await passed()
    assert node.gaps == 1
