"""Shared rates in Redis keep the contract."""

from __future__ import annotations

import asyncio

import pytest

from chinwag_server.clock import SystemClock
from chinwag_server.mesh.redis import RedisRates
from tests.mesh.rates_contract import MakeRates, PassTime, RatesContract, take
from tests.mesh.redis.conftest import PATIENT_S, OpenLink
from tools.engines.redis import Redis


@pytest.fixture
async def make_rates(empty_redis: Redis, open_link: OpenLink) -> MakeRates:
    link = await open_link(empty_redis.url, PATIENT_S)
    return lambda: RedisRates(link, SystemClock())


@pytest.fixture
def pass_time() -> PassTime:
    return asyncio.sleep


class TestRedisRates(RatesContract):
    pass


@pytest.fixture
async def rates(empty_redis: Redis, open_link: OpenLink) -> RedisRates:
    return RedisRates(await open_link(empty_redis.url, PATIENT_S), SystemClock(), max_known=10)


async def test_who_is_refused_often_costs_one_round_trip(rates: RedisRates) -> None:
    assert await take(rates, "ann", cost=50, burst=50) == 0.0
    for _ in range(1000):
        assert await take(rates, "ann", burst=50) > 0.0
    # Redis is asked again when there may be a token: once in a tenth of a second.
    assert rates.asked < 50


async def test_takes_at_once_share_a_round_trip(empty_redis: Redis, rates: RedisRates) -> None:
    with empty_redis.client() as client:
        await take(rates, "ann", burst=1000)
        client.config_resetstat()
        await asyncio.gather(*(take(rates, "ann", burst=1000) for _ in range(200)))
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] <= 2


async def test_full_buckets_are_forgotten(empty_redis: Redis, rates: RedisRates) -> None:
    for number in range(30):
        await take(rates, f"u{number}")
    assert len(rates._full) == 10
    await asyncio.sleep(0.15)
    with empty_redis.client() as client:
        assert client.keys() == []


async def test_a_clock_that_was_set_back(empty_redis: Redis, rates: RedisRates) -> None:
    assert await take(rates, "ann", cost=3) == 0.0
    with empty_redis.client() as client:
        full, counted = (float(part) for part in client.get("cw:rate:ann").split(b":"))
        ahead = 3_600_000_000
        client.set("cw:rate:ann", f"{full + ahead:.1f}:{counted + ahead:.0f}")
    assert await take(rates, "ann", cost=2) == 0.0
    assert 0.0 < await take(rates, "ann", cost=5) < 0.6
