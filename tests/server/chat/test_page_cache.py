"""What an owner keeps of pages, and when it reads anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from chinwag_server.chat.sequenced.memory import MemoryTables
from chinwag_server.chat.sequenced.page_cache import PageCache
from chinwag_server.chat.sequenced.tables import Key, Row, Table
from chinwag_server.chat.store import MessagePage, StoredMessage
from tests.server.chat.routed.nodes import Node, Nodes


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


def test_it_is_bounded_in_bytes() -> None:
    cache = PageCache(max_bytes=10_000)
    page = MessagePage([StoredMessage(1, b"x" * 1000)])
    for number in range(100):
        cache.put(number, page)
    assert cache.bytes <= 10_000
    assert cache.get(99) is page
    assert cache.get(0) is None
    cache.put("huge", MessagePage([StoredMessage(1, b"x" * 9000)]))
    assert cache.get("huge") is None


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
