"""Real Redis for tests: one server for a module, or a server of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chinwag_server.mesh.redis import RedisBus, RedisInbox, RedisLink
from tests.mesh.inbox_contract import Agreement
from tools.engines.redis import Redis

TIMEOUT_S = 0.5
PATIENT_S = 10.0  # where no deadline is tested, on busy machines

OpenLink = Callable[..., Awaitable[RedisLink]]
OpenBus = Callable[..., Awaitable[RedisBus]]
StartRedis = Callable[..., Redis]
OpenInbox = Callable[..., RedisInbox]


@pytest.fixture(scope="module")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """One server for all tests of a module, which leave it running."""
    redis = Redis(tmp_path_factory.mktemp("redis"), password="secret")
    redis.start()
    yield redis
    redis.stop()


@pytest.fixture
def empty_redis(shared_redis: Redis) -> Redis:
    """The shared server without keys and scripts."""
    with shared_redis.client() as client:
        client.flushall()
        client.script_flush()
    return shared_redis


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[StartRedis]:
    """Starts servers of the test's own, which it may freeze and kill."""
    started: list[Redis] = []

    def start(**settings: Any) -> Redis:
        redis = Redis(tmp_path / f"redis{len(started)}", **settings)
        started.append(redis)
        redis.start()
        return redis

    yield start
    for redis in started:
        redis.stop()


@pytest.fixture
async def open_link() -> AsyncIterator[OpenLink]:
    """Opens links that wait for `TIMEOUT_S` or what is said."""
    opened: list[RedisLink] = []

    async def open_(url: str, timeout_s: float = TIMEOUT_S) -> RedisLink:
        link = RedisLink(url, timeout_s=timeout_s)
        opened.append(link)
        await link.open()
        return link

    yield open_
    await asyncio.gather(*(link.close() for link in opened))


@pytest.fixture
async def open_bus() -> AsyncIterator[OpenBus]:
    """Opens buses that wait for `TIMEOUT_S` or what is said."""
    opened: list[RedisBus] = []

    async def open_(url: str, timeout_s: float = TIMEOUT_S, **settings: Any) -> RedisBus:
        bus = RedisBus(url, timeout_s=timeout_s, **settings)
        opened.append(bus)
        await bus.open()
        return bus

    yield open_
    await asyncio.gather(*(bus.close() for bus in opened))


@pytest.fixture
def agreement() -> Agreement:
    return Agreement()
