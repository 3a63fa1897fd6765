"""An owner looks for a send only if it may be a repeat."""

from __future__ import annotations

from chinwag_server.chat.sequenced.newest import NewestSends
from tests.server.chat.routed.nodes import Node
from tests.server.chat.test_page_cache import node, reads

__all__ = ["node"]


def test_what_is_not_known_has_to_be_read() -> None:
    newest = NewestSends()
    assert newest.is_new("ann", 1, b"5") is None
    newest.learned("ann", 1, b"5")
    assert newest.is_new("ann", 1, b"5") is False
    assert newest.is_new("ann", 1, b"6") is True
    assert newest.is_new("ann", 2, b"6") is None
    assert newest.is_new("bob", 1, b"6") is None


def test_what_is_stored_meanwhile_counts() -> None:
    newest = NewestSends()
    newest.stored("ann", 1, b"7")
    assert newest.is_new("ann", 1, b"8") is None
    newest.learned("ann", 1, b"5")  # the read did not see it yet
    assert newest.is_new("ann", 1, b"7") is False
    newest.stored("ann", 1, b"9")
    assert newest.is_new("ann", 1, b"8") is False
    assert newest.is_new("ann", 1, b"a") is True


def test_what_is_forgotten_while_it_is_stored_is_noted_after_it() -> None:
    newest = NewestSends(most=2)
    newest.stored("ann", 1, b"7")
    newest.learned("bob", 1, b"1")
    newest.learned("cem", 1, b"1")
    assert newest.is_new("ann", 1, b"7") is None
    newest.learned("ann", 1, b"5")
    newest.stored("ann", 1, b"7")
    assert newest.is_new("ann", 1, b"7") is False


async def test_a_sender_is_read_once(node: Node) -> None:
    channel = await node.group("ann", "bob")
    await node.send("ann", channel, "first")
    counts = reads(node)
    counts.clear()
    keys = [node.message_id() for _ in range(3)]
    for key in keys:
        await node.send("ann", channel, "more", client_message_id=key)
    assert counts["sends"] == 0
    sent = await node.send("ann", channel, "more", client_message_id=keys[1])
    assert sent == 4
    assert counts["sends"] == 1
    await node.send("bob", channel, "hi")
    assert counts["sends"] == 2
