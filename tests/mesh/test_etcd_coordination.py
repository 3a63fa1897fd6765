"""The coordination on a real etcd keeps the contract."""

from __future__ import annotations

import pytest

from chinwag_server.mesh.etcd import EtcdCoordination
from tests.mesh.coordination_contract import CoordinationContract
from tests.mesh.etcd_fixtures import Connect
from tools.engines.etcd import Etcd


@pytest.fixture
async def coordination(empty_etcd: Etcd, connect: Connect) -> EtcdCoordination:
    return connect(empty_etcd.endpoint)


@pytest.fixture
async def other(empty_etcd: Etcd, connect: Connect) -> EtcdCoordination:
    return connect(empty_etcd.endpoint)


class TestEtcdCoordination(CoordinationContract):
    pass
