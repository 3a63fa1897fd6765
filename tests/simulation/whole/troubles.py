"""What is done to whole nodes, to what is between them, and to devices' connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.simulation.troubles import Troubles
from tests.simulation.whole.node import WholeNode
from tests.simulation.whole.shared import Weather
from tests.simulation.world import Node

if TYPE_CHECKING:
    from tests.simulation.whole.scenario import WholeScenario

# Longer than heads are repeated, and than a link is silent before it is given up.
OUT_S = (8.5, 14.0)


class WholeTroubles(Troubles):
    """Each is a coroutine on a node, and is over when it returns: see `whole.flavours`."""

    def __init__(self, scenario: WholeScenario) -> None:
        super().__init__(scenario)
        self._whole = scenario
        self._between = scenario.world

    # --- nodes ---

    def stop(self, node: Node) -> None:
        assert isinstance(node, WholeNode)
        if not node.up:
            return
        ends = [one for one in self._between.connections if one.is_of(node)]
        super().stop(node)
        node.killed()
        # As a machine that is gone, or as a process of which the machine tells.
        told = self._rng.random() < 0.8
        for connection in ends:
            connection.break_off(self._rng.uniform(0, 0.3) if told else None, None)
        if told:
            for other in self._between.wholes:
                if other is not node and other.up:
                    self._between.network.cut(node.meshed.node_id, other.meshed.node_id)

    async def _pause_long(self, node: Node) -> None:
        """For longer than its sessions and links last."""
        if node.runs:
            await self._stand_still(node, self._rng.uniform(6, 11))

    # --- between nodes ---

    def _other(self, node: Node) -> Node:
        return self._rng.choice([other for other in self._world.nodes if other is not node])

    async def _link_cut(self, node: Node) -> None:
        await self._cut(node, self._rng.uniform(0.2, 4))

    async def _link_out(self, node: Node) -> None:
        await self._cut(node, self._rng.uniform(*OUT_S))

    async def _cut(self, node: Node, seconds: float) -> None:
        other, cut = self._other(node), self._between.links.cut
        ways = {(node.name, other.name), (other.name, node.name)}
        if self._rng.random() < 0.3:
            ways.pop()
        if ways & cut:
            return
        cut |= ways
        if self._rng.random() < 0.3:
            for one, two in ((a, b) for a in self._between.wholes for b in self._between.wholes):
                if (one.name, two.name) in ways and one.up and two.up:
                    self._between.network.cut(one.meshed.node_id, two.meshed.node_id)
        self._note(node.name, f"and {other.name} are cut off for {seconds:.1f} s: {sorted(ways)}")
        await asyncio.sleep(seconds)
        cut -= ways
        self._note(node.name, f"and {other.name} reach each other")

    async def _link_slow(self, node: Node) -> None:
        other, slow = self._other(node), self._between.links.slow
        seconds = self._rng.uniform(0.2, 2.5)
        for way in ((node.name, other.name), (other.name, node.name)):
            slow[way] = seconds
        self._note(node.name, f"and {other.name} are {seconds:.1f} s apart")
        await asyncio.sleep(self._rng.uniform(1, 10))
        for way in ((node.name, other.name), (other.name, node.name)):
            slow.pop(way, None)

    # --- Redis ---

    async def _wipe(self, _node: Node) -> None:
        self._note("redis", "is wiped")
        self._between.redis.wipe()

    async def _fail_over(self, _node: Node) -> None:
        self._note("redis", "fails over")
        self._between.redis.fail_over()

    async def _away(self, _node: Node) -> None:
        redis = self._between.redis
        if redis.away:
            return
        self._note("redis", "is away")
        redis.go(True)
        await asyncio.sleep(self._rng.uniform(0.3, 9))
        if self._rng.random() < 0.4:
            redis.wipe()
            self._note("redis", "is there again, and empty")
        redis.go(False)
        self._note("redis", "is there again")

    async def _no_redis(self, node: Node) -> None:
        self._between.redis.cut_off.add(node.name)
        self._note(node.name, "does not reach Redis")
        await asyncio.sleep(self._rng.uniform(0.3, 9))
        self._between.redis.cut_off.discard(node.name)
        self._note(node.name, "reaches Redis")

    async def _no_bus(self, _node: Node) -> None:
        self._between.redis.hub.lose()
        before, self._between.weather.bus_lost = self._between.weather.bus_lost, 1.0
        await asyncio.sleep(self._rng.uniform(0.2, 3))
        self._between.weather.bus_lost = min(before, 0.9)

    # --- devices ---

    async def _break_off(self, _node: Node) -> None:
        connection = self._rng.choice(self._whole.devices).connection
        if connection is not None:
            connection.break_off(self._rng.uniform(0, 1), self._rng.uniform(0, 2))

    async def _half_open(self, _node: Node) -> None:
        """The node goes on to write to a device that has gone."""
        connection = self._rng.choice(self._whole.devices).connection
        if connection is not None:
            connection.break_off(self._rng.uniform(0, 1), None)

    async def _move(self, node: Node) -> None:
        self._rng.choice(self._whole.devices).move(node.name)

    async def _crash(self, _node: Node) -> None:
        self._rng.choice(self._whole.devices).crash()

    # --- the end ---

    def _calm(self) -> None:
        between = self._between
        between.redis.cut_off.clear()
        between.redis.go(False)
        between.links.cut.clear()
        between.links.slow.clear()
        between.weather.become(Weather())
        super()._calm()
