"""Random calls, found by hypothesis, to both cores and to both adapters of the product: what can
be seen of them from either end is the same.

What may differ is taken out in `outcomes.comparable` and `product`, each with its reason; what
differs and should not is in `test_known`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.server.fixtures import StartNode
from tests.server.serving import Served
from tests.server.standin import StandInAccount
from tests.wire.differential.outcomes import differences, outcome_of
from tests.wire.differential.plans import Plan, plans
from tests.wire.differential.product import MESSAGE_BYTES, METADATA_BYTES, Action, World
from tests.wire.differential.scripted import both_sides
from tests.wire.differential.search import search
from tests.wire.differential.stories import stories

SHORT_S = 10.0
LONG_S = float(os.environ.get("DIFFERENTIAL_SECONDS", "900"))
# A failure is then made smaller.
TEST_S = 240
SETTINGS: dict[str, Any] = {
    "open_account": StandInAccount,
    "http__enabled": False,
    "limits__message_bytes": MESSAGE_BYTES,
    "limits__frame_bytes": MESSAGE_BYTES,
    "limits__metadata_bytes": METADATA_BYTES,
    # Rates are a matter of time, and the same code in both.
    "limits__user_calls_per_second": 0,
    "limits__user_frames_per_second": 0,
    "limits__user_sends_per_second": 0,
    "limits__anonymous_calls_per_second": 0,
}
_stories = itertools.count(1)


async def compare_cores(seconds: float) -> int:
    """Random calls of a scripted servicer."""
    async with both_sides() as sides:

        async def check(plan: Plan) -> None:
            ours, theirs = await asyncio.gather(*(outcome_of(side, plan) for side in sides))
            found = differences(ours, theirs, plan)
            assert not found, "\n".join([*found, repr(plan)])

        return await search(plans(), check, seconds)


async def compare_nodes(start_node: StartNode, data: Path, seconds: float) -> int:
    """Random stories of the product."""
    nodes: list[Served] = []
    channels: list[grpc.Channel] = []
    for wire in ("wire", "grpcio"):
        node = await start_node(listen__wire=wire, data_dir=data / wire, **SETTINGS)
        nodes.append(node)
        options = (("grpc.use_local_subchannel_pool", 1),)
        channels.append(grpc.insecure_channel(node.target, options=options))

    async def check(story: list[Action]) -> None:
        name = f".{next(_stories)}."
        ours, theirs = (
            World(node, channel, name) for node, channel in zip(nodes, channels, strict=True)
        )
        try:
            for number, action in enumerate(story):
                mine, other = await asyncio.gather(ours.do(action), theirs.do(action))
                where = f"action {number} of {story}"
                assert mine == other, f"{where}\nwire   {mine}\ngrpcio {other}"
                assert not mine[1], f"{where}: {mine[1]}"
        finally:
            await asyncio.gather(ours.close(), theirs.close())

    try:
        return await search(stories(), check, seconds)
    finally:
        for channel in channels:
            channel.close()


@pytest.mark.timeout(TEST_S)
async def test_the_cores() -> None:
    assert await compare_cores(SHORT_S) > 10


@pytest.mark.timeout(TEST_S)
async def test_the_product(start_node: StartNode, tmp_path: Path) -> None:
    assert await compare_nodes(start_node, tmp_path, SHORT_S) > 5


@pytest.mark.soak
async def test_the_cores_for_long() -> None:
    assert await compare_cores(LONG_S) > 1000


@pytest.mark.soak
async def test_the_product_for_long(start_node: StartNode, tmp_path: Path) -> None:
    assert await compare_nodes(start_node, tmp_path, LONG_S) > 300
