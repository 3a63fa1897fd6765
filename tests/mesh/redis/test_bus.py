"""The bus over Redis keeps the contract."""

from __future__ import annotations

import asyncio

import pytest

from chinwag_server.mesh.redis import RedisBus
from chinwag_server.mesh.redis.ear import PING_S
from tests.mesh.bus_contract import BusContract, Lose, MakeBus, until
from tests.mesh.redis.conftest import PATIENT_S, OpenBus
from tools.engines.redis import Redis


@pytest.fixture
def make_bus(empty_redis: Redis, open_bus: OpenBus) -> MakeBus:
    async def make(**settings: int) -> RedisBus:
        return await open_bus(empty_redis.url, PATIENT_S, **settings)

    return make


@pytest.fixture
def lose(empty_redis: Redis) -> Lose:
    async def lose() -> None:
        with empty_redis.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    return lose


class TestRedisBus(BusContract):
    pass


async def test_topics_share_a_few_connections(empty_redis: Redis, make_bus: MakeBus) -> None:
    bus = await make_bus(connections=3)
    for number in range(1000):
        bus.subscribe(f"user:{number}", lambda payload: None)
    await bus.settle()
    with empty_redis.client() as client:
        listening = [int(found["ssub"]) for found in client.client_list(_type="pubsub")]
    assert sum(listening) == 1000
    assert len(listening) == 3
    assert min(listening) > 200


async def test_topics_are_confirmed_after_a_silence(make_bus: MakeBus) -> None:
    """Redis answers a PING otherwise while nothing is subscribed to."""
    bus = await make_bus(connections=1)
    await asyncio.sleep(PING_S + 0.5)
    heard: list[bytes] = []
    bus.subscribe("ann", heard.append)
    await bus.settle()
    bus.publish("ann", b"hi")
    await until(lambda: heard == [b"hi"], "it is heard")


async def test_bytes_that_wait_are_bounded(make_bus: MakeBus) -> None:
    bus = await make_bus(max_queued_bytes=1000)
    heard: list[bytes] = []
    bus.subscribe("ann", heard.append)
    await bus.settle()
    for number in range(50):
        bus.publish("ann", b"%100d" % number)
    await until(lambda: len(heard) == 10, "the newest are heard")
    assert int(heard[-1]) == 49
    assert bus.dropped == 40
    bus.publish("ann", b"x" * 2000)
    assert bus.dropped == 41


async def test_a_node_that_does_not_read_is_cut_off_and_told(
    empty_redis: Redis, make_bus: MakeBus
) -> None:
    """Redis drops who is too far behind: that is a gap, not a silence."""
    bus = await make_bus()
    gaps: list[bool] = []
    heard: list[bytes] = []
    bus.on_gap(lambda: gaps.append(True))
    bus.subscribe("ann", heard.append)
    await bus.settle()
    with empty_redis.client() as client:
        client.config_set("client-output-buffer-limit", "pubsub 1mb 1mb 1")
        # Nothing of ours runs meanwhile.
        for _ in range(400):
            client.execute_command("SPUBLISH", "ann", b"x" * 50_000)
    await until(lambda: bool(gaps), "the gap is told")
    assert len(heard) < 400
    bus.publish("ann", b"one")
    await until(lambda: heard[-1] == b"one", "it hears again")
