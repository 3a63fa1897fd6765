"""The engines' addresses from settings: what adapters get, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chinwag_server.chat.cassandra.address import Address as CassandraAddress
from chinwag_server.config import ConfigError, Settings
from chinwag_server.config.sources import build
from chinwag_server.engines import advertised, chat_url, etcd_client, redis_url
from chinwag_server.mesh.etcd.address import Address, parse
from chinwag_server.mesh.redis.address import parse as parse_redis
from tests.mesh.certificates import make


def test_certificates_go_with_the_urls(tmp_path: Path) -> None:
    ca = tmp_path / "a b&c.pem"
    ca.touch()
    settings = build(
        {
            "mesh.redis_url": "rediss://:secret@r1:1,r2:2/3",
            "mesh.redis_ca_file": ca,
            "mesh.chat_ca_file": ca,
            "stores.chat_url": "cassandra://ann:secret@c1/chinwag?dc=x",
        }
    )
    assert parse_redis(redis_url(settings)).ca == str(ca)
    assert parse_redis(redis_url(settings)).hosts == (("r1", 1), ("r2", 2))
    address = CassandraAddress.parse(chat_url(settings))
    assert (address.ca, address.datacenter) == (str(ca), "x")


async def test_a_client_of_etcd(tmp_path: Path) -> None:
    files = make(tmp_path)
    for values in (
        {"mesh.coordination_url": "etcd://ann:secret@e1,e2:1"},
        {"mesh.coordination_url": "etcds://e1"},
        {"mesh.coordination_url": "etcds://e1", "mesh.coordination_ca_file": files.ca},
    ):
        await etcd_client(build(values)).close()


NOT_THERE = Path("/none/ca.pem")


@pytest.mark.parametrize(
    ("ask", "values", "text"),
    [
        (chat_url, {"stores.chat_url": "redis://c1/x"}, "stores.chat_url: the URL of Cassandra"),
        (chat_url, {"stores.chat_url": "cassandra://u:secret@c1"}, "a keyspace is of"),
        (
            chat_url,
            {"stores.chat_url": "cassandra://c1/x", "mesh.chat_ca_file": NOT_THERE},
            "mesh.chat_ca_file: /none/ca.pem cannot be read: No such file",
        ),
        (redis_url, {"mesh.redis_url": "http://u:secret@r1"}, "mesh.redis_url: a Redis URL"),
        (etcd_client, {"mesh.coordination_url": "http://u:secret@e1"}, "begins with etcd://"),
        (
            etcd_client,
            {"mesh.coordination_url": "etcds://e1", "mesh.coordination_ca_file": NOT_THERE},
            "mesh.coordination_ca_file: /none/ca.pem cannot be read",
        ),
        (
            etcd_client,
            {"mesh.coordination_url": "etcd://e1", "mesh.coordination_ca_file": Path("/dev/null")},
            "begins with etcds://",
        ),
    ],
)
def test_what_is_wrong_is_named(
    ask: Callable[[Settings], object], values: dict[str, object], text: str
) -> None:
    with pytest.raises(ConfigError) as info:
        ask(build(values))
    assert text in str(info.value)
    assert "secret" not in str(info.value)


@pytest.mark.parametrize(
    ("host", "advertise", "found"),
    [
        ("127.0.0.1", "", "127.0.0.1:9"),
        ("::1", "", "[::1]:9"),
        ("0.0.0.0", "node-1", "node-1:9"),
        ("0.0.0.0", "node-1:7", "node-1:7"),
        ("::", "fe80::1", "[fe80::1]:9"),
        ("::", "[fe80::1]", "[fe80::1]:9"),
        ("::", "[fe80::1]:7", "[fe80::1]:7"),
    ],
)
def test_where_other_nodes_reach_this_one(host: str, advertise: str, found: str) -> None:
    settings = build({"mesh.host": host, "mesh.advertise": advertise})
    assert advertised(settings.mesh, 9) == found


def test_a_url_of_etcd() -> None:
    address = parse("etcds://ann:p%40ss%2F@one:9999,10.0.0.2,[::1]:1")
    assert address == Address(("one:9999", "10.0.0.2:2379", "[::1]:1"), "ann", "p@ss/", True)
    assert str(address) == "etcds://one:9999,10.0.0.2:2379,[::1]:1"
    assert "p@ss" not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        "etcd://",
        "etcd://one,,two",
        "etcd://one:port",
        "etcd://one:99999",
        "etcd://one/prefix",
        "etcd://one?x=y",
        "etcd://ann:secret@one:port",
        "etcd://ann@one",
        "etcd://:secret@one",
        "etcd://[::1",
        "http://one",
        "one:2379",
    ],
)
def test_a_url_of_etcd_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected etcd\[s\]://") as info:
        parse(url)
    assert "secret" not in str(info.value)
