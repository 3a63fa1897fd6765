"""Membership and ownership of two nodes on a real etcd."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from chinwag_server.clock import SystemClock
from chinwag_server.mesh.epoch import Epoch
from chinwag_server.mesh.etcd import EtcdCoordination
from chinwag_server.mesh.membership import (
    Membership,
    NodeRecord,
    NodeState,
    WrongCluster,
    new_node_id,
    serving,
)
from chinwag_server.mesh.ownership import Ownership, Owning
from chinwag_server.mesh.shards import SHARDS, owners_of
from tests.mesh.etcd_fixtures import Connect
from tools.engines.etcd import Etcd

TTL_S, MARGIN_S = 3, 1.0
WAIT_S = 20.0


class MeshNode:
    """A node as it will be: membership tells ownership who serves."""

    def __init__(self, coordination: EtcdCoordination) -> None:
        self.id = new_node_id(secrets.token_bytes)
        self.coordination = coordination
        clock = SystemClock()
        self.lost: list[Epoch] = []
        self.ownership = Ownership(
            coordination,
            clock,
            secrets.token_bytes,
            self.id,
            Owning(lost=self.lost.append),
            ttl_s=TTL_S,
            margin_s=MARGIN_S,
        )
        self.membership = Membership(
            coordination,
            clock,
            NodeRecord(self.id, "127.0.0.1:7000"),
            cluster_id="ours",
            changed=lambda nodes: self.ownership.assign(serving(nodes)),
            ttl_s=TTL_S,
            margin_s=MARGIN_S,
        )

    async def start(self) -> None:
        self.ownership.start()
        await self.membership.start()
        await self.membership.set_state(NodeState.SERVING)

    async def drain(self) -> None:
        await self.membership.set_state(NodeState.DRAINING)
        await self.ownership.stop(WAIT_S)
        await self.membership.stop()

    async def die(self) -> None:
        """Without a word to anybody."""
        await self.coordination.close()
        tasks = [*self.membership._tasks, *self.ownership._tasks, *self.ownership._busy.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


StartNode = Callable[[], Awaitable[MeshNode]]


@pytest.fixture
async def start_node(empty_etcd: Etcd, connect: Connect) -> AsyncIterator[StartNode]:
    nodes: list[MeshNode] = []

    async def start() -> MeshNode:
        node = MeshNode(connect(empty_etcd.endpoint))
        nodes.append(node)
        await node.start()
        return node

    yield start
    for node in nodes:
        await node.die()


async def settled(*nodes: MeshNode) -> float:
    """Waits until each owns its share and no two own one; how long that took, in seconds."""
    start = time.monotonic()
    owners = owners_of({node.id: 1.0 for node in nodes})
    async with asyncio.timeout(WAIT_S):
        while True:
            pairs = [(shard, node.id) for node in nodes for shard in node.ownership.owned()]
            owned = dict(pairs)
            assert len(owned) == len(pairs), "a shard has two owners"
            if [owned.get(shard) for shard in range(SHARDS)] == owners:
                return time.monotonic() - start
            await asyncio.sleep(0.02)


async def test_shards_move_as_nodes_come_drain_and_die(start_node: StartNode) -> None:
    ann = await start_node()
    await settled(ann)
    first = {shard: ann.ownership.epoch_of(shard) for shard in range(SHARDS)}

    bob = await start_node()
    await settled(ann, bob)
    for shard in bob.ownership.owned():
        old, new = first[shard], bob.ownership.epoch_of(shard)
        assert old is not None
        assert new is not None
        assert new.number > old.number
        assert not old.alive()

    await bob.drain()
    assert await settled(ann) < TTL_S
    assert bob.ownership.owned() == []

    eve = await start_node()
    await settled(ann, eve)
    await ann.die()
    took_s = await settled(eve)
    assert took_s > TTL_S * 2 / 3 - 0.5


async def test_a_frozen_etcd_ends_all_epochs_and_they_come_again(
    empty_etcd: Etcd, start_node: StartNode
) -> None:
    ann = await start_node()
    await settled(ann)
    first = ann.ownership.epoch_of(7)
    assert first is not None
    empty_etcd.freeze()
    try:
        await asyncio.sleep(TTL_S - MARGIN_S + 0.2)
        assert ann.ownership.owned() == []
        assert len(ann.lost) == SHARDS
        await asyncio.sleep(MARGIN_S)
    finally:
        empty_etcd.thaw()
    await settled(ann)
    again = ann.ownership.epoch_of(7)
    assert again is not None
    assert again.number > first.number


async def test_another_cluster_on_the_same_prefix_is_refused(
    empty_etcd: Etcd, start_node: StartNode, connect: Connect
) -> None:
    await start_node()
    stranger = Membership(
        connect(empty_etcd.endpoint),
        SystemClock(),
        NodeRecord("eve", "127.0.0.1:7001"),
        cluster_id="theirs",
    )
    with pytest.raises(WrongCluster, match="'ours'"):
        await stranger.start()
