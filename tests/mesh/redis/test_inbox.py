"""The inbox in Redis keeps the contract."""

from __future__ import annotations

import time
from typing import Any

import pytest

from chinwag_server.mesh.redis import RedisInbox
from tests.mesh.inbox_contract import Agreement, InboxContract, MakeInbox, Wipe, all_since
from tests.mesh.redis.conftest import PATIENT_S, OpenLink
from tools.engines.redis import Redis

HOUR_US = 3_600_000_000


@pytest.fixture
async def make_inbox(empty_redis: Redis, open_link: OpenLink, agreement: Agreement) -> MakeInbox:
    link = await open_link(empty_redis.url, PATIENT_S)

    def make(**settings: Any) -> RedisInbox:
        return RedisInbox(link, agreement.raise_generation, **settings)

    return make


@pytest.fixture
def wipe(empty_redis: Redis) -> Wipe:
    async def wipe() -> None:
        with empty_redis.client() as client:
            client.flushall()

    return wipe


class TestRedisInbox(InboxContract):
    pass


async def test_a_hundred_users_and_many_touches_are_one_round_trip(
    empty_redis: Redis, make_inbox: MakeInbox
) -> None:
    inbox = make_inbox()
    users = [f"u{number}" for number in range(100)]
    await inbox.touch(users, "c1")
    with empty_redis.client() as client:
        client.config_resetstat()
        await inbox.touch(users, "c2")
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 1


async def test_stamps_are_the_servers_time(make_inbox: MakeInbox) -> None:
    assert (await make_inbox().now()).time_us == pytest.approx(time.time() * 1e6, abs=5e6)


async def test_a_clock_that_was_set_back(empty_redis: Redis, make_inbox: MakeInbox) -> None:
    inbox = make_inbox()
    now = await inbox.now()
    with empty_redis.client() as client:
        # As if the stamps so far had been given by a clock that was an hour ahead.
        client.hset("cw:inbox:marker", "h", str(now.time_us + HOUR_US))
    stamp = await inbox.now()
    assert stamp.time_us == now.time_us + HOUR_US
    await inbox.touch(["ann"], "c1")
    assert await all_since(inbox, "ann", stamp, 10) == ["c1"]


async def test_a_loss_is_raised_once_by_all_nodes(
    make_inbox: MakeInbox, wipe: Wipe, agreement: Agreement
) -> None:
    inboxes = [make_inbox() for _ in range(10)]
    for inbox in inboxes:
        await inbox.now()
    await wipe()
    for inbox in inboxes:
        await inbox.touch(["ann"], "c1")
    assert agreement.raises == 2


async def test_users_are_bounded_in_channels_and_time(
    empty_redis: Redis, make_inbox: MakeInbox
) -> None:
    inbox = make_inbox(max_channels=5, keep_days=2)
    for number in range(50):
        await inbox.touch(["ann"], f"c{number}")
    with empty_redis.client() as client:
        assert client.zcard("cw:inbox:u:ann") == 6
        assert 2 * 86_400 < client.ttl("cw:inbox:u:ann") <= 3 * 86_400


async def test_a_user_named_as_the_marker(make_inbox: MakeInbox) -> None:
    inbox = make_inbox()
    stamp = await inbox.now()
    await inbox.touch(["marker", "claim", ""], "c1")
    for user in ("marker", "claim", ""):
        assert await all_since(inbox, user, stamp, 10) == ["c1"]
