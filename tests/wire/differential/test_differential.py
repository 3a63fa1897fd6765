"""Random calls to the wire and to grpc.aio: a client sees the same of both."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack

import grpc
import pytest
from grpc import aio

from tests.wire.compat.serving import serving
from tests.wire.differential.calls import Client, plan

CALLS = 60
LONG_CALLS = 4_000
NO_LIMIT = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


async def compare(seed: int, calls: int) -> None:
    """Makes the same random calls of both, and compares each."""
    chance = random.Random(seed)
    codes = set()
    async with AsyncExitStack() as stack:
        clients = []
        for core in ("wire", "grpcio"):
            target = await stack.enter_async_context(serving(core))
            channel = aio.insecure_channel(target, options=NO_LIMIT)
            await stack.enter_async_context(channel)
            clients.append(Client(channel))
        for number in range(calls):
            what = plan(chance)
            ours, theirs = [await client.make(what) for client in clients]
            assert ours == theirs, f"seed {seed}, call {number}: {what!s:.300}"
            codes.add(ours.code)
    assert grpc.StatusCode.OK in codes
    assert len(codes) > 5


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_same_is_seen_of_both(seed: int) -> None:
    await compare(seed, CALLS)


@pytest.mark.soak
async def test_the_same_for_long() -> None:
    await compare(random.SystemRandom().randrange(1 << 32), LONG_CALLS)
