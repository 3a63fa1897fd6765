"""Sessions in Redis keep the contract."""

from __future__ import annotations

import asyncio

import pytest

from chinwag_server.mesh.redis import RedisSessions
from tests.mesh.redis.conftest import PATIENT_S, OpenLink
from tests.mesh.sessions_contract import LIFE_S, PassTime, SessionsContract, Wipe
from tools.engines.redis import Redis


@pytest.fixture
async def sessions(empty_redis: Redis, open_link: OpenLink) -> RedisSessions:
    return RedisSessions(await open_link(empty_redis.url, PATIENT_S), life_s=60)


@pytest.fixture
async def brief_sessions(empty_redis: Redis, open_link: OpenLink) -> RedisSessions:
    return RedisSessions(await open_link(empty_redis.url, PATIENT_S), life_s=LIFE_S)


@pytest.fixture
def pass_time() -> PassTime:
    return asyncio.sleep


@pytest.fixture
def wipe(empty_redis: Redis) -> Wipe:
    async def wipe() -> None:
        with empty_redis.client() as client:
            client.flushall()

    return wipe


class TestRedisSessions(SessionsContract):
    pass


async def test_a_hundred_users_are_one_round_trip(
    empty_redis: Redis, sessions: RedisSessions
) -> None:
    await sessions.refresh("n1")
    users = [f"u{number}" for number in range(100)]
    await sessions.restore("n1", [(user, "phone") for user in users])
    await sessions.nodes_of(users)
    with empty_redis.client() as client:
        client.config_resetstat()
        assert len(await sessions.nodes_of(users)) == 100
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 1


async def test_nothing_is_left_of_the_dead(empty_redis: Redis, sessions: RedisSessions) -> None:
    await sessions.refresh("n1")
    await sessions.restore("n1", [(f"u{number}", "phone") for number in range(10)])
    await sessions.end("n1")
    # Found dead on the way, then swept.
    assert await sessions.nodes_of(["u1"]) == {}
    await sessions.sweep()
    with empty_redis.client() as client:
        assert client.keys() == []
