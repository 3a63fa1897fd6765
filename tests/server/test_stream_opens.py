"""A node opens so many streams a second; the others are told when to come back, and are let in."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import pytest
from grpc import StatusCode, aio

from chinwag.common.v1 import close_pb2
from chinwag_server.clock import SystemClock
from chinwag_server.config.sources import build
from chinwag_server.rooms import MESH_STREAM_OPENS_PER_SECOND, admission
from tests.server.fixtures import StartNode
from tests.server.serving import Served, bearer
from tests.server.standin import StandInAccount
from tests.server.test_drain import chat, connected
from tests.server.test_node import get

RATE, BURST, DEVICES = 20, 3, 12
METRIC = b"chinwag_stream_opens_wait_seconds "


async def turned_away(server: Served, user_id: str) -> tuple[close_pb2.Close, StatusCode] | None:
    """What a device is told that opens a stream, and the end; None: it was let in."""
    stream: Any = chat(server).Connect(metadata=bearer(f"{user_id}/1"))
    # The refusal comes without a hello: that would cost the node what it spares.
    try:
        async with asyncio.timeout(0.3):
            frame = await stream.read()
    except TimeoutError:
        stream.cancel()
        return None
    with contextlib.suppress(aio.AioRpcError):
        assert await stream.read() is aio.EOF
    return frame.close, await stream.code()


async def wait_s(server: Served) -> float:
    """The metric."""
    page = (await get(server.node.http_port, "/metrics"))[2]
    return next(float(line.split()[1]) for line in page.splitlines() if line.startswith(METRIC))


async def test_each_comes_back_in_its_turn(start_node: StartNode) -> None:
    server = await start_node(
        open_account=StandInAccount,
        limits__stream_opens_per_second=float(RATE),
        limits__stream_opens_burst=BURST,
    )
    assert await wait_s(server) == 0
    came: list[float] = []
    told: list[float] = []
    loop = asyncio.get_running_loop()
    begin = loop.time()

    async def device(number: int) -> None:
        while (found := await turned_away(server, f"user{number}")) is not None:
            close, code = found
            assert close.reason == close_pb2.CLOSE_REASON_OVERLOADED
            assert close.reconnect
            assert code is StatusCode.RESOURCE_EXHAUSTED
            pause_s = close.min_delay.ToNanoseconds() / 1e9
            jitter_s = close.jitter.ToNanoseconds() / 1e9
            assert 0 < pause_s <= DEVICES / RATE + 0.1
            told.append(pause_s)
            await asyncio.sleep(pause_s + random.uniform(0, jitter_s))
        came.append(loop.time() - begin)

    await asyncio.gather(*(device(number) for number in range(DEVICES)))
    assert told
    assert len(came) == DEVICES
    # The queue, twice the jitter, and what a busy machine takes.
    assert max(came) < DEVICES / RATE + BURST / RATE + 3.0


async def test_a_node_that_is_alone_opens_all(bare_server: Served) -> None:
    await asyncio.gather(*(connected(bare_server, f"user{number}") for number in range(400)))
    assert await wait_s(bare_server) == 0


@pytest.mark.parametrize(
    ("values", "rate"),
    [
        ({}, 0),
        ({"mesh.coordination_url": "etcd://e1"}, MESH_STREAM_OPENS_PER_SECOND),
        ({"limits.stream_opens_per_second": 7.0}, 7),
        ({"mesh.coordination_url": "etcd://e1", "limits.stream_opens_per_second": 0.0}, 0),
    ],
)
def test_the_rate_that_holds(values: dict[str, object], rate: float) -> None:
    burst = build(values).limits.stream_opens_burst
    gate = admission(build(values), SystemClock())
    let_in = [gate.take() for _ in range(burst + 50)].count(None)
    if not rate:
        assert let_in == burst + 50
    else:
        assert burst <= let_in < burst + 50
        assert gate.queue_s == pytest.approx((burst + 50 - let_in) / rate, rel=0.3)
