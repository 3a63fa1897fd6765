"""Redis killed, frozen, full, failed over: told, bounded in time, and never answered wrongly."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from chinwag_server.clock import SystemClock
from chinwag_server.mesh.redis import (
    RedisBus,
    RedisInbox,
    RedisLink,
    RedisRates,
    RedisSessions,
    pipe,
)
from chinwag_server.mesh.unavailable import Unavailable
from tests.mesh.bus_contract import until
from tests.mesh.inbox_contract import Agreement, all_since
from tests.mesh.redis.conftest import TIMEOUT_S, OpenBus, OpenLink, StartRedis
from tools.engines.redis import Redis

SLACK_S = 1.0  # a busy machine's
DEVICES = [(f"u{number}", "phone") for number in range(100)]


@dataclass
class Node:
    """All ports of one node."""

    bus: RedisBus
    link: RedisLink
    sessions: RedisSessions
    inbox: RedisInbox
    rates: RedisRates


@pytest.fixture
def redis(start_redis: StartRedis) -> Redis:
    return start_redis()


@pytest.fixture
async def node(redis: Redis, open_link: OpenLink, open_bus: OpenBus, agreement: Agreement) -> Node:
    return await open_node(redis.url, open_link, open_bus, agreement)


async def open_node(url: str, open_link: OpenLink, open_bus: OpenBus, agreement: Agreement) -> Node:
    link = await open_link(url)
    return Node(
        await open_bus(url),
        link,
        RedisSessions(link, life_s=30),
        RedisInbox(link, agreement.raise_generation, timeout_s=2.0),
        RedisRates(link, SystemClock(), pause_s=0.2),
    )


async def until_back(link: RedisLink) -> None:
    """Waits until calls are taken again."""
    end = time.monotonic() + 10
    while True:
        try:
            await link.call("PING")
        except Unavailable:
            assert time.monotonic() < end, "Redis does not come back"
            await asyncio.sleep(0.02)
        else:
            return


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds + SLACK_S


# --- killed and started again ---


async def test_killed_and_started_again(redis: Redis, node: Node) -> None:
    gaps: list[bool] = []
    heard: list[bytes] = []
    topics = [f"user:{number}" for number in range(1000)]
    for topic in topics:
        node.bus.subscribe(topic, heard.append)
    node.bus.on_gap(lambda: gaps.append(True))
    await node.bus.settle()
    await node.sessions.refresh("n1")
    await node.sessions.restore("n1", DEVICES)
    stamp = await node.inbox.now()
    await node.inbox.touch(["ann"], "c1")

    redis.kill()
    for call in (
        node.inbox.touch(["ann"], "c2"),
        node.inbox.changed_since("ann", stamp, 10),
        node.sessions.nodes_of(["u1"]),
        node.sessions.add("u1", "laptop", "n1"),
        node.rates.take("ann", 1, 10, 5, fail_open=False),
    ):
        with within(TIMEOUT_S), pytest.raises(Unavailable):
            await call
    assert await node.rates.take("ann", 1, 10, 5, fail_open=True) == 0.0
    node.bus.publish("user:1", b"lost")
    await until(lambda: node.bus.dropped == 1, "it is counted")
    redis.child.start()

    await until_back(node.link)
    changes = await node.inbox.changed_since("ann", stamp, 10)
    assert not changes.complete
    await node.inbox.touch(["ann"], "c2")
    assert await all_since(node.inbox, "ann", changes.stamp, 10) == ["c2"]
    assert not await node.sessions.refresh("n1")
    await node.sessions.restore("n1", DEVICES)
    assert await node.sessions.nodes_of(["u1"]) == {"u1": {"n1"}}
    await until(lambda: len(gaps) >= 2, "each connection tells its gap")
    await node.bus.settle()
    for topic in topics:
        node.bus.publish(topic, b"one")
    await until(lambda: len(heard) == 1000, "all topics are heard")
    await asyncio.sleep(0.2)
    assert await node.rates.take("ann", 5, 10, 5, fail_open=False) == 0.0


async def test_restarted_with_its_data(
    start_redis: StartRedis, open_link: OpenLink, open_bus: OpenBus, agreement: Agreement
) -> None:
    """What it saved may lack what came last, so it counts as lost."""
    redis = start_redis(persists=True)
    node = await open_node(redis.url, open_link, open_bus, agreement)
    await node.sessions.refresh("n1")
    await node.sessions.restore("n1", DEVICES)
    stamp = await node.inbox.now()
    redis.stop()
    redis.start()
    await until_back(node.link)
    with redis.client() as client:
        assert client.exists("cw:inbox:marker")
    assert not (await node.inbox.changed_since("ann", stamp, 10)).complete
    assert not await node.sessions.refresh("n1")
    assert await node.sessions.refresh("n1")


async def test_scripts_that_are_forgotten_are_sent_again(redis: Redis, node: Node) -> None:
    stamp = await node.inbox.now()
    with redis.client() as client:
        client.script_flush()
    await node.inbox.touch(["ann"], "c1")
    assert await all_since(node.inbox, "ann", stamp, 10) == ["c1"]


# --- frozen ---


async def test_frozen_no_call_waits_longer_than_its_deadline(redis: Redis, node: Node) -> None:
    gaps: list[bool] = []
    node.bus.on_gap(lambda: gaps.append(True))
    stamp = await node.inbox.now()
    await node.sessions.refresh("n1")
    redis.freeze()
    calls: list[Coroutine[Any, Any, object]] = [
        node.inbox.now(),
        node.inbox.touch(["ann"], "c1"),
        node.inbox.changed_since("ann", stamp, 10),
        node.sessions.refresh("n1"),
        node.sessions.nodes_of(["ann"]),
        node.sessions.add("ann", "phone", "n1"),
        node.rates.take("ann", 1, 10, 5, fail_open=False),
    ]
    node.bus.subscribe("ann", lambda payload: None)
    with within(TIMEOUT_S):
        found = await asyncio.gather(*calls, node.bus.settle(), return_exceptions=True)
    assert [type(error) for error in found] == [Unavailable] * len(found)
    # Now a connection would have to be made.
    calls = [node.sessions.nodes_of(["ann"]), node.inbox.now()]
    with within(TIMEOUT_S):
        found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in found] == [Unavailable] * len(found)
    # Rates ask once in a while; who comes meanwhile does not wait.
    with within(TIMEOUT_S):
        waits = await asyncio.gather(
            *(node.rates.take("bob", 1, 10, 5, fail_open=True) for _ in range(10)),
        )
    assert waits == [0.0] * 10
    started = time.monotonic()
    for _ in range(100):
        assert await node.rates.take("bob", 1, 10, 5, fail_open=True) == 0.0
    assert time.monotonic() - started < TIMEOUT_S
    await until(lambda: not node.bus._ears[0]._settled.is_set(), "the bus notices")
    redis.thaw()
    await until_back(node.link)
    # It is the same one, and lost nothing.
    assert (await node.inbox.now()).generation == stamp.generation
    assert await node.sessions.refresh("n1")


async def test_a_frozen_redis_leaves_a_gap(redis: Redis, node: Node) -> None:
    gaps: list[bool] = []
    heard: list[bytes] = []
    node.bus.on_gap(lambda: gaps.append(True))
    node.bus.subscribe("ann", heard.append)
    await node.bus.settle()
    redis.freeze()
    # Longer than the silence after which it is asked, and the deadline of the answer.
    await asyncio.sleep(2.0 + TIMEOUT_S + SLACK_S)
    redis.thaw()
    await until(lambda: len(gaps) >= 2, "the gap is told")
    await node.bus.settle()
    node.bus.publish("ann", b"one")
    await until(lambda: heard[-1:] == [b"one"], "it is heard")


async def test_frozen_under_a_crowd_of_calls(
    redis: Redis, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe, "MAX_WAITING", 1000)
    redis.freeze()
    with within(TIMEOUT_S + 1.0):
        found = await asyncio.gather(
            *(node.link.call("PING") for _ in range(1200)), return_exceptions=True
        )
    assert {type(error) for error in found} == {Unavailable}
    assert "1000 calls wait for it already" in str(found[-1])
    redis.thaw()
    await until_back(node.link)


# --- full ---


async def test_full_every_port_says_so_and_what_it_can_do_goes_on(
    start_redis: StartRedis, open_link: OpenLink, open_bus: OpenBus, agreement: Agreement
) -> None:
    redis = start_redis(maxmemory="64mb")
    node = await open_node(redis.url, open_link, open_bus, agreement)
    heard: list[bytes] = []
    node.bus.subscribe("ann", heard.append)
    await node.bus.settle()
    await node.sessions.refresh("n1")
    await node.sessions.restore("n1", DEVICES)
    stamp = await node.inbox.now()
    await node.inbox.touch(["ann"], "c1")
    with redis.client() as client:
        client.config_set("maxmemory", "100kb")
    with pytest.raises(Unavailable, match="raise its maxmemory"):
        await node.inbox.touch(["ann"], "c2")
    with pytest.raises(Unavailable, match="raise its maxmemory"):
        await node.sessions.add("ann", "phone", "n1")
    with pytest.raises(Unavailable, match="raise its maxmemory"):
        await node.sessions.restore("n1", [("ann", "phone")])
    with pytest.raises(Unavailable, match="raise its maxmemory"):
        await node.rates.take("ann", 1, 10, 5, fail_open=False)
    assert await node.rates.take("ann", 1, 10, 5, fail_open=True) == 0.0
    assert node.rates.given_open == 1
    # What is there is read, nodes stay alive, room is made, the bus carries.
    assert await all_since(node.inbox, "ann", stamp, 10) == ["c1"]
    assert await node.sessions.refresh("n1")
    assert await node.sessions.nodes_of(["u1"]) == {"u1": {"n1"}}
    await node.sessions.remove("u1", "phone", "n1")
    assert await node.sessions.nodes_of(["u1"]) == {}
    node.bus.publish("ann", b"one")
    await until(lambda: heard == [b"one"], "it is heard")
    # A loss while it is full is noticed too.
    with redis.client() as client:
        client.delete("cw:inbox:marker")
    assert not (await node.inbox.changed_since("ann", stamp, 10)).complete
    with redis.client() as client:
        client.config_set("maxmemory", "64mb")
    await node.inbox.touch(["ann"], "c2")


# --- failed over ---


async def test_a_fail_over_is_noticed(
    start_redis: StartRedis, open_link: OpenLink, open_bus: OpenBus, agreement: Agreement
) -> None:
    primary = start_redis()
    replica = start_redis(primary=primary)
    url = f"redis://127.0.0.1:{primary.port},127.0.0.1:{replica.port}/0"
    node = await open_node(url, open_link, open_bus, agreement)
    gaps: list[bool] = []
    node.bus.on_gap(lambda: gaps.append(True))
    await node.sessions.refresh("n1")
    await node.sessions.restore("n1", DEVICES)
    stamp = await node.inbox.now()
    await node.inbox.touch(["ann"], "c1")
    with replica.client() as client:
        end = time.monotonic() + 10
        while not client.exists("cw:inbox:u:ann"):
            assert time.monotonic() < end, "the replica is behind"
    primary.freeze()
    replica.promote()
    await until_back(node.link)
    # Its marker came over, but what else did is not known.
    changes = await node.inbox.changed_since("ann", stamp, 10)
    assert not changes.complete
    assert changes.stamp.generation > stamp.generation
    assert not await node.sessions.refresh("n1")
    await until(lambda: len(gaps) >= 2, "the bus moved")


async def test_a_primary_that_became_a_replica_is_left(
    start_redis: StartRedis, open_link: OpenLink, open_bus: OpenBus, agreement: Agreement
) -> None:
    first = start_redis()
    second = start_redis()
    url = f"redis://127.0.0.1:{first.port},127.0.0.1:{second.port}/0"
    node = await open_node(url, open_link, open_bus, agreement)
    stamp = await node.inbox.now()
    with first.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", second.port)
    with pytest.raises(Unavailable):
        await node.inbox.touch(["ann"], "c1")
    await until_back(node.link)
    assert not (await node.inbox.changed_since("ann", stamp, 10)).complete


async def test_two_that_both_think_they_are_primary(
    start_redis: StartRedis, open_link: OpenLink, open_bus: OpenBus, agreement: Agreement
) -> None:
    """A device is never told "nothing changed" by the one that another node did not touch."""
    old = start_redis()
    new = start_redis(primary=old)
    behind = await open_node(old.url, open_link, open_bus, agreement)
    stamp = await behind.inbox.now()
    new.promote()
    ahead = await open_node(new.url, open_link, open_bus, agreement)
    await ahead.inbox.touch(["ann"], "c1")
    assert agreement.generation > stamp.generation
    # The node that still uses the old one hears from etcd that the generation was raised.
    behind.inbox.agree(agreement.generation)
    changes = await behind.inbox.changed_since("ann", stamp, 10)
    assert not changes.complete
    # And what that one gives is not believed by the new one.
    ahead.inbox.agree(agreement.generation)
    await asyncio.sleep(1.0)
    assert not (await ahead.inbox.changed_since("ann", changes.stamp, 10)).complete


# --- calls that are given up ---


async def test_replies_never_go_to_the_wrong_call(node: Node) -> None:
    chance = random.Random(7)

    async def ask(number: int) -> None:
        assert await node.link.call("ECHO", str(number)) == str(number).encode()

    tasks = []
    for number in range(3000):
        tasks.append(asyncio.create_task(ask(number)))
        if not number % 10:
            await asyncio.sleep(0)
            for task in chance.sample(tasks, min(3, len(tasks))):
                task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    wrong = [error for error in found if error and not isinstance(error, asyncio.CancelledError)]
    assert wrong == []
    assert found.count(None) > 1500
