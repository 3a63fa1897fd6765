"""Random and malformed frames into Connect of a real server: the process lives, its memory stays
bounded, the other clients are unharmed."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import grpc.aio

from chinwag.chat.v1 import connect_pb2, message_pb2
from tests.delivery.conftest import Stage
from tests.delivery.test_delivery import request, send

FRAMES = 4000
MAX_GROWTH_KIB = 64 << 10


def memory_kib(pid: int) -> int:
    """A process's resident set."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def damaged(rng: random.Random, channel_id: str) -> bytes:
    """A frame that may be anything."""
    if rng.random() < 0.3:
        return rng.randbytes(rng.randrange(300))
    frame = connect_pb2.ConnectRequest(frame_id=rng.randrange(-5, 5))
    for _ in range(rng.randrange(3)):
        frame.sends.add(
            channel_id=rng.choice([channel_id, "", "x" * 70]),
            client_message_id=rng.choice(["", "no", "018bcfe5-6800-7000-8000-000000000001"]),
            content=message_pb2.MessageContent(text=rng.choice(["", "hi", "x" * 100_001])),
            reply_to_id=rng.choice([0, -1, 1 << 62]),
        )
    frame.marks.add(channel_id=channel_id, read_id=rng.choice([0, -1, 1 << 62]))
    frame.subscribe.add(channel_id=channel_id, generation=rng.getrandbits(62), id=1 << 60)
    data = bytearray(frame.SerializeToString())
    for _ in range(rng.randrange(6)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data[: rng.randrange(1, len(data) + 1)])


async def attack(target: str, token: str, channel_id: str, seed: int) -> None:
    """One bad client: it opens stream after stream until all its frames are sent."""
    rng = random.Random(seed)
    left = FRAMES // 4
    async with grpc.aio.insecure_channel(target) as channel:
        method: Any = channel.stream_stream("/chinwag.chat.v1.ChatService/Connect")
        while left > 0:
            call = method(metadata=(("authorization", f"Bearer {token}"),), timeout=30)
            hello = connect_pb2.ConnectRequest(hello=connect_pb2.Hello(protocol_version=1))
            try:
                if rng.random() < 0.8:
                    await call.write(hello.SerializeToString())
                for _ in range(min(left, 400)):
                    left -= 1
                    await call.write(damaged(rng, channel_id))
                await asyncio.sleep(0.05)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
                left -= 1  # the server has closed this stream: the next one
            call.cancel()


async def test_bad_frames_harm_nobody(stage: Stage) -> None:
    await stage.people("ann", "bob", "eve")
    group = await stage.admin.make_group("ann", "g", ["bob", "eve"])
    bob = await stage.device("bob", "phone")
    tokens = [await stage.admin.issue_token("eve", f"bad-{n}") for n in range(4)]
    before = memory_kib(stage.server.pid)
    attacks = [
        asyncio.ensure_future(attack(stage.server.target, t.access_token, group, n))
        for n, t in enumerate(tokens)
    ]
    last, slowest = 0, 0.0
    while not all(task.done() for task in attacks):
        started = time.monotonic()
        last = await send(stage, "ann", request(group, "still here"))
        slowest = max(slowest, time.monotonic() - started)
        await asyncio.sleep(0.01)
    await asyncio.gather(*attacks)
    assert await bob.wait_for(group, last, 10)
    ids = [entry.id for entry in bob.records[group].seen]
    assert ids == list(range(2, 2 + len(ids)))
    assert slowest < 2.0
    assert memory_kib(stage.server.pid) - before < MAX_GROWTH_KIB
