"""docs/delivery.md, section by section, on a real server that is killed."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from chinwag.chat.v1 import channel_pb2, connect_pb2, entry_pb2, message_pb2
from chinwag.chat.v1 import chat_service_pb2 as pb
from chinwag.ids import MessageIds
from chinwag_server.cli.exits import CommandError
from chinwag_server.cli.replay.devices import Device, seen_of
from chinwag_server.cli.replay.verify import SentLine, verify_channel
from tests.delivery.conftest import Stage

IDS = MessageIds()


def request(channel_id: str, text: str) -> connect_pb2.SendMessageRequest:
    return connect_pb2.SendMessageRequest(
        channel_id=channel_id,
        client_message_id=IDS.draw(time.time()),
        content=message_pb2.MessageContent(text=text),
    )


async def send(stage: Stage, user_id: str, made: connect_pb2.SendMessageRequest) -> int:
    answer = await stage.admin.call(stage.admin.chat.SendMessage, made, user_id)
    return int(answer.message.id)


async def texts(stage: Stage, user_id: str, channel_id: str) -> list[str]:
    answer: Any = await stage.admin.call(
        stage.admin.chat.ListMessages, pb.ListMessagesRequest(channel_id=channel_id), user_id
    )
    return [message.content.text for message in answer.messages]


async def test_1_an_ack_means_durable(stage: Stage) -> None:
    await stage.people("ann", "bob")
    group = await stage.admin.make_group("ann", "g", ["bob"])
    for number in range(3):
        await send(stage, "ann", request(group, str(number)))
        await stage.kill()
        assert await texts(stage, "bob", group) == [str(n) for n in range(number + 1)]


async def test_3_a_retry_stores_once_over_a_crash(stage: Stage) -> None:
    await stage.people("ann", "bob")
    group = await stage.admin.make_group("ann", "g", ["bob"])
    made = request(group, "once")
    first = await send(stage, "ann", made)
    await stage.kill()
    assert await send(stage, "ann", made) == first
    assert await texts(stage, "bob", group) == ["once"]
    made.content.text = "twice"
    with pytest.raises(CommandError, match="ALREADY_EXISTS"):
        await send(stage, "ann", made)


async def test_5_a_device_that_was_away_gets_exactly_what_it_missed(stage: Stage) -> None:
    await stage.people("ann", "bob")
    group = await stage.admin.make_group("ann", "g", ["bob"])
    bob = await stage.device("bob", "phone")
    await stage.server.kill()
    await stage.server.start()
    last = [await send(stage, "ann", request(group, str(n))) for n in range(50)][-1]
    assert await bob.wait_for(group, last, 20)
    assert [entry.id for entry in bob.records[group].seen] == list(range(2, last + 1))


async def test_6_who_is_removed_sees_nothing_after(stage: Stage) -> None:
    await stage.people("ann", "bob", "cid")
    group = await stage.admin.make_group("ann", "g", ["bob", "cid"])
    bob, cid = await stage.device("bob", "phone"), await stage.device("cid", "phone")
    await send(stage, "ann", request(group, "before"))
    await stage.admin.remove_member("ann", group, "bob")
    last = await send(stage, "ann", request(group, "after"))
    assert await cid.wait_for(group, last, 10)
    await stage.kill()
    assert await texts(stage, "bob", group) == ["before"]
    kinds = [entry.kind for entry in bob.records[group].seen]
    assert kinds == ["message_sent", "member_removed"]


async def burst(stage: Stage, *, kills: int, seed: int, messages: int) -> None:
    """Everybody talks at once while the server is killed at random moments; then everything that
    was promised is checked on every device."""
    rng = random.Random(seed)
    people = ["ann", "bob", "cid"]
    await stage.people(*people)
    group = await stage.admin.make_group("ann", "g", people[1:])
    devices = [await stage.device(who, kind) for who in people for kind in ("phone", "laptop")]
    sent: list[SentLine] = []
    killing = True

    async def talk(device: Device) -> None:
        handles: list[tuple[Any, str]] = []
        number = 0
        while killing or number < messages:
            text = f"{device.user_id} {number} " + "x" * rng.randrange(200)
            handles.append((device.client.channel(group).post(text), text))
            number += 1
            await asyncio.sleep(rng.random() * 0.02)
        for handle, text in handles:
            stored = await asyncio.wait_for(handle, 60)
            sent.append(SentLine(device.user_id, handle.client_message_id, text, stored.message_id))

    talking = [asyncio.ensure_future(talk(device)) for device in devices[::2]]
    for _ in range(kills):
        await asyncio.sleep(rng.uniform(0.05, 0.8))
        await stage.kill()
    killing = False
    await asyncio.gather(*talking)
    entries = await stage.admin.read_log("ann", group)
    log = [seen_of(entry) for entry in entries]
    for device in devices:
        assert await device.wait_for(group, log[-1].id, 30), device.user_id
    sent.sort(key=lambda line: line.message_id)
    records = [device.records[group] for device in devices]
    verify_channel("g", log, sent, records, dict.fromkeys(people, 2), {})
    by_sender: dict[str, list[int]] = {}
    for line in sent:
        by_sender.setdefault(line.user_id, []).append(int(line.text.split()[1]))
    assert all(numbers == list(range(len(numbers))) for numbers in by_sender.values())


async def test_2_and_4_one_order_once_on_every_device_over_five_kills(stage: Stage) -> None:
    await burst(stage, kills=5, seed=int.from_bytes(random.randbytes(4)), messages=50)


@pytest.mark.soak
async def test_the_same_over_fifty_kills(stage: Stage) -> None:
    await burst(stage, kills=50, seed=int.from_bytes(random.randbytes(4)), messages=50)


async def test_5_a_device_learns_of_a_channel_that_it_was_added_to_while_away(
    stage: Stage,
) -> None:
    await stage.people("ann", "bob")
    bob = await stage.device("bob", "phone")
    group = await stage.admin.make_group("ann", "g", [])
    await stage.kill()
    await stage.admin.add_member("ann", group, "bob")
    last = await send(stage, "ann", request(group, "after"))
    assert await bob.wait_for(group, last, 20)
    assert [entry.id for entry in bob.records[group].seen] == [2, 3]


async def chinwag(*words: str) -> None:
    """Runs a command of the operator's."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "chinwag_server.cli", *words, stdout=asyncio.subprocess.DEVNULL
    )
    assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_5_a_restored_store_resets_what_devices_hold(stage: Stage, tmp_path: Path) -> None:
    await stage.people("ann", "bob")
    group = await stage.admin.make_group("ann", "g", ["bob"])
    await send(stage, "ann", request(group, "kept"))
    await chinwag("backup", str(tmp_path / "b"), "--data", str(stage.server.data_dir))
    lost = await send(stage, "ann", request(group, "after the back-up"))
    view: Any = await stage.admin.call(
        stage.admin.chat.GetChannel, pb.GetChannelRequest(channel_id=group), "bob"
    )
    generation = view.channel.channel.generation
    await stage.server.stop()
    await chinwag(
        "restore", str(tmp_path / "b"), "--data", str(stage.server.data_dir), "--overwrite"
    )
    await stage.server.start()
    cursor = channel_pb2.Cursor(channel_id=group, generation=generation, id=lost)
    answer: Any = await stage.admin.call(
        stage.admin.chat.Sync, pb.SyncRequest(cursors=[cursor], cursors_only=True), "bob"
    )
    reset = answer.events[0].reset
    assert reset.reason == entry_pb2.ChannelReset.REASON_GENERATION
    assert reset.generation != generation
    assert await texts(stage, "bob", group) == ["kept"]
    assert await send(stage, "ann", request(group, "new")) == lost
