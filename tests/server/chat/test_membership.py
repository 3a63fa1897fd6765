"""Channels and members: made once, bounded, in order with messages."""

from __future__ import annotations

import asyncio

from chinwag_server.chat.memory import MemoryChatStore
from chinwag_server.chat.room import ChatSettings
from tests.server.chat.rules import Room, refused


async def test_a_direct_channel_exists_once(room: Room, memory: MemoryChatStore) -> None:
    memory.delay = 0.001
    made = await asyncio.gather(
        *(
            room.call(who, "CreateChannel", kind=1, member_user_ids=[other])
            for who, other in (("ann", "bob"), ("bob", "ann"), ("ann", "bob"))
        )
    )
    assert len({answer.channel.channel.id for answer in made}) == 1
    assert sum(answer.created for answer in made) == 1
    assert list(made[0].channel.channel.direct_user_ids) == ["ann", "bob"]


async def test_the_101st_member_is_refused(room: Room) -> None:
    others = [f"u{n}" for n in range(99)]
    group = await room.group("ann", *others)
    await refused(
        "MEMBER_LIMIT", room.call("ann", "AddMembers", channel_id=group, user_ids=["one-more"])
    )
    await refused(
        "MEMBER_LIMIT",
        room.call("ann", "CreateChannel", kind=2, member_user_ids=[*others, "x"]),
    )


async def test_adding_oneself_is_refused(room: Room) -> None:
    group = await room.group("ann", "bob")
    await refused(
        "SELF_REFERENCE", room.call("ann", "AddMembers", channel_id=group, user_ids=["ann"])
    )
    await refused(
        "SELF_REFERENCE", room.call("ann", "CreateChannel", kind=1, member_user_ids=["ann"])
    )
    await refused(
        "SELF_REFERENCE", room.call("ann", "RemoveMember", channel_id=group, user_id="ann")
    )


async def test_blocked_people_cannot_be_added_and_nothing_changes(room: Room) -> None:
    group = await room.group("ann", "bob")
    room.directory.refused.add(("ann", "cid"))
    await refused(
        "RECIPIENT_UNAVAILABLE",
        room.call("ann", "AddMembers", channel_id=group, user_ids=["dan", "cid"]),
    )
    members = (await room.call("ann", "ListMembers", channel_id=group)).members
    assert {member.user_id for member in members} == {"ann", "bob"}
    await refused(
        "RECIPIENT_UNAVAILABLE",
        room.call("ann", "CreateChannel", kind=1, member_user_ids=["cid"]),
    )


async def test_channels_of_a_user_are_limited(memory: MemoryChatStore) -> None:
    room = Room(memory, ChatSettings(max_user_channels=2))
    group = await room.group("ann")
    await room.group("ann")
    await refused("CHANNEL_LIMIT", room.group("ann"))
    await room.call("ann", "LeaveChannel", channel_id=group)
    await room.group("ann")
    await room.room.stop()


async def test_a_request_id_makes_a_channel_once(room: Room) -> None:
    first = await room.call("ann", "CreateChannel", kind=2, name="a", request_id="r")
    again = await room.call("ann", "CreateChannel", kind=2, name="a", request_id="r")
    assert first.channel.channel.id == again.channel.channel.id
    await refused("ID_REUSED", room.call("ann", "CreateChannel", kind=2, name="b", request_id="r"))


async def test_adding_a_member_again_changes_nothing(room: Room) -> None:
    group = await room.group("ann", "bob")
    answer = await room.call("ann", "AddMembers", channel_id=group, user_ids=["bob", "cid"])
    assert [(m.user_id, m.join_id) for m in answer.members] == [("bob", 1), ("cid", 2)]


async def test_channels_are_listed_pinned_first_then_newest(room: Room) -> None:
    ids = []
    for _ in range(4):
        room.clock.advance(1)
        ids.append(await room.group("ann", "bob"))
    room.clock.advance(1)
    await room.send("bob", ids[1], "hello")
    await room.call(
        "ann",
        "SetChannelPreferences",
        channel_id=ids[0],
        preferences={"pinned": True},
        update_mask="pinned",
    )
    await room.call(
        "ann",
        "SetChannelPreferences",
        channel_id=ids[2],
        preferences={"archived": True},
        update_mask="archived",
    )
    first = await room.call("ann", "ListChannels", page_size=2)
    rest = await room.call("ann", "ListChannels", page_size=2, page_token=first.next_page_token)
    views = [*first.channels, *rest.channels]
    assert [view.channel.id for view in views] == [ids[0], ids[1], ids[3]]
    assert views[1].last_message.content.text == "hello"
    assert views[1].state.unread_count == 1
    assert not rest.next_page_token
    for token in ("x", first.next_page_token[:-2], "e30"):
        await refused("INVALID_PAGE_TOKEN", room.call("ann", "ListChannels", page_token=token))


async def test_a_public_channel_is_joined_a_private_one_is_not_known(room: Room) -> None:
    public = (
        await room.call("ann", "CreateChannel", kind=3, name="p", is_public=True)
    ).channel.channel.id
    private = (await room.call("ann", "CreateChannel", kind=3, name="q")).channel.channel.id
    answer = await room.call("bob", "JoinChannel", channel_id=public)
    assert answer.channel.member.role == 4
    await room.call("bob", "JoinChannel", channel_id=public)
    assert (
        await room.call("ann", "GetChannel", channel_id=public)
    ).channel.channel.member_count == 2
    await refused("CHANNEL_NOT_FOUND", room.call("bob", "JoinChannel", channel_id=private))
    group = await room.group("ann", "bob")
    await refused("CHANNEL_NOT_FOUND", room.call("cid", "JoinChannel", channel_id=group))
    await refused("CHANNEL_KIND", room.call("bob", "JoinChannel", channel_id=group))
    await refused("CHANNEL_KIND", room.call("bob", "ListReceipts", channel_id=public))


async def test_updates_follow_the_mask(room: Room) -> None:
    group = await room.group("ann", "bob")
    answer = await room.call(
        "ann",
        "UpdateChannel",
        channel_id=group,
        name="new",
        description="ignored",
        update_mask="name",
    )
    assert (answer.channel.name, answer.channel.description) == ("new", "")
    await refused(
        "INVALID_FIELD", room.call("ann", "UpdateChannel", channel_id=group, update_mask="kind")
    )
    await refused(
        "INVALID_FIELD",
        room.call(
            "ann", "UpdateChannel", channel_id=group, is_public=True, update_mask="is_public"
        ),
    )


async def test_a_deleted_channel_refuses_everything(room: Room) -> None:
    group = await room.group("ann", "bob")
    await room.send("ann", group, "x")
    await room.call("ann", "DeleteChannel", channel_id=group)
    await refused("CHANNEL_DELETED", room.send("bob", group, "y"))
    await refused("CHANNEL_DELETED", room.call("bob", "ListMessages", channel_id=group))
    view = await room.call("bob", "GetChannel", channel_id=group)
    assert view.channel.channel.HasField("delete_time")
    assert not view.channel.HasField("last_message")
