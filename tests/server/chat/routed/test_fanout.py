"""Whichever way entries go to other nodes, devices observe the same, also when news are lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from chinwag.mesh.v1 import mesh_service_pb2 as pb
from chinwag_server.chat.routed.fanout import FanoutLimits
from tests.server.chat.routed.nodes import Node, Nodes, until
from tests.server.chat.rules import Device, cursors

MESSAGES = 40
USERS = ("ann", "bob", "cem", "dan")

WAYS = {
    "direct": FanoutLimits(direct_members=1000, pubsub_members=1000),
    "pubsub": FanoutLimits(direct_members=0, pubsub_members=1000),
    "lazy": FanoutLimits(),
}


async def lose_nothing(mesh: Nodes, rng: random.Random) -> None:
    pass


async def lose_publications(mesh: Nodes, rng: random.Random) -> None:
    mesh.hub.lose()


async def cut_a_link(mesh: Nodes, rng: random.Random) -> None:
    first, second = rng.sample(mesh.nodes, 2)
    mesh.network.cut(first.meshed.node_id, second.meshed.node_id)


async def lose_sessions(mesh: Nodes, rng: random.Random) -> None:
    mesh.sessions.away = not mesh.sessions.away


async def wipe_sessions(mesh: Nodes, rng: random.Random) -> None:
    mesh.sessions.wipe()


Loss = Callable[[Nodes, random.Random], Awaitable[None]]
LOSSES: dict[str, Loss] = {
    "nothing": lose_nothing,
    "publications": lose_publications,
    "links": cut_a_link,
    "sessions": lose_sessions,
    "wiped": wipe_sessions,
}


class App:
    """A device that comes back when it is told to, from its cursor, and keeps what it is told in
    the order in which it is new, as an SDK does."""

    def __init__(self, node: Node, user_id: str, channel_id: str, looks: bool) -> None:
        self._node = node
        self._user_id = user_id
        self._channel_id = channel_id
        self._looks = looks
        self.seen: list[tuple[int, str]] = []
        self.holes: list[tuple[int, int]] = []
        self._device: Device | None = None
        self._taken = 0
        self._head = 1

    async def connect(self) -> None:
        """Opens a stream from where it is."""
        at = cursors((self._channel_id, self._head), generation=1)
        self._device, self._taken = self._node.connect(self._user_id), 0
        fields = {"subscriptions": {"channels": at}} if self._looks else {"cursors": at}
        await self._device.hello(**fields)

    async def look(self) -> None:
        """Takes what has come."""
        assert self._device is not None
        entries = self._device.entries
        for entry in entries[self._taken :]:
            if entry.id <= self._head:
                continue  # it has that
            if entry.id != self._head + 1:
                self.holes.append((self._head, entry.id))
            self._head = entry.id
            self.seen.append((entry.id, entry.message_sent.content.text))
        self._taken = len(entries)
        if self._device.stream.closed:
            await self.connect()


async def play(way: str, loss: str) -> list[list[tuple[int, str]]]:
    """What each device saw of the same sends under the same losses."""
    rng = random.Random(7)  # a script, no secret
    mesh = Nodes(limits=WAYS[way])
    nodes = await mesh.start()
    if way == "lazy":
        made = await nodes[0].call("ann", "CreateChannel", kind=3, name="n", is_public=True)
        channel_id = made.channel.channel.id
        for user_id in USERS[1:]:
            await nodes[1].call(user_id, "JoinChannel", channel_id=channel_id)
    else:
        channel_id = await nodes[0].group(*USERS)
    apps = [
        App(nodes[number % 3], user_id, channel_id, way == "lazy")
        for number, user_id in enumerate(USERS)
    ]
    for app in apps:
        await app.connect()
    for number in range(MESSAGES):
        if number % 8 == 4:
            await LOSSES[loss](mesh, rng)
        await rng.choice(nodes).send("ann", channel_id, f"m{number}")
        await asyncio.sleep(0.01)
        for app in apps:
            await app.look()
    mesh.sessions.away = False

    async def all_seen() -> bool:
        for app in apps:
            await app.look()
        return all(len(app.seen) >= MESSAGES for app in apps)

    async with asyncio.timeout(20):
        while not await all_seen():  # noqa: ASYNC110  # no event says so
            await asyncio.sleep(0.05)
    await mesh.stop()
    assert not any(app.holes for app in apps)
    return [app.seen for app in apps]


@pytest.mark.parametrize("loss", list(LOSSES))
async def test_devices_observe_the_same(loss: str) -> None:
    told = await asyncio.gather(*(play(way, loss) for way in WAYS))
    expected = [f"m{number}" for number in range(MESSAGES)]
    for seen in told:
        for device in seen:
            assert [text for _, text in device] == expected
            ids = [entry_id for entry_id, _ in device]
            assert ids == list(range(ids[0], ids[0] + MESSAGES))
    direct, pubsub, _ = told
    assert direct == pubsub


async def test_who_subscribes_is_told_by_publication_alone() -> None:
    mesh = Nodes(limits=WAYS["pubsub"])
    nodes = await mesh.start()
    channel_id = await nodes[0].group(*USERS)
    owner = mesh.owner_of(channel_id)
    apps = [App(node, user, channel_id, False) for node, user in zip(nodes, USERS, strict=False)]
    for app in apps:
        await app.connect()
    delivery = owner.meshed.across.delivery
    others = {node.meshed.node_id for node in mesh.others(channel_id)}
    whereabouts = owner.meshed.across._whereabouts
    await owner.send("ann", channel_id, "first")
    await until(lambda: whereabouts.subscribed(channel_id) == others)
    published: list[str] = []
    publish = owner.bus.publish
    told: list[str] = []
    tell = owner.meshed.links.tell

    def counted_publish(topic: str, payload: bytes) -> None:
        published.append(topic)
        publish(topic, payload)

    def counted_tell(node_id: str, news: object) -> bool:
        if getattr(news, "WhichOneof")("news") == "entries":  # noqa: B009
            told.append(node_id)
        return tell(node_id, news)  # type: ignore[arg-type]

    delivery._bus.publish = counted_publish  # type: ignore[method-assign]
    delivery._links.tell = counted_tell  # type: ignore[method-assign]
    await owner.send("ann", channel_id, "second")
    await until(partial(bool, published))
    for app in apps:
        async with asyncio.timeout(5):
            while len(app.seen) < 2:
                await app.look()
                await asyncio.sleep(0.01)
    assert published == [f"entries:{channel_id}"]
    assert told == []
    await mesh.stop()


async def test_a_node_that_is_told_in_a_publications_place_is_told_for_all_users() -> None:
    """Who is where was asked some seconds ago, and a node that has passed an entry on to some of
    its users looks no more for what another one of them lacks."""
    mesh = Nodes(limits=WAYS["pubsub"])
    nodes = await mesh.start()
    users = ("ann", "bob", "cid")
    channel_id = await nodes[0].group(*users)
    owner, other = mesh.owner_of(channel_id), mesh.others(channel_id)[0]
    app = App(other, "bob", channel_id, False)
    await app.connect()
    told: list[list[str]] = []
    tell = owner.meshed.links.tell

    def noted_tell(node_id: str, news: pb.News) -> bool:
        if news.WhichOneof("news") == "entries":
            told.append(sorted(news.entries.user_ids))
        return tell(node_id, news)

    # As at an owner that has just become one: what it knows of bob's node is what the sessions say.
    owner.meshed.across._whereabouts._watched.clear()
    owner.meshed.across._whereabouts._kept.clear()
    owner.meshed.across.delivery._links.tell = noted_tell  # type: ignore[method-assign]
    await owner.send("ann", channel_id, "hello")
    await until(lambda: bool(told))
    assert told == [list(users)]
    await mesh.stop()
