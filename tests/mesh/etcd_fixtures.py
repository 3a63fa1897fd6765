"""Real etcd for tests: one member for a module, or fresh ones for a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chinwag_server.mesh.etcd import EtcdClient, EtcdCoordination
from tools.engines.etcd import Etcd, EtcdCluster

Connect = Callable[..., EtcdCoordination]


@pytest.fixture(scope="module")
def shared_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One member for all tests of a module, which leave it running."""
    etcd = Etcd(tmp_path_factory.mktemp("etcd"))
    etcd.start()
    yield etcd
    etcd.stop()


@pytest.fixture
def empty_etcd(shared_etcd: Etcd) -> Etcd:
    """The shared member without keys."""
    shared_etcd.call("kv/deleterange", {"key": "AA==", "range_end": "AA=="})
    return shared_etcd


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    """A member of the test's own, which it may freeze and kill."""
    member = Etcd(tmp_path / "etcd")
    member.start()
    yield member
    member.stop()


@pytest.fixture
def etcd_cluster(tmp_path: Path) -> Iterator[EtcdCluster]:
    """Three members of the test's own."""
    cluster = EtcdCluster(tmp_path / "etcd")
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Makes clients: connect(endpoint, ..., user="ann")."""
    made: list[EtcdCoordination] = []

    def client(*endpoints: str, **options: Any) -> EtcdCoordination:
        made.append(EtcdCoordination(EtcdClient(endpoints, **options)))
        return made[-1]

    yield client
    for coordination in made:
        await coordination.close()
