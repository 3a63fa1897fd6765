"""Nodes that announce themselves and follow each other, in simulations."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Awaitable, Callable, Mapping

import pytest

from chinwag_server.mesh.coordination import CoordinationUnavailable
from chinwag_server.mesh.membership import (
    TTL_S,
    Membership,
    NodeRecord,
    NodeState,
    WrongCluster,
    new_node_id,
    serving,
)
from chinwag_server.mesh.memory_coordination import MemoryCluster, MemoryCoordination
from tests.simulation.loop import Loop, SimClock

NODES = "/chinwag/nodes/"


class World:
    """A coordination, and nodes that come and go."""

    def __init__(self) -> None:
        self.loop = Loop()  # type: ignore[abstract]  # it has what asyncio uses
        self.clock = SimClock(self.loop, self.loop.process("all"))
        self.cluster = MemoryCluster(self.clock)
        self.cut: set[str] = set()
        self.told: dict[str, list[Mapping[str, NodeRecord]]] = {}

    def node(self, name: str, *, cluster_id: str = "ours") -> Membership:
        async def travel() -> None:
            await asyncio.sleep(0.001)
            if name in self.cut:
                raise CoordinationUnavailable("cut")

        told = self.told[name] = []
        return Membership(
            MemoryCoordination(self.cluster, self.clock, travel),
            self.clock,
            NodeRecord(name, f"{name}:7000", zone="z1", capacity=2.0, version="1.0"),
            cluster_id=cluster_id,
            changed=told.append,
        )

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        async def whole() -> None:
            await scenario()

        self.loop.run(whole(), until=3600)
        assert self.loop.errors == []


def test_a_record_comes_back() -> None:
    record = NodeRecord("ann", "10.0.0.1:7000", "z1", 2.5, "1.2.3", NodeState.DRAINING)
    assert NodeRecord.from_json(record.to_json()) == record


def test_a_newer_record_can_be_read() -> None:
    record = NodeRecord("ann", "a:1")
    newer = record.to_json().replace(b"{", b'{"colour": "red", ', 1)
    assert NodeRecord.from_json(newer) == record


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"7",
        b"{}",
        b"\xff",
        NodeRecord("a", "a:1").to_json().replace(b"starting", b"resting"),
        dataclasses.replace(NodeRecord("a", "a:1"), capacity=0.0).to_json(),
        dataclasses.replace(NodeRecord("a", "a:1"), capacity=float("nan")).to_json(),
    ],
)
def test_what_is_no_record_is_said(value: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        NodeRecord.from_json(value)


def test_ids_are_drawn() -> None:
    draw = random.Random(1).randbytes
    assert new_node_id(draw) != new_node_id(draw)


def test_nodes_see_each_other_come_serve_drain_and_go() -> None:
    world = World()

    async def scenario() -> None:
        ann, bob = world.node("ann"), world.node("bob")
        await ann.start()
        assert dict(ann.nodes) == {"ann": ann.node}
        assert ann.node.state is NodeState.STARTING
        await bob.start()
        assert set(bob.nodes) == {"ann", "bob"}
        await ann.set_state(NodeState.SERVING)
        await bob.set_state(NodeState.SERVING)
        await asyncio.sleep(0.1)
        assert dict(ann.nodes) == dict(bob.nodes) == {"ann": ann.node, "bob": bob.node}
        assert serving(bob.nodes) == {"ann": 2.0, "bob": 2.0}
        await bob.set_state(NodeState.DRAINING)
        await asyncio.sleep(0.1)
        assert serving(ann.nodes) == {"ann": 2.0}
        assert set(ann.nodes) == {"ann", "bob"}
        await bob.stop()
        await asyncio.sleep(0.1)
        assert set(ann.nodes) == {"ann"}
        assert world.told["ann"][-1] == ann.nodes
        await ann.stop()
        assert world.cluster.snapshot(NODES).entries == ()

    world.run(scenario)


def test_a_node_stays_for_as_long_as_it_lives() -> None:
    world = World()

    async def scenario() -> None:
        ann = world.node("ann")
        await ann.start()
        before = world.cluster.snapshot(NODES)
        await asyncio.sleep(20 * TTL_S)
        assert world.cluster.snapshot(NODES) == before
        assert len(world.told["ann"]) == 1
        await ann.stop()

    world.run(scenario)


def test_a_node_that_is_cut_off_goes_and_comes_back() -> None:
    world = World()

    async def scenario() -> None:
        ann, bob = world.node("ann"), world.node("bob")
        await ann.start()
        await bob.start()
        world.cut.add("bob")
        await asyncio.sleep(TTL_S / 2)
        assert set(ann.nodes) == {"ann", "bob"}
        await asyncio.sleep(TTL_S / 2 + 1)
        assert set(ann.nodes) == {"ann"}
        # It knows no better.
        assert set(bob.nodes) == {"ann", "bob"}
        with pytest.raises(CoordinationUnavailable):
            await bob.set_state(NodeState.SERVING)
        world.cut.clear()
        await asyncio.sleep(2)
        # With what it could not say.
        assert serving(ann.nodes) == {"bob": 2.0}
        assert dict(ann.nodes) == dict(bob.nodes)
        await bob.stop()
        await ann.stop()

    world.run(scenario)


@pytest.mark.parametrize("how", ["key", "lease", "restored", "restored without leases"])
def test_a_registration_that_is_lost_is_made_again(how: str) -> None:
    world = World()

    async def scenario() -> None:
        ann = world.node("ann")
        empty = world.cluster.save()
        await ann.start()
        (entry,) = world.cluster.snapshot(NODES).entries
        if how == "key":
            world.cluster.delete(entry.key)
        elif how == "lease":
            world.cluster.revoke(entry.lease)
        elif how == "restored":
            world.cluster.restore(empty)
        else:
            world.cluster.restore(world.cluster.save(), leases=False)
        await asyncio.sleep(2)
        assert dict(ann.nodes) == {"ann": ann.node}
        (again,) = world.cluster.snapshot(NODES).entries
        assert again.lease != entry.lease or how == "restored"
        # And it is kept.
        await asyncio.sleep(3 * TTL_S)
        assert world.cluster.snapshot(NODES).entries == (again,)
        await ann.stop()

    world.run(scenario)


def test_two_clusters_do_not_share_a_prefix() -> None:
    world = World()

    async def scenario() -> None:
        ann, eve = world.node("ann"), world.node("eve", cluster_id="theirs")
        await ann.start()
        with pytest.raises(WrongCluster, match=r"'ours'.*'theirs'.*prefix"):
            await eve.start()
        assert set(ann.nodes) == {"ann"}
        await ann.stop()
        # Also later: the prefix has an owner for good.
        with pytest.raises(WrongCluster):
            await eve.start()

    world.run(scenario)


def test_nobody_answers_a_start() -> None:
    world = World()

    async def scenario() -> None:
        world.cut.add("ann")
        with pytest.raises(CoordinationUnavailable):
            await world.node("ann").start()

    world.run(scenario)


def test_what_is_no_node_is_passed_over() -> None:
    world = World()

    async def scenario() -> None:
        world.cluster.write(f"{NODES}eve", b"hello", 0)
        ann = world.node("ann")
        await ann.start()
        assert set(ann.nodes) == {"ann"}
        await ann.stop()

    world.run(scenario)


def test_a_listener_that_fails_does_not_stop_the_following() -> None:
    world = World()

    async def scenario() -> None:
        ann = world.node("ann")
        ann._changed = lambda nodes: 1 / 0  # type: ignore[assignment]
        await ann.start()
        await ann.set_state(NodeState.SERVING)
        await asyncio.sleep(0.1)
        assert serving(ann.nodes) == {"ann": 2.0}
        await ann.stop()

    world.run(scenario)
