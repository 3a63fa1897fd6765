"""Sync and StreamEvents: the same events without a device's stream."""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.duration_pb2 import Duration

from chinwag.chat.v1 import chat_service_pb2 as pb
from chinwag_server.rpc.caller import Caller, set_caller
from tests.server.chat.rules import Room, cursors, refused, settle


async def test_pages_until_nothing_is_missing(room: Room) -> None:
    groups = [await room.group("ann", "bob") for _ in range(3)]
    for number in range(25):
        await room.send("ann", groups[number % 3], str(number))
    have = dict.fromkeys(groups, 1)
    stamp, pages, texts = "", 0, []
    while True:
        answer = await room.call(
            "bob", "Sync", resume_stamp=stamp, cursors=cursors(*have.items()), max_entries=7
        )
        pages += 1
        entries = [event.entry for event in answer.events if event.HasField("entry")]
        assert len(entries) <= 7
        for entry in entries:
            assert entry.id == have[entry.channel_id] + 1
            have[entry.channel_id] = entry.id
            texts.append(entry.message_sent.content.text)
        stamp = answer.stamp
        if not answer.has_more:
            break
    assert sorted(texts, key=int) == [str(number) for number in range(25)]
    assert pages >= 4
    again = await room.call("bob", "Sync", resume_stamp=stamp, cursors=cursors(*have.items()))
    assert not again.events


async def test_a_long_poll_answers_when_something_happens(room: Room) -> None:
    group = await room.group("ann", "bob")
    first = await room.call("bob", "Sync", cursors=cursors((group, 1)))
    waiting = asyncio.ensure_future(
        room.call(
            "bob",
            "Sync",
            resume_stamp=first.stamp,
            cursors=cursors((group, 1)),
            wait=Duration(seconds=5),
        )
    )
    await asyncio.sleep(0.02)
    assert not waiting.done()
    await room.send("ann", group, "wake up")
    answer = await asyncio.wait_for(waiting, 1)
    assert answer.events[0].entry.message_sent.content.text == "wake up"


async def test_a_long_poll_ends(room: Room) -> None:
    group = await room.group("ann", "bob")
    first = await room.call("bob", "Sync", cursors=cursors((group, 1)))
    answer = await room.call(
        "bob",
        "Sync",
        resume_stamp=first.stamp,
        cursors=cursors((group, 1)),
        wait=Duration(nanos=50_000_000),
    )
    assert not answer.events


async def collect(room: Room, count: int, **fields: Any) -> tuple[list[str], str]:
    texts: list[str] = []
    cursor = ""
    stream = room.room.servicer.StreamEvents(pb.StreamEventsRequest(**fields), None)
    async for batch in stream:
        texts += [
            entry.message_sent.content.text
            for entry in batch.entries
            if entry.HasField("message_sent")
        ]
        cursor = batch.cursor
        if len(texts) >= count:
            break
    await stream.aclose()  # type: ignore[attr-defined]
    return texts, cursor


async def test_the_feed_is_in_commit_order(alone: Room) -> None:
    one, two = await alone.group("ann"), await alone.group("bob")
    for number in range(5):
        await alone.send("ann", one, f"a{number}")
        await alone.send("bob", two, f"b{number}")
    texts, _ = await collect(alone, 10)
    assert texts == [f"{who}{n}" for n in range(5) for who in "ab"]


async def test_the_feed_goes_on_from_its_cursor(room: Room) -> None:
    one, two = await room.group("ann"), await room.group("bob")
    for number in range(5):
        await room.send("ann", one, f"a{number}")
        await room.send("bob", two, f"b{number}")
    texts, cursor = await collect(room, 10)
    assert len(texts) == 10
    for who in "ab":
        assert [text for text in texts if text[0] == who] == [f"{who}{n}" for n in range(5)]
    reading = asyncio.ensure_future(collect(room, 1, cursor=cursor))
    await settle()
    await room.send("ann", one, "next")
    assert (await asyncio.wait_for(reading, 3))[0] == ["next"]
    only, _ = await collect(room, 5, channel_ids=[two])
    assert only == [f"b{n}" for n in range(5)]


async def test_a_feed_from_now_has_nothing_older(room: Room) -> None:
    one = await room.group("ann")
    await room.send("ann", one, "old")
    # It says at once from where it goes on, for who is cut off before anything happens.
    nothing, cursor = await asyncio.wait_for(collect(room, 0, from_now=True), 3)
    assert nothing == []
    reading = asyncio.ensure_future(collect(room, 2, from_now=True))
    await settle()
    await room.send("ann", one, "new")
    await room.send("ann", one, "newer")
    assert (await asyncio.wait_for(reading, 3))[0] == ["new", "newer"]
    assert (await asyncio.wait_for(collect(room, 2, cursor=cursor), 3))[0] == ["new", "newer"]


async def test_a_foreign_cursor_is_refused(room: Room) -> None:
    for cursor in ("x", "7.1", "1.ffff"):
        await refused("CURSOR_EXPIRED", collect(room, 1, cursor=cursor))


async def test_only_the_named_channels_are_answered(room: Room) -> None:
    one, _two = await room.group("ann", "bob"), await room.group("ann", "bob")
    answer = await room.call("bob", "Sync", cursors=cursors((one, 0)), cursors_only=True)
    assert [e.entry.channel_id for e in answer.events if e.HasField("entry")] == [one]
    assert not any(event.HasField("opened") for event in answer.events)
    assert answer.stamp == ""


async def test_a_channel_of_which_only_an_entry_came_is_opened_where_it_began(room: Room) -> None:
    group = await room.group("ann", "cid")
    await room.send("ann", group, "before")
    await room.call("ann", "AddMembers", channel_id=group, user_ids=["bob"])  # 3
    await room.send("ann", group, "after")
    hole = cursors((group, 0), generation=0)
    answer = await room.call("bob", "Sync", cursors=hole, cursors_only=True)
    assert answer.events[0].opened.start_id == 2
    assert [e.entry.id for e in answer.events if e.HasField("entry")] == [3, 4]
    # Who is gone by then gets a reset.
    await room.call("ann", "RemoveMember", channel_id=group, user_id="bob")
    answer = await room.call("bob", "Sync", cursors=hole, cursors_only=True)
    assert answer.events[0].reset.start_id == 5
    assert not any(event.HasField("opened") for event in answer.events)


async def test_a_revoked_key_ends_its_feed_and_its_streams(room: Room) -> None:
    set_caller(Caller(api_key_id="k1"))
    feed = room.room.servicer.StreamEvents(pb.StreamEventsRequest(), None)
    reading = asyncio.ensure_future(anext(feed))
    await settle()
    room.room.key_revoked("k2")
    await settle()
    assert not reading.done()
    room.room.key_revoked("k1")
    await refused("SESSION_REVOKED", reading)
