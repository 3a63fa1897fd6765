"""Epochs are raised above those that are stored, while nodes run."""

from __future__ import annotations

import asyncio
import logging

import pytest

from chinwag_server.chat.sequenced.memory import MemoryTables
from chinwag_server.mesh.coordination import Entry
from chinwag_server.mesh.epoch import Epoch, EpochRefused
from chinwag_server.mesh.membership import WrongCluster
from chinwag_server.mesh.memory_coordination import MemoryCoordination
from chinwag_server.mesh.ownership import REFUSED_RETRY_S, TTL_S
from chinwag_server.mesh.raising import Raised, highest_stored, raise_epochs
from chinwag_server.mesh.shard_keys import read_base
from chinwag_server.mesh.shards import SHARDS
from tests.mesh.mesh_sim import SimNode, World
from tests.simulation.loop import SimClock

SOON_S = 2.0
BASE_KEY = "/chinwag/shards/base"


class Mesh(World):
    """A world whose nodes confirm what they claim where the data is."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = MemoryTables()

    @property
    def operator(self) -> MemoryCoordination:
        """A client of the cluster's, as the command has it."""
        return MemoryCoordination(self.cluster, SimClock(self.loop, self.loop.process("operator")))

    def start(self, name: str, *, rate: float = 1.0) -> SimNode:
        node = super().start(name, rate=rate)
        node.confirm = self._confirm
        return node

    async def raise_epochs(self) -> Raised:
        return await raise_epochs(self.operator, self.tables.claim, cluster_id="ours")

    async def _confirm(self, epoch: Epoch) -> None:
        stored = await self.tables.claim(epoch.shard, epoch.number, epoch.nonce)
        if stored != (epoch.number, epoch.nonce):
            raise EpochRefused("a higher one is stored")


def test_nodes_own_again_at_once() -> None:
    world = Mesh()

    async def scenario() -> None:
        ann, bob = world.start("ann"), world.start("bob")
        saved = world.cluster.save()
        for shared in ((ann, bob), (ann,), (ann, bob)):
            world.share(*shared)
            await world.settled(*shared, within_s=SOON_S)
        stored = await highest_stored(world.tables.claim)
        assert stored > 2 * SHARDS

        # From before all claims: revisions begin anew.
        world.cluster.restore(saved, leases=False)
        await asyncio.sleep(TTL_S + SOON_S)
        # Some shards were claimed once only, at low revisions.
        owned = ann.owned() + bob.owned()
        assert 0 < len(owned) < SHARDS
        lines = len(world.journal)

        raised = await world.raise_epochs()
        assert (raised.stored, raised.before) == (stored, 0)
        assert raised.after + raised.revision == stored
        # Not when a refused shard would be tried again.
        assert await world.settled(ann, bob, within_s=REFUSED_RETRY_S / 4) < SOON_S
        won = [line.number for line in world.journal[lines:] if line.what == "won"]
        assert len(won) == SHARDS - len(owned)
        assert min(won) > stored
        assert await highest_stored(world.tables.claim) == max(won)

    world.run(scenario)


def test_shards_move_on_and_a_new_node_knows() -> None:
    world = Mesh()

    async def scenario() -> None:
        ann = world.start("ann")
        for shard in range(SHARDS):
            await world.tables.claim(shard, 5_000_000, b"of an etcd that is gone")
        world.share(ann)
        await asyncio.sleep(SOON_S)
        assert ann.owned() == []
        await world.raise_epochs()
        await world.settled(ann, within_s=SOON_S)
        bob = world.start("bob")
        world.share(ann, bob)
        await world.settled(ann, bob, within_s=SOON_S)
        for shard in bob.owned():
            epoch = bob.ownership.epoch_of(shard)
            assert epoch is not None
            assert epoch.number > 5_000_000 > epoch.revision
        # Keys are deleted at their revision, not at the number.
        world.share(bob)
        await world.settled(bob, within_s=SOON_S)

    world.run(scenario)


def test_what_is_high_enough_is_left() -> None:
    world = Mesh()

    async def scenario() -> None:
        assert (await world.raise_epochs()).stored == 0
        ann = world.start("ann")
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        epochs = [ann.ownership.epoch_of(shard) for shard in range(SHARDS)]
        raised = await world.raise_epochs()
        assert raised.after == raised.before == 0
        assert world.cluster.get(BASE_KEY) is None
        await asyncio.sleep(SOON_S)
        assert epochs == [ann.ownership.epoch_of(shard) for shard in range(SHARDS)]

    world.run(scenario)


def test_who_owns_goes_on_while_they_are_raised() -> None:
    world = Mesh()

    async def scenario() -> None:
        ann = world.start("ann")
        await world.tables.claim(7, 1_000_000, b"higher than the others")
        world.share(ann)
        await asyncio.sleep(SOON_S)
        assert len(ann.owned()) == SHARDS - 1
        epochs = {shard: ann.ownership.epoch_of(shard) for shard in ann.owned()}
        await world.raise_epochs()
        await world.settled(ann, within_s=SOON_S)
        assert {shard: ann.ownership.epoch_of(shard) for shard in epochs} == epochs

    world.run(scenario)


def test_they_are_raised_again_and_by_several_at_once() -> None:
    world = Mesh()

    async def scenario() -> None:
        saved = world.cluster.save()
        ann = world.start("ann")
        highest = 1_000
        for _ in range(3):
            await world.tables.claim(7, highest, b"raised")
            raised = await asyncio.gather(*(world.raise_epochs() for _ in range(4)))
            assert len({one.after for one in raised}) <= 2
            assert raised[0].after + raised[0].revision >= highest
            world.share(ann)
            await world.settled(ann, within_s=SOON_S)
            highest = await highest_stored(world.tables.claim)
            world.share()
            await asyncio.sleep(SOON_S)
            # It takes the base with it.
            world.cluster.restore(saved)
            await asyncio.sleep(TTL_S + SOON_S)

    world.run(scenario)


def test_another_mesh_is_left_alone() -> None:
    world = Mesh()

    async def scenario() -> None:
        await world.operator.create("/chinwag/cluster", b"theirs")
        await world.tables.claim(7, 1_000_000, b"higher")
        with pytest.raises(WrongCluster, match=r"'theirs'.*'ours'"):
            await world.raise_epochs()
        assert world.cluster.get(BASE_KEY) is None

    world.run(scenario)


def test_a_base_that_is_none(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert read_base(Entry(BASE_KEY, b"-5", 1, 1)) == 0
    assert "no base of epochs: b'-5'" in caplog.text
    assert read_base(None) == 0
