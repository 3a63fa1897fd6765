"""The in-memory bus keeps the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar

import pytest

from chinwag_server.mesh.memory_bus import Hub, MemoryBus
from chinwag_server.mesh.unavailable import Unavailable
from tests.mesh.bus_contract import BusContract, Lose, MakeBus, until


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
async def make_bus(hub: Hub) -> AsyncIterator[MakeBus]:
    made: list[MemoryBus] = []

    async def make(**settings: int) -> MemoryBus:
        bus = MemoryBus(hub, **settings)
        await bus.open()
        made.append(bus)
        return bus

    yield make
    for bus in made:
        await bus.close()


@pytest.fixture
def lose(hub: Hub) -> Lose:
    async def lose() -> None:
        hub.lose()

    return lose


class TestMemoryBus(BusContract):
    pass


async def test_while_it_is_away_payloads_are_dropped(hub: Hub, make_bus: MakeBus) -> None:
    bus = await make_bus()
    heard: list[bytes] = []
    bus.subscribe("ann", heard.append)
    hub.away = True
    bus.publish("ann", b"one")
    await until(lambda: bus.dropped == 1, "it is dropped")
    with pytest.raises(Unavailable):
        await bus.settle()
    hub.away = False
    bus.publish("ann", b"two")
    await until(lambda: heard == [b"two"], "it is heard")


async def test_an_end_that_does_not_run_misses_the_oldest_and_is_told(make_bus: MakeBus) -> None:
    here, there = await make_bus(), await make_bus(max_queued=10)
    order: list[bytes] = []
    there.subscribe("ann", order.append)
    there.on_gap(lambda: order.append(b"gap"))
    for number in range(20):
        here.publish("ann", b"%d" % number)
    await until(lambda: len(order) == 11, "the newest are received")
    assert order == [b"gap", *(b"%d" % number for number in range(10, 20))]


async def test_payloads_are_received_in_the_context_of_their_end(hub: Hub) -> None:
    node: ContextVar[str] = ContextVar("node")
    heard: list[str] = []

    async def open_end(name: str) -> MemoryBus:
        node.set(name)
        bus = MemoryBus(hub)
        await bus.open()
        bus.subscribe("ann", lambda payload: heard.append(node.get()))
        return bus

    first = await asyncio.create_task(open_end("n1"))
    await asyncio.create_task(open_end("n2"))
    first.publish("ann", b"one")
    await until(lambda: heard == ["n1", "n2"], "both hear it, each in its context")
