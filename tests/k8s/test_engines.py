"""The engines of the dev overlay take what it tells them: the real servers, with the command lines
and files of the rendered pods, on ports of this machine."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from chinwag_server.chat.cassandra.migrate import migrate
from chinwag_server.chat.sequenced.schema import ALL
from tests.k8s.references import Object, of_kind, pods
from tools.engines import cassandra, debian
from tools.engines.process import Child, free_port, listens
from tools.engines.redis import PACKAGES

HOST = "127.0.0.1"


def command_of(objects: list[Object], engine: str) -> list[str]:
    """A container's command."""
    (container,) = pods(objects)[f"StatefulSet {engine}"]["spec"]["containers"]
    command: list[str] = container["command"]
    return command


@contextmanager
def running(child: Child) -> Iterator[None]:
    child.start()
    try:
        yield
    finally:
        child.kill()


def test_etcd(dev: list[Object], tmp_path: Path) -> None:
    port, peer_port = free_port(), free_port()
    _, *options = (
        text.replace("0.0.0.0:2379", f"{HOST}:{port}")
        .replace(f"{HOST}:2380", f"{HOST}:{peer_port}")
        .replace("/data/", f"{tmp_path}/")
        for text in command_of(dev, "etcd")
    )
    child = Child(
        "etcd",
        [debian.unpack("etcd", ["etcd-server"]) / "usr/bin/etcd", *options],
        log=tmp_path / "log",
        ready=lambda: listens(HOST, port),
        ready_s=20.0,
    )
    with running(child), urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5) as page:
        assert b'"true"' in page.read()


def test_redis(dev: list[Object], tmp_path: Path) -> None:
    port = free_port()
    _, *options = (text.replace("$(REDIS_PASSWORD)", "pw") for text in command_of(dev, "redis"))
    unpacked = debian.unpack("redis", PACKAGES)
    child = Child(
        "Redis",
        [unpacked / "usr/bin/redis-server", "--bind", HOST, "--port", str(port), *options],
        log=tmp_path / "log",
        ready=lambda: listens(HOST, port),
        ready_s=10.0,
        cwd=tmp_path,
        env=debian.library_path(unpacked),
    )
    with running(child), redis.Redis(HOST, port, password="pw", socket_timeout=5) as client:
        settings = client.config_get("*")
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["appendonly"] == "no"
    assert settings["save"] == ""


async def test_cassandra(dev: list[Object], tmp_path: Path) -> None:
    (text,) = (
        one["data"]["cassandra.yaml"]
        for one in of_kind(dev, "ConfigMap")
        if "cassandra.yaml" in one["data"]
    )
    port = free_port()
    text = text.replace("/var/lib/cassandra", str(tmp_path)).replace("9042", str(port))
    # In a pod: the address of its name.
    text += f"storage_port: {free_port()}\nrpc_address: {HOST}\n"
    (tmp_path / "cassandra.yaml").write_text(text)
    with running(cassandra.Node(tmp_path, HOST, port, cassandra.HEAP_MIB)):
        url = f"cassandra://{HOST}:{port}/chinwag?dc=datacenter1&rf=1"
        assert await migrate(url, ALL, cluster_id="chinwag-dev")
