"""A device's stream: hello, resume, order, close."""

from __future__ import annotations

import asyncio
import random

from chinwag.chat.v1 import connect_pb2, entry_pb2, message_pb2
from chinwag.common.v1 import close_pb2
from chinwag_server.chat.memory import MemoryChatStore
from chinwag_server.chat.room import ChatSettings
from chinwag_server.chat.stream import StreamLimits
from tests.server.chat.rules import Device, Room, cursors, reason_of, settle

Reset = entry_pb2.ChannelReset


def close_of(device: Device) -> close_pb2.Close:
    return device.sink.frames[-1].close


async def test_hello_is_answered_by_welcome_and_caught_up(room: Room) -> None:
    ann = room.connect("ann")
    await ann.hello()
    assert ann.sink.frames[0].welcome.user_id == "ann"
    assert ann.sink.frames[0].welcome.limits.max_text_length == 100_000
    assert any(frame.caught_up.stamp for frame in ann.sink.frames)


async def test_frames_before_hello_are_refused_and_the_stream_stays(room: Room) -> None:
    ann = room.connect("ann")
    await ann.say(ping=connect_pb2.Ping(id=1))
    await settle()
    assert ann.errors == ["HELLO_REQUIRED"]
    await ann.hello()
    assert ann.stream.live


async def test_a_second_hello_ends_the_stream(room: Room) -> None:
    ann = await room.online("ann")
    await ann.hello()
    assert close_of(ann).reason == close_pb2.CLOSE_REASON_PROTOCOL_ERROR
    assert reason_of(close_of(ann).status) == "HELLO_REPEATED"
    assert ann.sink.finished


async def test_another_protocol_version_is_refused(room: Room) -> None:
    ann = room.connect("ann")
    await ann.say(hello=connect_pb2.Hello(protocol_version=9))
    assert reason_of(close_of(ann).status) == "VERSION_UNSUPPORTED"


async def test_a_missing_hello_ends_the_stream_in_time(room: Room) -> None:
    ann = room.connect("ann")
    room.clock.advance(11)
    await asyncio.sleep(1.1)
    assert reason_of(close_of(ann).status) == "HELLO_TIMEOUT"


async def test_garbage_is_answered_and_the_stream_stays(room: Room) -> None:
    ann = await room.online("ann")
    rng = random.Random(7)
    for _ in range(200):
        await ann.stream.receive(rng.randbytes(rng.randrange(64)))
    await settle()
    assert not ann.stream.closed
    assert set(ann.errors) <= {"MALFORMED", "UNKNOWN_FRAME", "INVALID_FIELD"}
    ann.clear()
    await ann.say(ping=connect_pb2.Ping(id=5))
    await settle()
    assert ann.sink.frames[-1].pong.id == 5


async def test_an_empty_or_unknown_frame_is_named(room: Room) -> None:
    ann = await room.online("ann")
    await ann.stream.receive(b"")
    await ann.stream.receive(b"\xa2\x06\x03abc")  # field 100
    await settle()
    assert ann.errors == ["UNKNOWN_FRAME", "UNKNOWN_FRAME"]


async def test_an_oversized_frame_is_refused(room: Room) -> None:
    ann = await room.online("ann")
    await ann.stream.receive(b"\x00" * ((4 << 20) + 1))
    await settle()
    assert ann.errors == ["TOO_LARGE"]


async def test_a_second_stream_of_a_device_replaces_the_first(room: Room) -> None:
    first = await room.online("ann", "phone")
    second = await room.online("ann", "phone")
    other = await room.online("ann", "laptop")
    assert close_of(first).reason == close_pb2.CLOSE_REASON_REPLACED
    assert not close_of(first).reconnect
    assert second.stream.live
    assert other.stream.live


async def test_streams_of_a_user_are_limited(memory: MemoryChatStore) -> None:
    room = Room(memory, ChatSettings(max_user_streams=2))
    for number in range(2):
        await room.online("ann", f"d{number}")
    third = room.connect("ann", "d3")
    await third.hello()
    assert reason_of(close_of(third).status) == "STREAM_LIMIT"
    await room.room.stop()


async def test_everybody_sees_the_same_order(room: Room) -> None:
    group = await room.group("ann", "bob", "cid")
    devices = [
        await room.online("ann"),
        await room.online("bob"),
        await room.online("cid"),
        await room.online("cid", "cid-2"),
    ]
    await asyncio.gather(
        *(room.send(who, group, f"{who}{i}") for i in range(20) for who in ("ann", "bob", "cid"))
    )
    await settle()
    seen = [device.texts for device in devices]
    assert len(seen[0]) == 60
    assert all(texts == seen[0] for texts in seen)
    assert [entry.id for entry in devices[0].entries] == list(range(2, 62))


async def test_resume_gives_exactly_what_is_missing(room: Room) -> None:
    group = await room.group("ann", "bob")
    for number in range(10):
        await room.send("ann", group, f"m{number}")
    bob = room.connect("bob")
    await bob.hello(cursors=cursors((group, 5)))
    assert [entry.id for entry in bob.entries] == [6, 7, 8, 9, 10, 11]
    assert not any(event.HasField("opened") for event in bob.events)


async def test_resume_while_others_send_has_no_hole_and_no_repeat(
    room: Room, memory: MemoryChatStore
) -> None:
    memory.delay = 0.001
    group = await room.group("ann", "bob")
    stop = asyncio.Event()

    async def chatter() -> int:
        count = 0
        while not stop.is_set():
            await room.send("ann", group, str(count))
            count += 1
        return count

    talking = asyncio.ensure_future(chatter())
    position = 1
    seen: list[str] = []
    for _ in range(20):
        bob = room.connect("bob")
        await bob.say(
            hello=connect_pb2.Hello(protocol_version=1, cursors=cursors((group, position)))
        )
        await asyncio.sleep(0.01)
        for entry in bob.entries:
            assert entry.id == position + 1
            position = entry.id
            seen.append(entry.message_sent.content.text)
        bob.drop()
    stop.set()
    await talking
    assert seen == [str(number) for number in range(len(seen))]
    assert len(seen) > 20


async def test_a_stamp_spares_unchanged_channels_but_hides_nothing(alone: Room) -> None:
    quiet = await alone.group("ann", "bob")
    busy = await alone.group("ann", "bob")
    bob = alone.connect("bob")
    await bob.hello()
    stamp = next(f.caught_up.stamp for f in bob.sink.frames if f.caught_up.stamp)
    bob.drop()
    await alone.send("ann", busy, "new")
    again = alone.connect("bob")
    await again.hello(resume_stamp=stamp, cursors=cursors((quiet, 1), (busy, 1)))
    assert again.texts == ["new"]
    assert {event.state.channel_id for event in again.events if event.HasField("state")} == {busy}
    # A device whose cursor lags behind its stamp gets what it misses all the same.
    await alone.send("ann", quiet, "also")
    third = alone.connect("bob")
    await third.hello()
    stamp = next(f.caught_up.stamp for f in third.sink.frames if f.caught_up.stamp)
    lagging = alone.connect("bob")
    await lagging.hello(resume_stamp=stamp, cursors=cursors((quiet, 1), (busy, 2)))
    assert lagging.texts == ["also"]


async def test_a_stamp_of_nowhere_is_not_accepted_and_does_no_harm(room: Room) -> None:
    group = await room.group("ann", "bob")
    for stamp in ("x", "1.ffffff", "2.1", "-1.-1", "."):
        bob = room.connect("bob")
        await bob.hello(resume_stamp=stamp, cursors=cursors((group, 0)))
        assert not bob.sink.frames[0].welcome.stamp_accepted
        assert [entry.id for entry in bob.entries] == [1]


async def test_cursors_that_are_void_are_reset(room: Room) -> None:
    group = await room.group("ann", "bob")
    foreign = await room.group("ann", "cid")
    for number in range(5):
        await room.send("ann", group, str(number))
    for cursor, limit, reason in (
        (cursors((group, 3), generation=7), 0, Reset.REASON_GENERATION),
        (cursors((group, 99)), 0, Reset.REASON_BEYOND_HEAD),
        (cursors((group, 1)), 3, Reset.REASON_TOO_FAR_BEHIND),
    ):
        bob = room.connect("bob")
        await bob.hello(cursors=cursor, catch_up_limit=limit)
        resets = [event.reset for event in bob.events if event.HasField("reset")]
        assert [(r.channel_id, r.reason, r.start_id) for r in resets] == [(group, reason, 6)]
        assert resets[0].generation == 1
        assert not bob.entries
    for unknown in (foreign, "nothing"):
        bob = room.connect("bob")
        await bob.hello(cursors=cursors((unknown, 1)))
        reset = next(event.reset for event in bob.events if event.HasField("reset"))
        assert (reset.reason, reset.generation) == (Reset.REASON_NOT_VISIBLE, 0)


async def test_a_new_channel_is_opened_before_its_first_entry(room: Room) -> None:
    bob = await room.online("bob")
    group = await room.group("ann", "bob")
    await settle()
    kinds = [event.WhichOneof("event") for event in bob.events]
    assert kinds[:2] == ["opened", "entry"]
    assert bob.events[0].opened.start_id == 0
    assert bob.events[0].opened.channel.id == group


async def test_a_removed_member_sees_the_removal_and_nothing_after(room: Room) -> None:
    group = await room.group("ann", "bob")
    bob = await room.online("bob")
    await room.send("ann", group, "before")
    await room.call("ann", "RemoveMember", channel_id=group, user_id="bob")
    await room.send("ann", group, "after")
    await settle()
    assert [entry.WhichOneof("kind") for entry in bob.entries] == [
        "message_sent",
        "member_removed",
    ]
    late = room.connect("bob")
    await late.hello(cursors=cursors((group, 1)))
    assert late.texts == ["before"]
    assert await room.texts("bob", group) == ["before"]


async def test_a_rejoined_member_is_told_of_the_gap(room: Room) -> None:
    answer = await room.call(
        "ann", "CreateChannel", kind=2, name="g", member_user_ids=["bob"], history_visibility=2
    )
    group = answer.channel.channel.id
    await room.call("ann", "RemoveMember", channel_id=group, user_id="bob")  # 2
    await room.send("ann", group, "hidden")  # 3
    await room.call("ann", "AddMembers", channel_id=group, user_ids=["bob"])  # 4
    await room.send("ann", group, "shown")  # 5
    bob = room.connect("bob")
    await bob.hello(cursors=cursors((group, 1)))
    steps = [
        (event.gap.from_id, event.gap.to_id) if event.HasField("gap") else event.entry.id
        for event in bob.events
        if event.HasField("gap") or event.HasField("entry")
    ]
    assert steps == [2, (3, 3), 4, 5]
    assert await room.texts("bob", group) == ["shown"]


async def test_a_slow_reader_is_closed_and_nothing_is_skipped(memory: MemoryChatStore) -> None:
    room = Room(memory, ChatSettings(stream=StreamLimits(queue_pieces=10)))
    group = await room.group("ann", "bob")
    bob = await room.online("bob")
    bob.sink.blocked = True
    for number in range(20):
        await room.send("ann", group, str(number))
    await settle()
    assert bob.stream.closed
    bob.sink.blocked = False
    bob.stream.outbox.on_writable()
    assert close_of(bob).reason == close_pb2.CLOSE_REASON_SLOW_READER
    assert close_of(bob).reconnect
    assert not bob.entries
    await room.room.stop()


async def test_catching_up_waits_for_a_slow_reader(memory: MemoryChatStore) -> None:
    room = Room(memory, ChatSettings(stream=StreamLimits(queue_bytes=1 << 20)))
    group = await room.group("ann", "bob")
    for number in range(400):
        await room.send("ann", group, f"{number}" + "x" * 5000)
    bob = room.connect("bob")
    bob.sink.blocked = True
    await bob.hello(cursors=cursors((group, 1)))
    assert not bob.stream.closed
    bob.sink.blocked = False
    bob.stream.outbox.on_writable()
    for _ in range(50):
        await settle()
    assert bob.stream.live
    assert [entry.id for entry in bob.entries] == list(range(2, 402))
    await room.room.stop()


async def test_idle_streams_end(room: Room) -> None:
    ann = await room.online("ann")
    room.clock.advance(121)
    await asyncio.sleep(1.1)
    assert close_of(ann).reason == close_pb2.CLOSE_REASON_IDLE
    assert close_of(ann).reconnect


async def test_a_drain_closes_with_guidance_after_what_is_queued(alone: Room) -> None:
    group = await alone.group("ann", "bob")
    bob = await alone.online("bob")
    await alone.send("ann", group, "last words")
    alone.room.drain()
    assert bob.texts == ["last words"]
    assert close_of(bob).reason == close_pb2.CLOSE_REASON_DRAINING
    assert close_of(bob).jitter.ToSeconds() > 0
    assert bob.sink.finished


async def test_a_revoked_session_ends_at_once(room: Room) -> None:
    phone = await room.online("ann", "phone")
    laptop = await room.online("ann", "laptop")
    room.room.session_revoked("ann", "phone")
    assert close_of(phone).reason == close_pb2.CLOSE_REASON_SESSION_REVOKED
    assert not laptop.stream.closed


async def test_a_token_is_renewed_or_the_stream_ends(room: Room) -> None:
    ann = await room.online("ann", "phone")
    await ann.say(renew_token=connect_pb2.RenewToken(access_token="ann/phone"))
    await settle()
    assert any(frame.HasField("token_renewed") for frame in ann.sink.frames)
    await ann.say(renew_token=connect_pb2.RenewToken(access_token="bob/phone"), frame_id=9)
    await settle()
    assert ann.errors == ["TOKEN_INVALID"]


async def test_marks_reach_the_others_as_watermarks(room: Room) -> None:
    group = await room.group("ann", "bob", "cid")
    ann = await room.online("ann", subscriptions=connect_pb2.Subscriptions(receipts=True))
    bob = await room.online("bob")
    for number in range(5):
        await room.send("ann", group, str(number))
    for read_id in (2, 3, 6):
        await bob.say(marks=[connect_pb2.Mark(channel_id=group, read_id=read_id)])
    await asyncio.sleep(0.1)
    receipts = [r for frame in ann.sink.frames for r in frame.receipts]
    assert [(r.user_id, r.read_id, r.delivered_id) for r in receipts] == [("bob", 6, 6)]
    await bob.say(marks=[connect_pb2.Mark(channel_id=group, read_id=99)])
    await bob.say(marks=[connect_pb2.Mark(channel_id=group, read_id=3)])
    await settle()
    assert bob.errors == ["BEYOND_HEAD"]
    state = (await room.call("bob", "GetChannel", channel_id=group)).channel.state
    assert (state.read_id, state.unread_count) == (6, 0)


async def test_own_devices_share_registers(room: Room) -> None:
    group = await room.group("ann", "bob")
    phone = await room.online("bob", "phone")
    laptop = await room.online("bob", "laptop")
    last = await room.send("ann", group, "hi")
    await phone.say(marks=[connect_pb2.Mark(channel_id=group, read_id=last)])
    await settle()
    states = [event.state for event in laptop.events if event.HasField("state")]
    assert [(s.read_id, s.unread_count) for s in states] == [(last, 0)]
    assert not any(event.HasField("state") for event in phone.events)


async def test_typing_reaches_the_others_only(room: Room) -> None:
    group = await room.group("ann", "bob")
    on = connect_pb2.Subscriptions(typing=True)
    ann = await room.online("ann", subscriptions=on)
    bob = await room.online("bob", subscriptions=on)
    await ann.say(typing=[connect_pb2.TypingSignal(channel_id=group, active=True)])
    await settle()
    typing = [t for frame in bob.sink.frames for t in frame.typing]
    assert [(t.user_id, t.active) for t in typing] == [("ann", True)]
    assert not any(frame.typing for frame in ann.sink.frames)


async def test_a_broadcast_channel_reaches_those_who_look(room: Room) -> None:
    answer = await room.call("ann", "CreateChannel", kind=3, name="news", is_public=True)
    news = answer.channel.channel.id
    for reader in ("bob", "cid"):
        await room.call(reader, "JoinChannel", channel_id=news)
    bob = await room.online("bob")
    cid = await room.online("cid")
    await room.send("ann", news, "one")
    await bob.say(subscribe=cursors((news, 1)))
    await settle()
    await room.send("ann", news, "two")
    await settle()
    assert bob.texts == ["one", "two"]
    assert cid.texts == []
    await bob.say(unsubscribe=[news])
    await room.send("ann", news, "three")
    await settle()
    assert bob.texts == ["one", "two"]
    await room.call("ann", "RemoveMember", channel_id=news, user_id="bob")
    await settle()
    assert bob.events[-1].reset.reason == Reset.REASON_NOT_VISIBLE


async def test_a_deleted_channel_shows_only_that(room: Room) -> None:
    group = await room.group("ann", "bob")
    await room.send("ann", group, "gone")
    bob = await room.online("bob")
    await room.call("ann", "DeleteChannel", channel_id=group)
    await settle()
    assert bob.entries[-1].HasField("channel_deleted")
    late = room.connect("bob")
    await late.hello(cursors=cursors((group, 1)))
    assert [entry.WhichOneof("kind") for entry in late.entries] == ["channel_deleted"]
    gap = next(event.gap for event in late.events if event.HasField("gap"))
    assert (gap.from_id, gap.to_id) == (2, 2)


async def test_nothing_overtakes_a_send_that_was_refused_for_a_moment(
    alone: Room, memory: MemoryChatStore
) -> None:
    group = await alone.group("ann", "bob")
    ann = await alone.online("ann")

    def send(text: str, key: str) -> connect_pb2.SendMessageRequest:
        return connect_pb2.SendMessageRequest(
            channel_id=group, client_message_id=key, content=message_pb2.MessageContent(text=text)
        )

    first, second = alone.message_id(), alone.message_id()
    memory.failing = True
    await ann.say(sends=[send("one", first)])
    await settle()
    memory.failing = False
    await ann.say(sends=[send("two", second)])
    await settle()
    assert [reason_of(result.error) for result in ann.results] == [
        "STORAGE_UNAVAILABLE",
        "EARLIER_SEND_REFUSED",
    ]
    await ann.say(sends=[send("one", first), send("two", second)])
    await settle()
    assert ann.texts == ["one", "two"]


async def test_a_repeat_gets_the_same_answer(room: Room) -> None:
    group = await room.group("ann", "bob")
    ann = await room.online("ann")
    send = connect_pb2.SendMessageRequest(
        channel_id=group,
        client_message_id=room.message_id(),
        content=message_pb2.MessageContent(text="x"),
    )
    for _ in range(2):
        await ann.say(sends=[send])
        await settle()
        room.clock.advance(5)
    assert ann.results[0] == ann.results[1]


async def test_a_channel_joined_while_away_is_told_from_the_joining_on(room: Room) -> None:
    bob = room.connect("bob")
    await bob.hello()
    stamp = next(f.caught_up.stamp for f in bob.sink.frames if f.caught_up.stamp)
    bob.drop()
    group = await room.group("ann", "cid")
    await room.send("ann", group, "before")
    await room.call("ann", "AddMembers", channel_id=group, user_ids=["bob"])  # 3
    await room.send("ann", group, "after")
    again = room.connect("bob")
    await again.hello(resume_stamp=stamp)
    opened = next(event.opened for event in again.events if event.HasField("opened"))
    assert opened.start_id == 2
    assert [entry.id for entry in again.entries] == [3, 4]
    for number, void in enumerate(("ffff.1", f"{room.store.generation:x}.", "no stamp of ours")):
        # Of no use, and still of one who was told of all channels once.
        other = room.connect("bob", f"device-{number}")
        await other.hello(resume_stamp=void)
        assert not other.sink.frames[0].welcome.stamp_accepted
        assert [entry.id for entry in other.entries] == [3, 4]
    fresh = room.connect("bob", "new-device")
    await fresh.hello()
    opened = next(event.opened for event in fresh.events if event.HasField("opened"))
    assert opened.start_id == 4
    limited = room.connect("bob", "third-device")
    await limited.hello(resume_stamp=stamp, catch_up_limit=1)
    opened = next(event.opened for event in limited.events if event.HasField("opened"))
    assert opened.start_id == 4


async def test_a_look_at_the_head_goes_on(room: Room) -> None:
    answer = await room.call("ann", "CreateChannel", kind=3, name="news", is_public=True)
    news = answer.channel.channel.id
    ann = await room.online("ann")
    await ann.say(subscribe=cursors((news, 1)))
    await settle()
    await room.send("ann", news, "one")
    await settle()
    assert ann.texts == ["one"]


async def test_a_look_goes_on_after_a_break_in_which_nothing_came(room: Room) -> None:
    answer = await room.call("ann", "CreateChannel", kind=3, name="news", is_public=True)
    news = answer.channel.channel.id
    looking = {"channels": cursors((news, 1))}
    first = room.connect("ann")
    await first.hello(subscriptions=looking)
    stamp = next(f.caught_up.stamp for f in first.sink.frames if f.HasField("caught_up"))
    first.drop()
    ann = await room.online("ann", resume_stamp=stamp, subscriptions=looking)
    await room.send("ann", news, "one")
    await settle()
    assert ann.texts == ["one"]
