"""Edits, deletions, reactions: entries in order, projections that follow, nothing left behind."""

from __future__ import annotations

import asyncio
from typing import Any

from chinwag.chat.v1 import message_pb2
from chinwag_server.chat.entries import parse
from chinwag_server.chat.memory import MemoryChatStore
from tests.server.chat.rules import Room, cursors, refused, settle


def content(text: str) -> message_pb2.MessageContent:
    return message_pb2.MessageContent(text=text)


async def test_an_edit_replaces_the_content_for_everybody(room: Room) -> None:
    group = await room.group("ann", "bob")
    sent = await room.send("ann", group, "helo")
    bob = await room.online("bob")
    answer = await room.call(
        "ann", "EditMessage", channel_id=group, message_id=sent, content=content("hello")
    )
    assert answer.message.content.text == "hello"
    assert answer.message.HasField("edit_time")
    assert answer.message.last_entry_id == sent + 1
    assert await room.texts("bob", group) == ["hello"]
    await settle()
    assert bob.entries[-1].message_edited.content.text == "hello"


async def test_only_the_sender_edits(room: Room) -> None:
    group = await room.group("ann", "bob")
    sent = await room.send("ann", group, "mine")
    for who in ("bob",):
        await refused(
            "NOT_THE_SENDER",
            room.call(who, "EditMessage", channel_id=group, message_id=sent, content=content("x")),
        )
    await refused(
        "MESSAGE_NOT_FOUND",
        room.call("ann", "EditMessage", channel_id=group, message_id=1, content=content("x")),
    )


async def test_a_deletion_redacts_message_and_edits(alone: Room, memory: MemoryChatStore) -> None:
    group = await alone.group("ann", "bob")
    sent = await alone.send("ann", group, "secret one")
    await alone.call(
        "ann", "EditMessage", channel_id=group, message_id=sent, content=content("secret two")
    )
    await alone.call("bob", "AddReaction", channel_id=group, message_id=sent, emoji="+1")
    for _ in range(2):  # a second time changes nothing
        answer = await alone.call("ann", "DeleteMessage", channel_id=group, message_id=sent)
        assert answer.message.HasField("delete_time")
        assert not answer.message.HasField("content")
        assert not answer.message.reactions
    entries = await memory.entries(group, 0, 99, 99, 1 << 20)
    assert [entry.id for entry in entries] == list(range(1, sent + 4))
    assert not any(b"secret" in entry.payload for entry in entries)
    redacted = parse(entries[sent - 1].payload)
    assert redacted.redacted
    assert redacted.message_sent.client_message_id
    assert redacted.timeline_count == 1
    late = alone.connect("bob")
    await late.hello(cursors=cursors((group, 0)))
    assert [entry.redacted for entry in late.entries] == [False, True, True, False, False]
    await refused(
        "MESSAGE_DELETED",
        alone.call("ann", "EditMessage", channel_id=group, message_id=sent, content=content("x")),
    )
    await refused(
        "MESSAGE_DELETED",
        alone.call("bob", "AddReaction", channel_id=group, message_id=sent, emoji="+1"),
    )


async def test_a_deletion_that_races_with_edits_misses_none(
    room: Room, memory: MemoryChatStore
) -> None:
    memory.delay = 0.002
    group = await room.group("ann", "bob")
    sent = await room.send("ann", group, "secret 0")
    edits = [
        room.call(
            "ann", "EditMessage", channel_id=group, message_id=sent, content=content(f"secret {n}")
        )
        for n in range(1, 6)
    ]
    deletion = room.call("ann", "DeleteMessage", channel_id=group, message_id=sent)
    await asyncio.gather(*edits, deletion, return_exceptions=True)
    entries = await memory.entries(group, 0, 99, 99, 1 << 20)
    assert not any(b"secret" in entry.payload for entry in entries)


async def test_an_admin_deletes_what_others_wrote_a_member_does_not(room: Room) -> None:
    group = await room.group("ann", "bob", "cid")
    sent = await room.send("bob", group, "x")
    await refused(
        "ROLE_REQUIRED", room.call("cid", "DeleteMessage", channel_id=group, message_id=sent)
    )
    await room.call("ann", "DeleteMessage", channel_id=group, message_id=sent)


async def test_a_deleted_message_counts_as_unread(room: Room) -> None:
    group = await room.group("ann", "bob")
    sent = await room.send("ann", group, "x")
    await room.call("ann", "DeleteMessage", channel_id=group, message_id=sent)
    view = await room.call("bob", "GetChannel", channel_id=group)
    assert view.channel.state.unread_count == 1


async def test_reactions_are_sets(room: Room) -> None:
    group = await room.group("ann", "bob")
    sent = await room.send("ann", group, "x")
    add, remove = "AddReaction", "RemoveReaction"
    fields: dict[str, Any] = {"channel_id": group, "message_id": sent, "emoji": "+1"}
    answer = [await room.call(who, add, **fields) for who in ("bob", "ann", "bob")][-1]
    assert [(g.emoji, g.count, list(g.user_ids)) for g in answer.message.reactions] == [
        ("+1", 2, ["bob", "ann"])
    ]
    answer = [await room.call("bob", remove, **fields) for _ in range(2)][-1]
    assert [(g.emoji, g.count, list(g.user_ids)) for g in answer.message.reactions] == [
        ("+1", 1, ["ann"])
    ]
    view = await room.call("bob", "GetChannel", channel_id=group)
    assert view.channel.channel.head_id == sent + 3  # two added, one removed: repeats are none


async def test_reactions_at_the_same_time_are_all_there(
    room: Room, memory: MemoryChatStore
) -> None:
    memory.delay = 0.001
    people = [f"p{n}" for n in range(8)]
    group = await room.group("ann", *people)
    sent = await room.send("ann", group, "x")
    await asyncio.gather(
        *(
            room.call(who, "AddReaction", channel_id=group, message_id=sent, emoji="+1")
            for who in people
        )
    )
    answer = await room.call("ann", "GetMessage", channel_id=group, message_id=sent)
    assert answer.message.reactions[0].count == 8
    assert sorted(answer.message.reactions[0].user_ids) == people


async def test_different_reactions_are_limited(room: Room) -> None:
    group = await room.group("ann", "bob")
    sent = await room.send("ann", group, "x")
    for number in range(50):
        await room.call("ann", "AddReaction", channel_id=group, message_id=sent, emoji=str(number))
    await refused(
        "REACTION_LIMIT",
        room.call("bob", "AddReaction", channel_id=group, message_id=sent, emoji="51"),
    )
    await room.call("bob", "AddReaction", channel_id=group, message_id=sent, emoji="1")


async def test_a_request_id_makes_an_edit_once(room: Room) -> None:
    group = await room.group("ann", "bob")
    sent = await room.send("ann", group, "x")
    for _ in range(3):
        await room.call(
            "ann",
            "EditMessage",
            channel_id=group,
            message_id=sent,
            content=content("y"),
            request_id="r1",
        )
    view = await room.call("ann", "GetChannel", channel_id=group)
    assert view.channel.channel.head_id == sent + 1
    await refused(
        "ID_REUSED",
        room.call(
            "ann",
            "EditMessage",
            channel_id=group,
            message_id=sent,
            content=content("z"),
            request_id="r1",
        ),
    )


async def test_who_was_removed_does_not_see_later_edits(room: Room) -> None:
    group = await room.group("ann", "bob")
    sent = await room.send("ann", group, "first")
    await room.call("ann", "RemoveMember", channel_id=group, user_id="bob")
    await room.call(
        "ann", "EditMessage", channel_id=group, message_id=sent, content=content("second")
    )
    assert await room.texts("bob", group) == ["first"]
    assert await room.texts("ann", group) == ["second"]


async def test_pages_go_up_down_and_around(room: Room) -> None:
    group = await room.group("ann", "bob")
    for number in range(10):
        await room.send("ann", group, str(number))  # ids 2 to 11
    texts = room.texts
    assert await texts("bob", group, page_size=3) == ["7", "8", "9"]
    assert await texts("bob", group, page_size=3, before_id=9) == ["4", "5", "6"]
    assert await texts("bob", group, page_size=3, after_id=4) == ["3", "4", "5"]
    assert await texts("bob", group, page_size=3, around_id=6) == ["3", "4", "5"]
    answer = await room.call("bob", "ListMessages", channel_id=group, page_size=3, after_id=8)
    assert (answer.has_more_before, answer.has_more_after) == (True, False)


async def test_mentions_are_counted_until_read(room: Room) -> None:
    group = await room.group("ann", "bob", "cid")
    for fields in ({"mentioned_user_ids": ["bob"]}, {"mentions_everyone": True}, {}):
        await room.call(
            "ann",
            "SendMessage",
            channel_id=group,
            client_message_id=room.message_id(),
            content=message_pb2.MessageContent(text="x", **fields),
        )
    states = {
        who: (await room.call(who, "GetChannel", channel_id=group)).channel.state
        for who in ("bob", "cid")
    }
    assert (states["bob"].unread_count, states["bob"].unread_mention_count) == (3, 2)
    assert states["cid"].unread_mention_count == 1
    answer = await room.call("bob", "MarkRead", channel_id=group, read_id=4)
    assert answer.state.unread_mention_count == 0


async def test_a_deleted_account_leaves_and_its_messages_are_redacted(room: Room) -> None:
    group = await room.group("ann", "bob", "cid")
    await room.send("ann", group, "of ann")
    await room.send("bob", group, "of bob")
    await room.room.forget_user("ann", redact=True)
    answer = await room.call("bob", "ListMessages", channel_id=group)
    assert [m.content.text for m in answer.messages] == ["", "of bob"]
    members = (await room.call("bob", "ListMembers", channel_id=group)).members
    assert {m.user_id for m in members} == {"bob", "cid"}
    assert 1 in {m.role for m in members}  # somebody inherited the group
