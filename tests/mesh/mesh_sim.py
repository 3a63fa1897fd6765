"""Nodes that own shards, as processes of a simulation over one coordination in memory."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import sys
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from chinwag_server.mesh import shards
from chinwag_server.mesh.coordination import CoordinationUnavailable
from chinwag_server.mesh.epoch import Epoch
from chinwag_server.mesh.memory_coordination import MemoryCluster, MemoryCoordination
from chinwag_server.mesh.ownership import Ownership, Owning
from chinwag_server.mesh.shards import owners_of
from tests.simulation.loop import Loop, Process, SimClock

CALL_S = 3.0  # after which a call over a cut way fails


@dataclass(slots=True, frozen=True)
class Happened:
    """A line of a world's journal; `when` is the world's time."""

    when: float
    node: str
    what: str  # won, hand over, lost, delete
    shard: int
    number: int


class _Client(MemoryCoordination):
    """Writes deletions into the journal, as they go out."""

    def __init__(self, node: SimNode) -> None:
        super().__init__(node.world.cluster, node.clock, node.travel)
        self._node = node

    async def delete_if(self, key: str, create_revision: int, value: bytes) -> None:
        shard = int(key.rpartition("/")[2])
        self._node.note("delete", shard, create_revision)
        self._node.check_not_owned(shard)
        await super().delete_if(key, create_revision, value)


class SimNode:
    """One process that owns shards.

    Attributes:
        cut: Nothing passes between it and the coordination.
        lose_answers: So many answers are lost from now on.
        delay_s: Each way.
        confirm: What its owner does to confirm an epoch.
        hand_over_s: What a hand-over takes.
    """

    def __init__(self, world: World, name: str, process: Process) -> None:
        self.world = world
        self.name = name
        self.process = process
        self.clock = SimClock(world.loop, process)
        self.cut = False
        self.lose_answers = 0
        self.delay_s = 0.001
        self.confirm: Callable[[Epoch], Awaitable[None]] | None = None
        self.hand_over_s = 0.0
        self._way_back = False
        self.coordination = _Client(self)
        self.ownership = Ownership(
            self.coordination,
            self.clock,
            world.random.randbytes,
            name,
            Owning(self._confirm, self._won, self._hand_over, self._lost),
        )

    @property
    def runs(self) -> bool:
        """Neither dead nor paused."""
        return self.process.alive and not self.process.paused

    def owned(self) -> list[int]:
        return self.ownership.owned()

    def note(self, what: str, shard: int, number: int) -> None:
        self.world.journal.append(Happened(self.world.loop.now, self.name, what, shard, number))

    def check_not_owned(self, shard: int) -> None:
        assert self.ownership.epoch_of(shard) is None, f"{shard} is deleted while it is owned"

    async def travel(self) -> None:
        await asyncio.sleep(self.delay_s)
        if self.cut:
            await asyncio.sleep(CALL_S)
            raise CoordinationUnavailable("cut")
        self._way_back = not self._way_back
        if self.lose_answers and not self._way_back:
            self.lose_answers -= 1
            raise CoordinationUnavailable("the answer is lost")

    async def _confirm(self, epoch: Epoch) -> None:
        if self.confirm is not None:
            await self.confirm(epoch)

    def _won(self, epoch: Epoch) -> None:
        assert epoch.alive()
        self.note("won", epoch.shard, epoch.number)
        self.world.check(epoch.shard)

    async def _hand_over(self, epoch: Epoch) -> None:
        assert epoch.alive()
        self.note("hand over", epoch.shard, epoch.number)
        await asyncio.sleep(self.hand_over_s)

    def _lost(self, epoch: Epoch) -> None:
        assert not epoch.alive()
        self.note("lost", epoch.shard, epoch.number)


class World:
    """All nodes, and what happened."""

    def __init__(self, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.loop = Loop()  # type: ignore[abstract]  # it has what asyncio uses
        self.cluster = MemoryCluster(SimClock(self.loop, self.loop.process("etcd")))
        self.nodes: list[SimNode] = []
        self.journal: list[Happened] = []

    def start(self, name: str, *, rate: float = 1.0) -> SimNode:
        """A new process that knows nothing of the one before it. `share` lets it own."""
        process = self.loop.process(name, rate=rate)
        node = SimNode(self, name, process)
        self.nodes.append(node)
        with self.loop.inside(process):
            node.ownership.start()
        return node

    def share(self, *nodes: SimNode) -> None:
        """Tells all that live that these nodes serve."""
        for node in self.nodes:
            if node.process.alive:
                self.tell(node, *nodes)

    def tell(self, node: SimNode, *nodes: SimNode) -> None:
        """Tells one node that these serve."""
        with self.loop.inside(node.process):
            node.ownership.assign({serving.name: 1.0 for serving in nodes})

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        async def whole() -> None:
            await scenario()

        # Records that pytest keeps would keep what they speak of.
        logging.disable(logging.CRITICAL)
        try:
            self.loop.run(whole(), until=3600)
            assert self.loop.errors == []
        finally:
            self._bury()
            logging.disable(logging.NOTSET)

    def _bury(self) -> None:
        """Throws away what still waits, where its last words are not heard."""
        hook = sys.unraisablehook
        sys.unraisablehook = lambda _unraisable: None
        try:
            self.nodes, self.loop = [], Loop()  # type: ignore[abstract]
            self.cluster = MemoryCluster(SimClock(self.loop, self.loop.process("etcd")))
            with warnings.catch_warnings():
                # Of a process that died before it began.
                warnings.simplefilter("ignore", RuntimeWarning)
                gc.collect()
        finally:
            sys.unraisablehook = hook

    def check(self, shard: int) -> None:
        """No two own it. The paused may think they do, when they look: by their clock."""
        owners = [
            node.name
            for node in self.nodes
            if node.process.alive and node.ownership.epoch_of(shard) is not None
        ]
        assert len(owners) <= 1, f"shard {shard} is owned by {owners} at {self.loop.now}"

    def check_all(self) -> None:
        """`check` of all shards."""
        for shard in range(shards.SHARDS):
            self.check(shard)

    async def settled(self, *nodes: SimNode, within_s: float) -> float:
        """Waits until each of these nodes owns its share; how long that took, in seconds."""
        start = self.loop.now
        owners = owners_of({node.name: 1.0 for node in nodes})
        while any(owners[s] != node.name for node in nodes for s in node.owned()) or sum(
            len(node.owned()) for node in nodes
        ) != len(owners):
            assert self.loop.now < start + within_s, [len(node.owned()) for node in nodes]
            await asyncio.sleep(0.05)
        self.check_all()
        return self.loop.now - start

    def of(self, node: SimNode, what: str) -> list[Happened]:
        return [line for line in self.journal if (line.node, line.what) == (node.name, what)]
