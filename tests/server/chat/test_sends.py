"""Sending: one order, stored once, answered when durable."""

from __future__ import annotations

import asyncio

import pytest

from chinwag.chat.v1 import connect_pb2, message_pb2
from chinwag_server.chat.channels import storage_unavailable
from chinwag_server.chat.memory import MemoryChatStore
from chinwag_server.chat.room import ChatSettings
from chinwag_server.chat.store import StoreUnavailable
from tests.server.chat.rules import Room, reason_of, refused, settle


async def test_ids_are_dense_and_texts_come_back(room: Room) -> None:
    group = await room.group("ann", "bob")
    ids = [await room.send("ann", group, f"m{i}") for i in range(5)]
    assert ids == [2, 3, 4, 5, 6]
    assert await room.texts("bob", group) == [f"m{i}" for i in range(5)]


async def test_a_retry_gets_the_same_id(room: Room) -> None:
    group = await room.group("ann", "bob")
    key = room.message_id()
    first = await room.send("ann", group, "once", client_message_id=key)
    assert await room.send("ann", group, "once", client_message_id=key) == first
    assert await room.texts("bob", group) == ["once"]


async def test_retries_in_flight_join_the_first(room: Room, memory: MemoryChatStore) -> None:
    memory.delay = 0.01
    group = await room.group("ann", "bob")
    key = room.message_id()
    ids = await asyncio.gather(
        *(room.send("ann", group, "once", client_message_id=key) for _ in range(5))
    )
    assert len(set(ids)) == 1
    assert await room.texts("bob", group) == ["once"]


async def test_a_retry_with_other_text_is_refused_with_what_is_stored(room: Room) -> None:
    group = await room.group("ann", "bob")
    key = room.message_id()
    first = await room.send("ann", group, "one", client_message_id=key)
    refusal = await refused("ID_REUSED", room.send("ann", group, "two", client_message_id=key))
    assert refusal.metadata["message_id"] == str(first)


async def test_two_people_may_draw_the_same_id(room: Room) -> None:
    group = await room.group("ann", "bob")
    key = room.message_id()
    assert await room.send("ann", group, "a", client_message_id=key) == 2
    assert await room.send("bob", group, "b", client_message_id=key) == 3


async def test_an_expired_send_is_refused(room: Room) -> None:
    group = await room.group("ann", "bob")
    key = room.message_id()
    room.clock.advance(15 * 86_400 + 1)
    await refused("SEND_EXPIRED", room.send("ann", group, "old", client_message_id=key))


async def test_a_send_from_the_future_is_refused(room: Room) -> None:
    group = await room.group("ann", "bob")
    room.clock.advance(2 * 86_400)
    key = room.message_id()
    room.clock.advance(-2 * 86_400)
    await refused("INVALID_FIELD", room.send("ann", group, "soon", client_message_id=key))


async def test_unknown_and_foreign_channels_get_the_same_answer(room: Room) -> None:
    foreign = await room.group("bob", "cid")
    one = await refused("CHANNEL_NOT_FOUND", room.send("ann", foreign, "x"))
    other = await refused("CHANNEL_NOT_FOUND", room.send("ann", "c" + "a" * 26, "x"))
    assert one.message.replace(foreign, "") == other.message.replace("c" + "a" * 26, "")


async def test_a_removed_member_cannot_send(room: Room) -> None:
    group = await room.group("ann", "bob")
    await room.call("ann", "RemoveMember", channel_id=group, user_id="bob")
    await refused("NOT_A_MEMBER", room.send("bob", group, "x"))


async def test_who_was_removed_still_learns_what_was_stored(room: Room) -> None:
    group = await room.group("ann", "bob")
    key = room.message_id()
    stored = await room.send("bob", group, "hi", client_message_id=key)
    await room.call("ann", "RemoveMember", channel_id=group, user_id="bob")
    # The first answer was lost: "refused" would say that nobody can read it.
    assert await room.send("bob", group, "hi", client_message_id=key) == stored
    await refused("NOT_A_MEMBER", room.send("bob", group, "more"))
    await refused("ID_REUSED", room.send("bob", group, "ho", client_message_id=key))
    await refused("CHANNEL_NOT_FOUND", room.send("eve", group, "hi", client_message_id=key))


async def test_a_blocked_sender_is_refused_without_a_reason(room: Room) -> None:
    direct = await room.direct("ann", "bob")
    room.directory.refused.add(("ann", "bob"))
    await refused("RECIPIENT_UNAVAILABLE", room.send("ann", direct, "x"))


async def test_times_never_fall(room: Room) -> None:
    group = await room.group("ann", "bob")
    await room.send("ann", group, "one")
    room.clock.advance(-60)
    await room.send("ann", group, "two")
    answer = await room.call("ann", "ListMessages", channel_id=group)
    times = [m.create_time.ToNanoseconds() for m in answer.messages]
    assert times == sorted(times)


async def test_a_failing_store_refuses_and_leaves_no_hole(
    alone: Room, memory: MemoryChatStore
) -> None:
    group = await alone.group("ann", "bob")
    memory.failing = True
    key = alone.message_id()
    await refused("STORAGE_UNAVAILABLE", alone.send("ann", group, "x", client_message_id=key))
    memory.failing = False
    assert await alone.send("ann", group, "x", client_message_id=key) == 2
    assert await alone.send("ann", group, "y") == 3


async def test_a_frame_of_sends_is_answered_one_by_one(room: Room) -> None:
    group = await room.group("ann", "bob")
    ann = await room.online("ann")
    bob = await room.online("bob")
    sends = [
        connect_pb2.SendMessageRequest(
            channel_id=group,
            client_message_id=room.message_id(),
            content=message_pb2.MessageContent(text=text),
        )
        for text in ("one", "", "three", "x" * 100_001)
    ]
    await ann.say(sends=sends)
    await settle()
    by_id = {result.client_message_id: result for result in ann.results}
    assert [by_id[s.client_message_id].message_id for s in sends] == [2, 0, 3, 0]
    assert [reason_of(by_id[s.client_message_id].error) for s in sends] == [
        "",
        "INVALID_FIELD",
        "",
        "INVALID_FIELD",
    ]
    assert bob.texts == ["one", "three"]
    assert [entry.id for entry in bob.entries] == [2, 3]


@pytest.mark.parametrize("text", ["\N{GRINNING FACE}" * 100_000, "x" * 100_000])
async def test_the_longest_text_passes_whole(room: Room, text: str) -> None:
    group = await room.group("ann", "bob")
    await room.send("ann", group, text)
    assert await room.texts("bob", group) == [text]


async def test_replies_beyond_the_head_are_refused(room: Room) -> None:
    group = await room.group("ann", "bob")
    await refused("BEYOND_HEAD", room.send("ann", group, "x", reply_to_id=99))


async def test_threads_count_apart(room: Room) -> None:
    group = await room.group("ann", "bob")
    root = await room.send("ann", group, "root")
    for text in ("r1", "r2"):
        await room.send("bob", group, text, thread_root_id=root)
    assert await room.texts("ann", group) == ["root"]
    assert await room.texts("ann", group, thread_root_id=root) == ["r1", "r2"]
    answer = await room.call("ann", "GetMessage", channel_id=group, message_id=root)
    assert answer.message.thread.reply_count == 2
    assert answer.message.thread.last_reply_id == root + 2
    await refused("MESSAGE_NOT_FOUND", room.send("ann", group, "x", thread_root_id=root + 1))
    view = await room.call("ann", "GetChannel", channel_id=group)
    assert view.channel.state.unread_count == 0


async def test_unread_is_arithmetic(room: Room) -> None:
    group = await room.group("ann", "bob")
    last = [await room.send("ann", group, text) for text in ("1", "2", "3")][-1]
    view = await room.call("bob", "GetChannel", channel_id=group)
    assert view.channel.state.unread_count == 3
    await room.call("bob", "MarkRead", channel_id=group, read_id=last - 1)
    view = await room.call("bob", "GetChannel", channel_id=group)
    assert view.channel.state.unread_count == 1
    await room.send("bob", group, "mine")
    view = await room.call("bob", "GetChannel", channel_id=group)
    assert view.channel.state.unread_count == 0
    assert (await room.call("ann", "GetChannel", channel_id=group)).channel.state.unread_count == 1


async def test_a_deployment_may_take_less_than_the_contract(memory: MemoryChatStore) -> None:
    room = Room(memory, ChatSettings(max_text_length=10, max_sends_per_frame=2))
    group = await room.group("ann", "bob")
    await refused("INVALID_FIELD", room.send("ann", group, "x" * 11))
    sent = await room.send("ann", group, "x" * 10)
    await refused(
        "INVALID_FIELD",
        room.call(
            "ann",
            "EditMessage",
            channel_id=group,
            message_id=sent,
            content=message_pb2.MessageContent(text="x" * 11),
        ),
    )
    ann = await room.online("ann")
    send = connect_pb2.SendMessageRequest(
        channel_id=group, content=message_pb2.MessageContent(text="x")
    )
    sends = [send, send, send]
    for each in sends:
        each.client_message_id = room.message_id()
    await ann.say(sends=sends)
    await settle()
    assert [reason_of(result.error) for result in ann.results] == ["TOO_LARGE"] * 3
    await room.room.stop()


async def test_a_store_that_cannot_be_read_asks_to_send_again(
    alone: Room, memory: MemoryChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = await alone.group("ann", "bob")
    device = await alone.online("ann")

    async def away(*_args: object) -> None:
        raise StoreUnavailable("no quorum")

    send = connect_pb2.SendMessageRequest(
        channel_id=group,
        client_message_id=alone.message_id(),
        content=message_pb2.MessageContent(text="hello"),
    )
    with monkeypatch.context() as patched:
        patched.setattr(memory, "find_sends", away)
        await device.say(sends=[send])
        await settle()
    assert reason_of(device.results[-1].error) == "STORAGE_UNAVAILABLE"
    await device.say(sends=[send])
    await settle()
    assert device.results[-1].message_id == 2


@pytest.mark.parametrize("step", ["_prepare", "_take"])
async def test_none_of_a_frame_overtakes_one_that_failed_for_a_moment(
    step: str, alone: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, other = await alone.group("ann", "bob"), await alone.group("ann", "bob")
    device = await alone.online("ann")
    sends = [
        connect_pb2.SendMessageRequest(
            channel_id=channel_id,
            client_message_id=alone.message_id(),
            content=message_pb2.MessageContent(text=text),
        )
        for channel_id, text in ((group, "first"), (group, "second"), (other, "elsewhere"))
    ]
    inner = alone.room.streams.sends
    whole = getattr(inner, step)

    def fail(*_args: object) -> None:
        monkeypatch.setattr(inner, step, whole)
        raise storage_unavailable()

    monkeypatch.setattr(inner, step, fail)
    await device.say(sends=sends)
    await settle()
    told = {result.client_message_id: reason_of(result.error) for result in device.results}
    unavailable = "STORAGE_UNAVAILABLE"
    expected = zip(sends, (unavailable, unavailable, ""), strict=True)
    assert told == {send.client_message_id: reason for send, reason in expected}
    await device.say(sends=sends)
    await settle()
    ids = {result.client_message_id: result.message_id for result in device.results[-3:]}
    assert [ids[send.client_message_id] for send in sends] == [2, 3, 2]
