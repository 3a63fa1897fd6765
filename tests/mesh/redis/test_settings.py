"""What a link needs at its start, and what it says when that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from chinwag_server.mesh.redis import RedisBus, RedisInbox, RedisLink, RedisRates, RedisSessions
from chinwag_server.mesh.redis.address import Address, parse
from chinwag_server.mesh.unavailable import Unavailable
from tests.mesh.bus_contract import until
from tests.mesh.inbox_contract import Agreement, all_since
from tests.mesh.rates_contract import take
from tests.mesh.redis.conftest import OpenBus, OpenLink, StartRedis
from tests.server.account.clock import FakeClock
from tests.server.rpc import certificates
from tools.engines.process import free_port


def test_urls() -> None:
    assert parse("redis://localhost") == Address((("localhost", 6379),))
    assert parse("rediss://ann:p%40s%2Fs@db1:1,[::1]:2,db3/7?ca=/ca.pem") == Address(
        (("db1", 1), ("::1", 2), ("db3", 6379)), "ann", "p@s/s", 7, True, "/ca.pem"
    )
    assert parse("redis://:secret@localhost:1/").password == "secret"


def test_a_url_is_shown_without_its_password() -> None:
    address = parse("rediss://ann:secret@db1:1,[::1]:2/7")
    assert str(address) == "rediss://db1:1,[::1]:2/7"
    assert "secret" not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://secret@localhost",
        "localhost:6379",
        "redis://",
        "redis://:secret@localhost:99999",
        "redis://:secret@localhost:port",
        "redis://:secret@localhost/zero",
        "redis://:secret@localhost?timeout=1",
        "redis://:secret@localhost?ca=/ca.pem",
        "redis://:secret@a,,b",
    ],
)
def test_a_url_of_another_form(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected|begins") as caught:
        RedisLink(url)
    assert "secret" not in str(caught.value)


async def refusal(open_link: OpenLink, url: str) -> str:
    """Why a link cannot be opened."""
    with pytest.raises(Unavailable) as caught:
        await open_link(url)
    return str(caught.value)


async def test_nobody_is_there(open_link: OpenLink) -> None:
    port = free_port()
    text = await refusal(open_link, f"redis://:secret@127.0.0.1:{port}")
    assert f"127.0.0.1:{port} failed" in text
    assert "secret" not in text


async def test_a_wrong_password(start_redis: StartRedis, open_link: OpenLink) -> None:
    redis = start_redis(password="secret")
    for login in (":wrong@", "ann:secret@", ""):
        text = await refusal(open_link, f"redis://{login}127.0.0.1:{redis.port}")
        assert "check the URL's user and password" in text
        assert "wrong" not in text.replace("WRONGPASS", "")
    with pytest.raises(Unavailable, match="check the URL"):
        await RedisBus(f"redis://:wrong@127.0.0.1:{redis.port}").open()


async def test_a_redis_that_evicts_is_refused(start_redis: StartRedis, open_link: OpenLink) -> None:
    redis = start_redis(maxmemory="64mb", policy="allkeys-lru")
    assert "set its maxmemory-policy to noeviction" in await refusal(open_link, redis.url)


async def test_a_replica_is_refused(start_redis: StartRedis, open_link: OpenLink) -> None:
    primary = start_redis(password="secret")
    replica = start_redis(password="secret", primary=primary)
    assert "is a replica" in await refusal(open_link, replica.url)
    both = f"redis://:secret@127.0.0.1:{replica.port},127.0.0.1:{primary.port}/0"
    link = await open_link(both)
    assert await link.call("PING") == b"PONG"


async def test_tls(start_redis: StartRedis, open_bus: OpenBus, tmp_path: Path) -> None:
    files = certificates.make(tmp_path, "redis")
    redis = start_redis(password="p@ss/word", tls=(files.cert, files.key))
    url = redis.url.replace("p@ss/word", "p%40ss%2Fword")
    bus = await open_bus(url)
    heard: list[bytes] = []
    bus.subscribe("ann", heard.append)
    await bus.settle()
    bus.publish("ann", b"x" * 100_000)
    await until(lambda: heard == [b"x" * 100_000], "it is heard")
    with pytest.raises(Unavailable, match="certificate"):
        await RedisBus(url.partition("?")[0]).open()


async def test_a_user_with_few_rights(
    start_redis: StartRedis, open_link: OpenLink, open_bus: OpenBus
) -> None:
    """The least that our user needs."""
    few = "user ann on >secret ~cw:* &* +@all -@admin -@dangerous +info"
    redis = start_redis(lines=[few, "user bob on >secret ~other:* &* +@all"])
    url = f"redis://ann:secret@127.0.0.1:{redis.port}/0"
    link = await open_link(url)
    inbox = RedisInbox(link, Agreement().raise_generation)
    stamp = await inbox.now()
    await inbox.touch(["ann"], "c1")
    assert await all_since(inbox, "ann", stamp, 10) == ["c1"]
    sessions = RedisSessions(link)
    await sessions.refresh("n1")
    await sessions.add("ann", "phone", "n1")
    assert await sessions.nodes_of(["ann"]) == {"ann": {"n1"}}
    assert await sessions.sweep() == 0
    await sessions.end("n1")
    assert await take(RedisRates(link, FakeClock()), "ann") == 0.0
    bus = await open_bus(url)
    heard: list[bytes] = []
    bus.subscribe("ann", heard.append)
    await bus.settle()
    bus.publish("ann", b"one")
    await until(lambda: heard == [b"one"], "it is heard")
    other = await open_link(url.replace("ann:", "bob:"))
    with pytest.raises(Unavailable, match="allow it to the URL's user"):
        await RedisInbox(other, Agreement().raise_generation).now()
