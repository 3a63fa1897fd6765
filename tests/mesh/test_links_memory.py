"""The links in memory keep the contract, and fail as a simulation tells them to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from chinwag_server.mesh.links import Unreachable
from chinwag_server.mesh.memory_links import MemoryLinks, MemoryNetwork
from tests.mesh.bus_contract import until
from tests.mesh.links_contract import LinksContract, Node, connect
from tests.simulation.loop import Loop


class Memory:
    """Nodes of one network."""

    def __init__(self, network: MemoryNetwork | None = None) -> None:
        self.network = network or MemoryNetwork()
        self.nodes: list[Node] = []

    async def node(self, node_id: str, **options: int) -> Node:
        node = Node(node_id)
        node.links = MemoryLinks(self.network, node_id, node, **options)
        node.links.on_change(lambda other, up: node.changes.append((other, up)))
        await node.links.start()
        self.nodes.append(node)
        return node

    def address(self, node: Node) -> str:
        return node.node_id

    def cut(self, first: Node, second: Node) -> None:
        self.network.cut(first.node_id, second.node_id)


@pytest.fixture
async def mesh() -> AsyncIterator[Memory]:
    memory = Memory()
    yield memory
    for node in memory.nodes:
        await node.links.stop()


class TestMemoryLinks(LinksContract):
    pass


class Travel:
    """What a simulation does with frames."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.lost: set[tuple[str, str]] = set()
        self.stuck: set[tuple[str, str]] = set()

    async def __call__(self, from_id: str, to_id: str) -> None:
        await asyncio.sleep(self.rng.uniform(0.001, 0.05))
        if (from_id, to_id) in self.lost:
            raise Unreachable("lost", sent=True)
        if (from_id, to_id) in self.stuck:
            await asyncio.Event().wait()


class World:
    """Two nodes, each a process, in virtual time."""

    def __init__(self) -> None:
        self.loop = Loop()  # type: ignore[abstract]  # nothing asks for the rest
        rng = random.Random(1)
        self.travel = Travel(rng)
        self.memory = Memory(MemoryNetwork(self.travel, rng))
        self.processes = {name: self.loop.process(name) for name in "ab"}
        self.here: Node
        self.there: Node

    async def start(self) -> None:
        nodes = []
        for name, process in self.processes.items():
            with self.loop.inside(process):
                nodes.append(await self.loop.create_task(self.memory.node(name)))
        self.here, self.there = nodes
        for node in nodes:
            with self.loop.inside(self.processes[node.node_id]):
                node.links.follow({name: name for name in "ab"})
        await connect(self.memory, *nodes)

    async def ask(self, method: str, timeout_s: float = 10.0) -> bool | None:
        """Asks from "a"; None: it was answered, else whether it was sent."""
        with self.loop.inside(self.processes["a"]):
            asking = self.loop.create_task(self.here.ask(self.there, method, timeout_s=timeout_s))
        try:
            await asking
        except Unreachable as error:
            return error.sent
        return None


Story = Callable[[World], Awaitable[None]]


def run(story: Story) -> list[tuple[float, str, bool]]:
    """Runs a story; when which links changed, in virtual time."""
    world = World()
    changes: list[tuple[float, str, bool]] = []

    async def tell() -> None:
        await world.start()
        for node in (world.here, world.there):
            node.links.on_change(lambda other, up: changes.append((world.loop.now, other, up)))
        await story(world)

    world.loop.run(tell(), until=600.0)
    assert not world.loop.errors
    return changes


async def settle(world: World) -> None:
    """Until both links are up."""
    await until(lambda: world.here.links.is_up("b") and world.there.links.is_up("a"), "both are up")


def test_a_paused_process_is_noticed_and_linked_again() -> None:
    async def story(world: World) -> None:
        asking = world.loop.create_task(world.ask("wait"))
        await asyncio.sleep(1)
        world.loop.pause(world.processes["b"])
        began = world.loop.now
        assert await asking is True
        assert 2 < world.loop.now - began < 3.5
        assert await world.ask("echo") is False
        await asyncio.sleep(5)
        world.loop.resume(world.processes["b"])
        await settle(world)
        assert await world.ask("echo") is None
        await asyncio.sleep(5)
        assert world.there.at_work == 0

    run(story)


def test_a_short_pause_is_not() -> None:
    async def story(world: World) -> None:
        asking = world.loop.create_task(world.ask("turn"))
        world.loop.pause(world.processes["b"])
        await asyncio.sleep(2)
        world.loop.resume(world.processes["b"])
        assert await asking is None

    assert run(story) == []


def test_a_dead_process_is_noticed_by_both_ends() -> None:
    async def story(world: World) -> None:
        asking = world.loop.create_task(world.ask("wait"))
        with world.loop.inside(world.processes["b"]):
            world.loop.create_task(world.there.ask(world.here, "wait"))
        await asyncio.sleep(1)
        assert world.here.at_work == 1
        world.loop.kill(world.processes["b"])
        assert await asking is True
        await asyncio.sleep(3.5)
        assert world.here.at_work == 0

    changes = run(story)
    assert [(node_id, up) for _, node_id, up in changes] == [("b", False)]


@pytest.mark.parametrize("way", [("a", "b"), ("b", "a")])
def test_a_frame_that_is_lost_breaks_the_connection(way: tuple[str, str]) -> None:
    async def story(world: World) -> None:
        world.travel.lost.add(way)
        assert await world.ask("echo") is True
        await asyncio.sleep(1)
        assert not world.here.links.is_up("b")
        world.travel.lost.clear()
        await settle(world)
        assert await world.ask("echo") is None

    run(story)


@pytest.mark.parametrize("way", [("a", "b"), ("b", "a")])
def test_a_frame_that_never_arrives_is_noticed(way: tuple[str, str]) -> None:
    async def story(world: World) -> None:
        world.travel.stuck.add(way)
        assert await world.ask("echo") is True
        assert not world.here.links.is_up("b")
        world.travel.stuck.clear()
        await settle(world)
        assert await world.ask("echo") is None

    run(story)


def test_what_is_told_is_a_beginning_of_what_was_said_in_its_order() -> None:
    async def story(world: World) -> None:
        with world.loop.inside(world.processes["a"]):
            for number in range(200):
                assert world.here.tell(world.there, b"%d" % number)
                await asyncio.sleep(0.001)
        world.memory.cut(world.here, world.there)
        await asyncio.sleep(1)
        told = [int(piece) for _, piece in world.there.told_of]
        assert told == list(range(len(told)))
        assert 50 < len(told) < 200

    run(story)


def test_the_same_seed_repeats_itself() -> None:
    async def story(world: World) -> None:
        for _ in range(5):
            await world.ask("echo")
            world.memory.cut(world.here, world.there)
            await settle(world)

    assert run(story) == run(story)
