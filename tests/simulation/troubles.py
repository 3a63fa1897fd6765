"""What is done to the mesh while people chat, and the calm after it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from chinwag_server.chat.sequenced import schema
from chinwag_server.chat.sequenced.tables import Delete, Put
from chinwag_server.mesh import shards
from chinwag_server.mesh.coordination import CoordinationUnavailable
from chinwag_server.mesh.membership import NodeState
from chinwag_server.mesh.memory_coordination import Saved
from tests.simulation.replicas import Faults
from tests.simulation.world import TTL_S, Node

if TYPE_CHECKING:
    from tests.simulation.asking import Asking

GRACE_S = 12.0  # for a node that is drained


class Troubles:
    """Each trouble is a coroutine on a node, and is over when it returns. `flavours.TROUBLES` says
    which are made when."""

    def __init__(self, scenario: Asking) -> None:
        self._scenario = scenario
        self._world = scenario.world
        self._rng = scenario.rng
        self._note = scenario.note
        self._running: set[asyncio.Task[None]] = set()
        self._restoring = False
        self._saved: Saved | None = None
        self._died: str | None = None

    async def make(self) -> None:
        """One after the other, until the unrest is over and all of them are."""
        self._world.tables.on_write = self._written
        flavour = self._scenario.flavour
        while self._scenario.unrest:
            await asyncio.sleep(self._rng.expovariate(1 / flavour.unrest_s))
            node = self._victim()
            trouble = getattr(self, f"_{self._rng.choice(flavour.troubles)}")
            self._start(trouble(node))
        self._world.tables.on_write = lambda _name, _batch: 0
        while self._running:
            await asyncio.wait(self._running)
        self._calm()

    def _start(self, trouble: Coroutine[Any, Any, None]) -> None:
        task = self._world.loop.create_task(trouble)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _written(self, name: str, batch: Sequence[Put | Delete]) -> int:
        """Now and then somebody stops right when entries are under way, or their rows, and has
        reached some replicas alone: then most depends on it."""
        flavour = self._scenario.flavour
        if batch[0].table.name not in flavour.ambushed:
            return 0
        if flavour.name == "alone":
            return self._in_turn(name, batch)
        if self._rng.random() >= flavour.ambush:
            return 0
        self._stop_soon(name)
        return self._rng.choice(flavour.withheld)

    def _in_turn(self, name: str, batch: Sequence[Put | Delete]) -> int:
        """Of two owners one dies while some entries are under way, and the next one of its first
        entry."""
        if isinstance(batch[0], Delete):
            return 0
        if self._died is None and len(batch) > 1:
            self._died = name
            self._stop_soon(name)
            return 3
        if self._died not in (None, name):
            self._died = None
            node = next(node for node in self._world.nodes if node.name == name)
            self._world.tables.at(
                self._rng.uniform(0.2, 0.6), lambda: self._start(self._kill(node))
            )
        return 0

    def _stop_soon(self, name: str) -> None:
        flavour, delay = self._scenario.flavour, self._world.tables.delay
        node = next(node for node in self._world.nodes if node.name == name)
        trouble = getattr(self, f"_{self._rng.choice(flavour.stops)}")
        if flavour.stop_s is None:
            after_s = self._rng.choice((0, delay(), 2 * delay()))
        else:
            after_s = self._rng.uniform(*flavour.stop_s)
        self._world.tables.at(after_s, lambda: self._start(trouble(node)))

    def _victim(self) -> Node:
        """More often than not one that owns a channel."""
        nodes = self._world.nodes
        owners = self._owners(self._rng.choice(list(self._scenario.channels.values())))
        return self._rng.choice(owners if owners and self._rng.random() < 0.7 else nodes)

    def _owners(self, channel_id: str) -> list[Node]:
        shard = shards.shard_of(channel_id)
        return [
            node
            for node in self._world.nodes
            if node.up and node.ownership.epoch_of(shard) is not None
        ]

    def _calm(self) -> None:
        world = self._world
        world.tables.faults = Faults()
        world.tables.down.clear()
        world.tables.cut_off.clear()
        world.raise_epochs()
        for node in world.nodes:
            node.coordination_cut = False
            self.start(node)
        self._note("world", "is calm")

    # --- processes ---

    def stop(self, node: Node) -> None:
        """Nothing of its process runs any more."""
        if node.up:
            assert node.process is not None
            self._world.loop.kill(node.process)

    @staticmethod
    def start(node: Node) -> None:
        """There is a process of it."""
        if not node.up:
            node.start()

    async def kill_owner(self, channel_id: str) -> None:
        """Whoever owns a channel dies, and comes back."""
        for node in self._owners(channel_id):
            await self._kill(node)

    async def _kill(self, node: Node) -> None:
        if not node.up:
            return
        self._note(node.name, "is killed")
        self.stop(node)
        await asyncio.sleep(self._rng.uniform(*self._scenario.flavour.away_s))
        self.start(node)

    async def _pause(self, node: Node) -> None:
        if not node.runs:
            return
        # Shorter than a lease, about as long, or much longer.
        seconds = self._rng.choice((self._rng.uniform(0.05, 2), self._rng.uniform(2, 9)))
        await self._stand_still(node, seconds)

    async def _stand_still(
        self, node: Node, seconds: float, before_it_goes_on: Callable[[], None] = lambda: None
    ) -> None:
        process = node.process
        if process is None or not node.runs:
            return
        self._note(node.name, f"stands still for {seconds:.1f} s")
        self._world.loop.pause(process)
        await asyncio.sleep(seconds)
        before_it_goes_on()
        self._world.loop.resume(process)
        self._note(node.name, "goes on")

    async def _pause_long(self, node: Node) -> None:
        """For longer than a lease lasts."""
        await self._stand_still(node, self._rng.uniform(TTL_S + 1, TTL_S + 5))

    async def _wake(self, node: Node) -> None:
        """It stands still until others own its shards, and as it goes on these do not reach
        etcd."""
        await self._stand_still(node, self._rng.uniform(TTL_S + 1, TTL_S + 2), self._cut_owners)

    def _cut_owners(self) -> None:
        for channel_id in self._scenario.channels.values():
            for owner in self._owners(channel_id):
                if not owner.coordination_cut and owner.runs:
                    self._start(self._no_etcd(owner))

    async def _leave(self, node: Node) -> None:
        """It is drained, and in the midst of it does not reach etcd."""
        self._start(self._drain(node))
        await asyncio.sleep(self._rng.uniform(0.01, 0.3))
        await self._no_etcd(node)

    async def _drain(self, node: Node) -> None:
        """All its shards go to others, and come back."""
        if not node.up:
            return
        process = node.process
        self._note(node.name, "is drained")
        await self._within(node, self._set_state(node, NodeState.DRAINING), 5)
        await asyncio.sleep(self._rng.uniform(0.5, 6))
        if node.process is process and node.up:
            self._note(node.name, "serves again")
            await self._within(node, self._set_state(node, NodeState.SERVING), 5)

    async def _restart(self, node: Node) -> None:
        """As an upgrade does: drained, stopped, and another process in its place."""
        if not node.up:
            return
        process = node.process
        self._note(node.name, "is restarted")
        await self._within(node, node.leave(GRACE_S), GRACE_S + 5)
        if node.process is process and node.up:
            self.stop(node)
            self._note(node.name, "has left")
            await asyncio.sleep(self._rng.uniform(0.05, 1))
            self.start(node)

    async def _within(self, node: Node, work: Coroutine[Any, Any, None], seconds: float) -> None:
        """Something that the node's process does; it may die or pause in it."""
        with self._world.loop.inside(node.process):
            task = self._world.loop.create_task(work)
        await asyncio.wait({task}, timeout=seconds)

    @staticmethod
    async def _set_state(node: Node, state: NodeState) -> None:
        # What cannot be said now is said with the next registration.
        with contextlib.suppress(CoordinationUnavailable):
            await node.membership.set_state(state)

    # --- what they stand on ---

    async def _replica(self, _node: Node, longest_s: float = 8.0) -> None:
        down = self._world.tables.down
        if down:
            return
        place = self._rng.randrange(3)
        down.add(place)
        self._note("tables", f"replica {place} is down")
        await asyncio.sleep(self._rng.uniform(longest_s / 16, longest_s))
        down.discard(place)
        self._note("tables", f"replica {place} is back")

    async def _replica_long(self, node: Node) -> None:
        await self._replica(node, 40.0)

    async def _no_etcd(self, node: Node) -> None:
        node.coordination_cut = True
        self._note(node.name, "does not reach etcd")
        await asyncio.sleep(self._rng.uniform(0.5, 8))
        node.coordination_cut = False

    async def _no_tables(self, node: Node) -> None:
        self._world.tables.cut_off.add(node.name)
        self._note(node.name, "does not reach the tables")
        await asyncio.sleep(self._rng.uniform(0.5, 8))
        self._world.tables.cut_off.discard(node.name)

    async def _restore(self, node: Node) -> None:
        """etcd goes back to an older copy. It serves nobody before all leases are over that it may
        have given since: one TTL after the old one stopped. Meanwhile somebody else may have
        owned what it says the node owns."""
        if self._restoring:
            return
        self._restoring = True
        world, rng = self._world, self._rng
        flavour = self._scenario.flavour
        alone = rng.choice(flavour.alone)
        process = node.process
        if alone == "cut off":
            node.coordination_cut = True
        elif alone == "paused" and process is not None:
            world.loop.pause(process)
        if self._saved is None or rng.random() < 0.6:
            self._saved = world.etcd.save()
        saved = self._saved  # perhaps once more the one of last time
        self._note("etcd", f"is saved at {saved.revision}; {node.name} is {alone}")
        if alone == "killed":
            self._start(self._kill(node))
        await asyncio.sleep(rng.uniform(0, 6))
        world.etcd_down = True
        await asyncio.sleep(TTL_S + rng.uniform(0.01, 2))
        leases = rng.random() < flavour.with_leases
        world.etcd.restore(saved, leases=leases)
        world.etcd_down = False
        self._note("etcd", f"is restored, {'with' if leases else 'without'} leases")
        await asyncio.sleep(rng.choice((0, rng.uniform(0, 2))))
        if alone == "cut off":
            node.coordination_cut = False
        elif alone == "paused" and process is not None:
            world.loop.resume(process)
        await asyncio.sleep(rng.uniform(0, 12))
        world.raise_epochs()
        self._restoring = False

    async def _repeat(self, node: Node) -> None:
        """An owner dies while its entries are under way. etcd is restored to before its claim, and
        has counted to just below it when the next one claims: epochs repeat."""
        world, rng = self._world, self._rng
        if self._restoring or not node.runs:
            return
        self._restoring = True
        saved = world.etcd.save()
        # Somebody else owns what it had, under epochs that the copy does not know.
        await self._stand_still(node, TTL_S + 2.0)
        epochs = [
            epoch.number
            for other in world.nodes
            if other is not node and other.up
            for epoch in map(other.ownership.epoch_of, range(shards.SHARDS))
            if epoch is not None and epoch.revision > saved.revision
        ]
        world.etcd_down = True
        flavour = self._scenario.flavour
        flavour.ambush, flavour.ambushed, flavour.withheld = 1.0, (schema.ENTRIES.name,), (3,)
        flavour.stops = ("kill",)
        await asyncio.sleep(0.6)
        flavour.ambush = 0.0
        await asyncio.sleep(TTL_S + 0.5)
        world.etcd.restore(saved, leases=False)
        if epochs:
            # Before shards are claimed, the nodes write what they are.
            below = rng.choice(epochs) - rng.randint(2, 5)
            while world.etcd.snapshot("").revision < below:
                world.etcd.write("/elsewhere", b"", 0)
        world.etcd_down = False
        self._note("etcd", f"is restored to {saved.revision}, and epochs {epochs} may repeat")
        await asyncio.sleep(rng.uniform(6, 12))
        world.raise_epochs()
        self._restoring = False
