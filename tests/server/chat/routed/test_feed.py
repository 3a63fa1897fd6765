"""The feed of a mesh: every entry, from any node, whoever owns its channel meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from chinwag.chat.v1 import chat_service_pb2 as pb
from chinwag_server.chat.routed.feed_cursor import MAX_EPOCH, Position
from chinwag_server.chat.sequenced import schema
from chinwag_server.chat.sequenced.feed import MAX_NUMBER, Place
from chinwag_server.mesh.shards import SHARDS, shard_of
from chinwag_server.rpc.caller import Caller, set_caller
from tests.server.chat.routed.nodes import Node, Nodes, until
from tests.server.chat.rules import refused


@pytest.fixture
async def mesh() -> AsyncIterator[Nodes]:
    mesh = Nodes()
    await mesh.start()
    yield mesh
    await mesh.stop()


class Backend:
    """Reads the feed at one node after the other, each time from its cursor."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        self.seen: dict[str, list[int]] = {}  # by channel, what came for the first time
        self.cursor = ""
        self.batches = 0
        self.repeats = 0
        self._reading: asyncio.Task[None] | None = None

    def read_at(self, node: Node) -> None:
        """Reads there from now on."""
        self.leave()
        self._reading = asyncio.ensure_future(self._read(node))

    def leave(self) -> None:
        """Reads no more."""
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self, node: Node) -> None:
        set_caller(Caller(api_key_id="k1"))
        fields = {**self.fields, "cursor": self.cursor} if self.cursor else self.fields
        request = pb.StreamEventsRequest(**fields)
        async for batch in node.room.servicer.StreamEvents(request, None):
            self.batches += 1
            for entry in batch.entries:
                ids = self.seen.setdefault(entry.channel_id, [])
                if ids and entry.id <= ids[-1]:
                    self.repeats += 1
                    continue
                assert not ids or entry.id == ids[-1] + 1, (entry.channel_id, entry.id, ids)
                ids.append(entry.id)
            assert 0 < len(batch.cursor) < 16_384
            self.cursor = batch.cursor

    async def has(self, expected: dict[str, int]) -> None:
        """Waits until it has all entries of channels up to their ids."""
        whole = {channel: list(range(1, last + 1)) for channel, last in expected.items()}

        def done() -> bool:
            reading = self._reading
            assert reading is not None
            if reading.done():
                reading.result()
            return all(self.seen.get(channel) == ids for channel, ids in whole.items())

        await until(done, 20)


async def groups(mesh: Nodes) -> list[str]:
    """Channels of all nodes."""
    node = mesh.nodes[0]
    found = [await node.group("ann", "bob", request_id=str(number)) for number in range(16)]
    assert len({mesh.owner_of(channel).meshed.node_id for channel in found}) == 3
    return found


async def say(node: Node, channels: Sequence[str], number: int) -> None:
    """One message in each channel."""
    await asyncio.gather(*(node.send("ann", channel, f"m{number}") for channel in channels))


async def test_entries_of_all_nodes_come_in_the_order_of_their_channels(mesh: Nodes) -> None:
    a, b, c = mesh.nodes
    channels = await groups(mesh)
    early, late = Backend(), Backend()
    early.read_at(a)
    for number in range(5):
        await say(mesh.nodes[number % 3], channels, number)
    expected = dict.fromkeys(channels, 6)
    await early.has(expected)
    late.read_at(b)
    await late.has(expected)
    assert not early.repeats
    assert not late.repeats
    # A cursor of one node goes on at another, and with nothing twice.
    batches = early.batches
    early.read_at(c)
    await say(a, channels[:1], 5)
    await early.has(expected | {channels[0]: 7})
    assert early.batches == batches + 1
    assert not early.repeats
    early.leave()
    late.leave()


async def test_only_the_channels_that_are_asked_for_come(mesh: Nodes) -> None:
    a, b, _ = mesh.nodes
    wanted, other = await a.group("ann", "bob"), await b.group("ann", "bob")
    backend = Backend(channel_ids=[wanted, "nowhere"])
    backend.read_at(b)
    for number in range(3):
        await say(a, [wanted, other], number)
    await backend.has({wanted: 4})
    assert backend.seen.keys() == {wanted}
    backend.leave()


async def test_a_hand_over_loses_and_repeats_nothing(mesh: Nodes) -> None:
    channels = await groups(mesh)
    owner = mesh.owner_of(channels[0])
    rest = [node for node in mesh.nodes if node is not owner]
    backend, stranger = Backend(), Backend()
    backend.read_at(rest[0])
    stranger.read_at(owner)
    await stranger.has(dict.fromkeys(channels, 1))
    for number in range(4):
        await say(rest[number % 2], channels, number)
    mesh.nodes.remove(owner)
    leaving = asyncio.ensure_future(owner.stop())
    for number in range(8):
        await say(rest[number % 2], channels, number)
    await leaving
    expected = dict.fromkeys(channels, 13)
    await backend.has(expected)
    assert not backend.repeats
    stranger.read_at(rest[1])
    await stranger.has(expected)
    backend.leave()
    stranger.leave()


async def test_a_node_that_is_killed_loses_nothing(mesh: Nodes) -> None:
    channels = await groups(mesh)
    victim = mesh.owner_of(channels[0])
    rest = [node for node in mesh.nodes if node is not victim]
    backend, stranger = Backend(), Backend()
    backend.read_at(rest[0])
    stranger.read_at(victim)
    for number in range(3):
        await say(rest[0], channels, number)
    await stranger.has(dict.fromkeys(channels, 4))
    mesh.nodes.remove(victim)
    # Its leases end by themselves.
    await victim.room.stop()
    await victim.meshed.stop()
    await victim.bus.close()
    stranger.read_at(rest[1])
    await mesh.settled()
    for number in range(3):
        await say(rest[1], channels, number)
    expected = dict.fromkeys(channels, 7)
    await backend.has(expected)
    await stranger.has(expected)
    newcomer = Backend()
    newcomer.read_at(rest[1])
    await newcomer.has(expected)
    for one in (backend, stranger, newcomer):
        one.leave()


async def test_more_than_a_batch_holds_comes_in_parts(
    mesh: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "FEED_BUCKET", 7)
    a, b, _ = mesh.nodes
    channel = await a.group("ann", "bob")
    for _ in range(60):
        await a.send("ann", channel, "x" * 20_000)
    backend = Backend(channel_ids=[channel])
    backend.read_at(b)
    await backend.has({channel: 61})
    assert backend.batches > 2
    assert not backend.repeats
    backend.leave()


async def test_the_feed_of_a_mesh_that_keeps_none(mesh: Nodes) -> None:
    node = mesh.nodes[0]
    node.room._feed._log = None
    stream: Any = node.room.servicer.StreamEvents(pb.StreamEventsRequest(), None)
    await refused("DISABLED", anext(stream))


# --- cursors ---


def test_a_cursor_is_what_it_was() -> None:
    position = Position(5)
    for shard in range(SHARDS):
        position.move(shard, Place(1000 + shard * 7, shard * 1000))
    cursor = position.cursor()
    assert len(cursor) < 8_000
    found = Position.parse(cursor, 5)
    assert found is not None
    assert [found[shard] for shard in range(SHARDS)] == [position[s] for s in range(SHARDS)]
    # Moves keep what is encoded true, also below the lowest epoch.
    for shard, place in ((3, Place(9999, 1)), (0, Place(5, 5)), (1, Place(2000, 8))):
        position.move(shard, place)
        found = Position.parse(position.cursor(), 5)
        assert found is not None
        assert [found[shard] for shard in range(SHARDS)] == [position[s] for s in range(SHARDS)]


def test_the_longest_cursor_is_taken() -> None:
    position = Position((1 << 63) - 1)
    for shard in range(SHARDS):
        position.move(shard, Place(MAX_EPOCH if shard else 0, MAX_NUMBER))
    cursor = position.cursor()
    assert len(cursor) < 15_200
    assert Position.parse(cursor, (1 << 63) - 1) is not None


def test_a_foreign_cursor_is_none() -> None:
    position = Position(5)
    position.move(shard_of("c"), Place(7, 7))
    cursor = position.cursor()
    assert Position.parse(cursor, 6) is None
    for wrong in (
        "",
        "x",
        "1.5",
        cursor[:-1],
        cursor[1:],
        cursor.swapcase(),
        "é",
        cursor + "=" * 9,
    ):
        assert Position.parse(wrong, 5) is None
