"""Random and mutated frames into a device's stream: it answers or refuses, nothing else breaks."""

from __future__ import annotations

import asyncio
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chinwag.chat.v1 import connect_pb2
from chinwag_server.chat.memory import MemoryChatStore
from tests.server.chat.rules import Room, settle

IDS = st.sampled_from(["", "c" + "a" * 26, "x" * 65, "\x00", "group"])
NUMBERS = st.sampled_from([0, 1, 2, 3, -1, 2**31, 2**63 - 1, -(2**63)])
TEXTS = st.sampled_from(["", "hi", "x" * 100_001, "\N{GRINNING FACE}"])


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A frame of arbitrary parts, perhaps damaged."""
    frame = connect_pb2.ConnectRequest()
    if draw(st.integers(0, 20)) == 0:
        frame.hello.protocol_version = 1
    for _ in range(draw(st.integers(0, 3))):
        send = frame.sends.add(channel_id=draw(IDS), reply_to_id=draw(NUMBERS))
        send.content.text = draw(TEXTS)
        send.client_message_id = draw(
            st.sampled_from(["", "no", "018bcfe5-6800-7000-8000-000000000001"])
        )
        send.thread_root_id = draw(NUMBERS)
    for _ in range(draw(st.integers(0, 3))):
        frame.marks.add(channel_id=draw(IDS), read_id=draw(NUMBERS), delivered_id=draw(NUMBERS))
    if draw(st.booleans()):
        frame.typing.add(channel_id=draw(IDS), thread_root_id=draw(NUMBERS))
    if draw(st.booleans()):
        frame.subscribe.add(channel_id=draw(IDS), generation=draw(NUMBERS), id=draw(NUMBERS))
    if draw(st.booleans()):
        frame.unsubscribe.append(draw(IDS))
    if draw(st.booleans()):
        frame.renew_token.access_token = draw(IDS)
    data = bytearray(frame.SerializeToString())
    for _ in range(draw(st.integers(0, 4))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) if draw(st.booleans()) else bytes(data)


@given(st.lists(st.one_of(frames(), st.binary(max_size=200)), max_size=20), st.integers())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_frame_harms_the_others(data: list[bytes], seed: int) -> None:
    async def run() -> None:
        store = MemoryChatStore()
        room = Room(store)
        group = await room.group("ann", "bob", "eve")
        eve = await room.online("eve")
        bob = await room.online("bob")
        rng = random.Random(seed)
        for frame in data:
            # The group's real id in place of a placeholder makes some frames reach deeper.
            await eve.stream.receive(
                frame.replace(b"\x05group", bytes([len(group)]) + group.encode())
            )
            if rng.random() < 0.2:
                await settle()
        await room.send("ann", group, "still here")
        await settle()
        assert "still here" in bob.texts
        assert [entry.id for entry in bob.entries] == list(range(2, 2 + len(bob.entries)))
        assert not bob.stream.closed
        await room.room.stop()

    asyncio.run(run())
