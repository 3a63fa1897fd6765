"""Nodes work together: what a device sees does not depend on where it and its channels are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from chinwag_server.chat.routed.fanout import FanoutLimits
from tests.server.chat.routed.nodes import Node, Nodes, until
from tests.server.chat.rules import Device, cursors, refused

WAYS = {
    "direct": FanoutLimits(direct_members=1000, pubsub_members=1000),
    "pubsub": FanoutLimits(direct_members=0, pubsub_members=1000),
}


@pytest.fixture(params=list(WAYS))
async def mesh(request: pytest.FixtureRequest) -> AsyncIterator[Nodes]:
    mesh = Nodes(limits=WAYS[request.param])
    await mesh.start()
    yield mesh
    await mesh.stop()


async def online(node: Node, user_id: str, device_id: str = "", **hello: Any) -> Device:
    """A device that is caught up."""
    device = node.connect(user_id, device_id)
    await device.hello(**hello)
    await until(lambda: device.stream.live)
    device.clear()
    return device


def has_texts(device: Device, count: int) -> bool:
    return len(device.texts) >= count


def is_live(device: Device) -> bool:
    return device.stream.live


async def test_a_send_at_any_node_reaches_devices_at_all(mesh: Nodes) -> None:
    a, b, c = mesh.nodes
    channel = await a.group("ann", "bob", "cem")
    devices = [await online(a, "ann"), await online(b, "bob"), await online(c, "cem")]
    for number, node in enumerate(mesh.nodes * 2):
        await node.send(("ann", "bob", "cem")[number % 3], channel, f"m{number}")
    expected = [f"m{number}" for number in range(6)]
    for device in devices:
        await until(partial(has_texts, device, 6))
        assert device.texts == expected
        ids = [entry.id for entry in device.entries]
        assert ids == list(range(2, 8))


async def test_sends_on_streams_keep_their_order(mesh: Nodes) -> None:
    channel = await mesh.nodes[0].group("ann", "bob")
    owner, other = mesh.owner_of(channel), mesh.others(channel)[0]
    sender, reader = await online(other, "ann"), await online(owner, "bob")
    for number in range(50):
        await sender.say(
            sends=[
                {
                    "channel_id": channel,
                    "client_message_id": other.message_id(),
                    "content": {"text": f"m{number}"},
                }
            ]
        )
    await until(lambda: len(reader.texts) >= 50 and len(sender.results) >= 50)
    assert reader.texts == [f"m{number}" for number in range(50)]
    assert [result.message_id for result in sender.results] == list(range(2, 52))
    # A sending device gets its own entries too.
    await until(lambda: len(sender.texts) >= 50)
    assert sender.texts == reader.texts


async def test_a_retry_at_another_node_stores_once(mesh: Nodes) -> None:
    a, b, c = mesh.nodes
    channel = await a.group("ann", "bob")
    key = a.message_id()
    ids = {await node.send("ann", channel, "once", client_message_id=key) for node in (a, b, c)}
    assert len(ids) == 1
    assert await b.texts("bob", channel) == ["once"]


async def test_refusals_come_back_whole(mesh: Nodes) -> None:
    channel = await mesh.nodes[0].group("ann", "bob")
    for node in mesh.nodes:
        await refused("CHANNEL_NOT_FOUND", node.send("eve", channel, "hi"))
        error = await refused(
            "BEYOND_HEAD", node.call("bob", "MarkRead", channel_id=channel, read_id=99)
        )
        assert error.metadata == {"head_id": "1"}
        assert error.fields == (("read_id", "at most 1"),)


async def test_who_is_added_hears_from_then_on(mesh: Nodes) -> None:
    a, b, c = mesh.nodes
    channel = await a.group("ann", "bob")
    device = await online(c, "cem")
    await b.send("bob", channel, "before")
    await b.call("ann", "AddMembers", channel_id=channel, user_ids=["cem"])
    await b.send("bob", channel, "after")
    await until(lambda: "after" in device.texts)
    assert device.events[0].HasField("opened")
    assert device.events[0].opened.start_id == 2
    assert [entry.id for entry in device.entries] == [3, 4]
    await a.call("ann", "RemoveMember", channel_id=channel, user_id="cem")
    await a.send("ann", channel, "secret")
    await until(lambda: [entry.id for entry in device.entries] == [3, 4, 5])
    assert "secret" not in device.texts


async def test_a_device_catches_up_at_any_node(mesh: Nodes) -> None:
    a, *_ = mesh.nodes
    channel = await a.group("ann", "bob")
    for number in range(5):
        await a.send("ann", channel, f"m{number}")
    generation = mesh.nodes[0].store.generation
    for node in mesh.nodes:
        device = node.connect("bob", f"bob-{node.meshed.node_id}")
        await device.hello(cursors=cursors((channel, 2), generation=generation))
        await until(partial(is_live, device))
        assert device.texts == ["m1", "m2", "m3", "m4"]


async def test_registers_and_signals_reach_other_nodes(mesh: Nodes) -> None:
    a, b, c = mesh.nodes
    channel = await a.group("ann", "bob")
    await a.send("ann", channel, "hi")
    wants: dict[str, Any] = {"subscriptions": {"receipts": True, "typing": True}}
    ann, bob, bob2 = (
        await online(a, "ann", **wants),
        await online(b, "bob", "bob-1", **wants),
        await online(c, "bob", "bob-2", **wants),
    )
    await bob.say(marks=[{"channel_id": channel, "read_id": 2}])
    await until(lambda: any(frame.receipts for frame in ann.sink.frames))
    receipts = [item for frame in ann.sink.frames for item in frame.receipts]
    assert (receipts[-1].user_id, receipts[-1].read_id) == ("bob", 2)
    await until(lambda: any(event.HasField("state") for event in bob2.events))
    assert bob2.events[-1].state.read_id == 2
    assert not any(event.HasField("state") for event in bob.events)
    await bob.say(typing=[{"channel_id": channel, "active": True}])
    await until(lambda: any(frame.typing for frame in ann.sink.frames))
    bob.clear()
    await bob.say(marks=[{"channel_id": channel, "read_id": 77}], frame_id=5)
    await until(lambda: bool(bob.errors))
    assert bob.errors == ["BEYOND_HEAD"]


async def test_a_broadcast_channel_is_told_to_who_looks(mesh: Nodes) -> None:
    a, b, c = mesh.nodes
    made = await a.call("ann", "CreateChannel", kind=3, name="news", is_public=True)
    channel = made.channel.channel.id
    await b.call("bob", "JoinChannel", channel_id=channel)
    await c.call("cem", "JoinChannel", channel_id=channel)
    generation = a.store.generation
    looking = [
        await online(
            node, user, subscriptions={"channels": cursors((channel, 1), generation=generation)}
        )
        for node, user in ((b, "bob"), (c, "cem"))
    ]
    away = await online(b, "bob", "bob-2")
    for number in range(3):
        await a.send("ann", channel, f"m{number}")
    for device in looking:
        await until(partial(has_texts, device, 3))
        assert device.texts == ["m0", "m1", "m2"]
    assert away.texts == []


async def test_a_node_that_leaves_hands_over_and_nothing_fails(mesh: Nodes) -> None:
    a, *_ = mesh.nodes
    channel = await a.group("ann", "bob")
    owner = mesh.owner_of(channel)
    rest = [node for node in mesh.nodes if node is not owner]
    sender, reader = await online(rest[0], "ann"), await online(rest[1], "bob")
    for number in range(20):
        if number == 10:
            mesh.nodes.remove(owner)
            await owner.stop()
        await sender.say(
            sends=[
                {
                    "channel_id": channel,
                    "client_message_id": rest[0].message_id(),
                    "content": {"text": f"m{number}"},
                }
            ]
        )
    await until(lambda: len(reader.texts) >= 20 and len(sender.results) >= 20)
    assert reader.texts == [f"m{number}" for number in range(20)]
    assert all(result.message_id for result in sender.results)


async def test_devices_of_a_node_that_drains_go_on(mesh: Nodes) -> None:
    a, b, c = mesh.nodes
    channels = [await a.group("ann", "bob") for _ in range(6)]
    ann, bob = await online(a, "ann"), await online(b, "bob")
    await a.meshed.drain(5)
    assert not any(a.owns(channel) for channel in channels)
    for channel in channels:
        await ann.say(
            sends=[
                {
                    "channel_id": channel,
                    "client_message_id": a.message_id(),
                    "content": {"text": "still here"},
                }
            ]
        )
    await until(partial(has_texts, bob, 6))
    await until(partial(has_texts, ann, 6))
    assert all(result.message_id for result in ann.results)
    await c.send("bob", channels[0], "heard")
    await until(partial(has_texts, ann, 7))


async def test_the_last_node_leaves_at_once() -> None:
    mesh = Nodes()
    first, last = await mesh.start(2)
    await first.stop()
    async with asyncio.timeout(2):  # at the pace of a hand-over 12.8 s
        await last.meshed.drain(20)
    assert not last.meshed.ownership.owned()
    await last.stop()


async def test_stamps_tell_what_changed(mesh: Nodes) -> None:
    a, b, _ = mesh.nodes
    channel = await a.group("ann", "bob")
    device = a.connect("bob")
    await device.hello()
    await until(lambda: device.stream.live)
    stamp = device.sink.frames[-1].caught_up.stamp
    assert stamp
    device.drop()
    made = await b.group("ann", "bob")
    await b.send("ann", made, "while away")
    device = b.connect("bob")
    await device.hello(
        resume_stamp=stamp, cursors=cursors((channel, 1), generation=a.store.generation)
    )
    await until(lambda: device.stream.live)
    assert device.sink.frames[0].welcome.stamp_accepted
    assert device.texts == ["while away"]


async def test_lists_are_the_same_everywhere(mesh: Nodes) -> None:
    a, *_ = mesh.nodes
    made = [await a.group("ann", "bob") for _ in range(5)]
    for channel in made:
        await a.send("ann", channel, "hi")
    for node in mesh.nodes:
        answer = await node.call("bob", "ListChannels")
        assert {view.channel.id for view in answer.channels} == set(made)
        assert all(view.last_message.content.text == "hi" for view in answer.channels)
        assert all(view.state.unread_count == 1 for view in answer.channels)


async def test_a_deleted_account_leaves_channels_of_other_nodes(mesh: Nodes) -> None:
    a, b, _ = mesh.nodes
    channels = [await a.group("ann", "bob") for _ in range(4)]
    for channel in channels:
        await a.send("bob", channel, "mine")
    await b.room.forget_user("bob", redact=True)
    for channel in channels:
        members = await a.call("ann", "ListMembers", channel_id=channel)
        assert [member.user_id for member in members.members] == ["ann"]
        messages = (await a.call("ann", "ListMessages", channel_id=channel)).messages
        assert [message.content.text for message in messages] == [""]


async def test_who_was_removed_is_noted_by_who_takes_the_channel_over(mesh: Nodes) -> None:
    channel = await mesh.nodes[0].group("ann", "bob")
    await mesh.nodes[0].call("ann", "RemoveMember", channel_id=channel, user_id="bob")
    noted = mesh.inboxes.users["bob"].channels.pop(channel)
    taking = mesh.others(channel)[0]  # it has not loaded the channel
    await taking.meshed.across.before_ack(channel, [])
    assert mesh.inboxes.users["bob"].channels[channel] > noted
