"""What an owner keeps of pages, and when it reads anew."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from chinwag_server.chat.sequenced.memory import MemoryTables
from chinwag_server.chat.sequenced.page_cache import PageCache
from chinwag_server.chat.sequenced.tables import Key, Row, Table
from chinwag_server.chat.store import MessagePage, StoredMessage
from tests.server.chat.routed.nodes import Node, Nodes, until


class CountedTables(MemoryTables):
    """Counts reads by table."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()

    async def read(self, table: Table, partition: Key, **bounds: Any) -> list[Row]:
        self.reads[table.name] += 1
        return await super().read(table, partition, **bounds)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    mesh = Nodes()
    mesh.tables = CountedTables()
    (node,) = await mesh.start(1)
    yield node
    await mesh.stop()


def reads(node: Node) -> Counter[str]:
    tables = node.mesh.tables
    assert isinstance(tables, CountedTables)
    return tables.reads


async def fifty(node: Node) -> tuple[str, Sequence[int]]:
    channel = await node.group("ann", "bob")
    return channel, [await node.send("ann", channel, f"m{number}") for number in range(50)]


async def test_a_page_is_two_reads_and_then_none(node: Node) -> None:
    channel, _ = await fifty(node)
    reads(node).clear()
    first = await node.texts("bob", channel)
    assert first == [f"m{number}" for number in range(50)]
    assert reads(node) == {"entries": 1, "messages": 1}
    reads(node).clear()
    assert await node.texts("ann", channel) == first
    assert not reads(node)


async def test_an_older_page_is_two_reads_too(node: Node) -> None:
    channel, ids = await fifty(node)
    reads(node).clear()
    texts = await node.texts("bob", channel, before_id=ids[40], page_size=30)
    assert texts == [f"m{number}" for number in range(10, 40)]
    assert reads(node) == {"entries": 1, "messages": 1}


async def test_a_change_of_a_message_shows_at_once(node: Node) -> None:
    channel, ids = await fifty(node)
    await node.texts("bob", channel)
    await node.call(
        "ann",
        "EditMessage",
        channel_id=channel,
        message_id=ids[7],
        content={"text": "edited"},
    )
    assert (await node.texts("bob", channel, before_id=ids[10]))[7] == "edited"
    await node.call("ann", "DeleteMessage", channel_id=channel, message_id=ids[8])
    assert (await node.texts("bob", channel, before_id=ids[10]))[8] == ""
    await node.call("bob", "AddReaction", channel_id=channel, message_id=ids[9], emoji="+")
    answer = await node.call("bob", "ListMessages", channel_id=channel)
    found = {message.id: message for message in answer.messages}
    assert [reaction.emoji for reaction in found[ids[9]].reactions] == ["+"]


async def test_an_older_page_knows_of_newer_messages(node: Node) -> None:
    channel, ids = await fifty(node)
    newest = ids[-1]
    answer = await node.call("bob", "ListMessages", channel_id=channel, before_id=newest + 1)
    assert not answer.has_more_after
    await node.call("ann", "UpdateChannel", channel_id=channel, name="n", update_mask="name")
    answer = await node.call("bob", "ListMessages", channel_id=channel, before_id=newest + 1)
    assert not answer.has_more_after
    await node.send("ann", channel, "one more")
    answer = await node.call("bob", "ListMessages", channel_id=channel, before_id=newest + 1)
    assert answer.has_more_after
    assert len(answer.messages) == 50


async def test_those_who_ask_while_it_is_read_share_it(node: Node) -> None:
    channel, ids = await fifty(node)
    reads(node).clear()
    tables, gate = node.mesh.tables, asyncio.Event()
    read, held = tables.read, [True]

    async def slow(table: Table, partition: Key, **bounds: Any) -> list[Row]:
        rows = await read(table, partition, **bounds)
        if table.name == "entries" and held:
            held.clear()
            await gate.wait()
        return rows

    tables.read = slow  # type: ignore[method-assign]
    asked = [asyncio.ensure_future(node.texts("bob", channel)) for _ in range(20)]
    await until(lambda: bool(reads(node)["entries"]))
    asked += [asyncio.ensure_future(node.texts("ann", channel)) for _ in range(20)]
    for _ in range(20):
        await asyncio.sleep(0)
    asked[0].cancel()
    gate.set()
    found = await asyncio.gather(*asked[1:])
    assert all(texts == [f"m{number}" for number in range(50)] for texts in found)
    assert reads(node) == {"entries": 1, "messages": 1}
    # But not with those who ask after a change.
    gate.clear()
    held.append(True)
    early = asyncio.ensure_future(node.texts("bob", channel, before_id=ids[20]))
    await until(lambda: reads(node)["entries"] > 1)
    await node.call(
        "ann", "EditMessage", channel_id=channel, message_id=ids[7], content={"text": "edited"}
    )
    late = asyncio.ensure_future(node.texts("bob", channel, before_id=ids[20]))
    gate.set()
    assert (await late)[7] == "edited"
    await early


async def test_it_is_bounded_in_bytes() -> None:
    cache = PageCache(max_bytes=10_000)
    asked: list[object] = []

    async def get(key: object, size: int = 1000, *, holds: bool = True) -> MessagePage:
        async def read() -> MessagePage:
            asked.append(key)
            return MessagePage([StoredMessage(1, b"x" * size)])

        return await cache.get(key, read, lambda _page: holds)

    for number in range(100):
        await get(number)
    assert cache.bytes <= 10_000
    asked.clear()
    await get(99)
    assert not asked
    await get(0)
    assert asked == [0]
    for _ in range(2):
        await get("huge", 9000)
        await get("old", holds=False)
    assert asked == [0, "huge", "old", "huge", "old"]


async def test_a_redaction_between_two_reads_of_a_message(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long text lies beside its record: who has read the record finds the text gone."""
    channel = await node.group("ann", "bob")
    message_id = await node.send("ann", channel, "x" * 20_000)
    tables = node.mesh.tables
    read = tables.read

    async def redacted_before(table: Table, partition: Key, **bounds: Any) -> list[Row]:
        if table.name == "bodies":
            monkeypatch.undo()
            await node.call("ann", "DeleteMessage", channel_id=channel, message_id=message_id)
        return await read(table, partition, **bounds)

    monkeypatch.setattr(tables, "read", redacted_before)
    assert await node.texts("bob", channel) == [""]
