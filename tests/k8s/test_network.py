"""Who may reach whom in the overlays."""

from __future__ import annotations

import pytest

from tests.k8s.reach import Peer, may_reach
from tests.k8s.references import Object, pods, ports_of

CLIENT = Peer(address="203.0.113.7")
PROMETHEUS = Peer(namespace="monitoring")
DNS = Peer(namespace="kube-system")
DATABASE = Peer(address="10.1.2.3")
API = Peer(address="172.20.0.1")
ENGINES = {"etcd": 2379, "redis": 6379, "postgres": 5432, "cassandra": 9042}


def peer(objects: list[Object], owner: str) -> Peer:
    """A pod of an overlay."""
    template = pods(objects)[owner]
    return Peer(labels=template["metadata"]["labels"], ports=ports_of(template))


def test_clients_reach_a_node_and_nothing_else(dev: list[Object]) -> None:
    node = peer(dev, "Deployment chinwag")
    assert may_reach(dev, CLIENT, node, 7400)
    assert not may_reach(dev, CLIENT, node, 7480)
    assert not may_reach(dev, CLIENT, node, 7401)
    for engine, port in ENGINES.items():
        assert not may_reach(dev, CLIENT, peer(dev, f"StatefulSet {engine}"), port)


def test_nodes_reach_each_other_between_nodes_only(dev: list[Object]) -> None:
    node, migrate = peer(dev, "Deployment chinwag"), peer(dev, "Job chinwag-migrate")
    assert may_reach(dev, node, node, 7480)
    assert not may_reach(dev, migrate, node, 7480)
    assert not may_reach(dev, node, CLIENT, 443)


@pytest.mark.parametrize("engine", ENGINES)
def test_chinwag_reaches_the_engines_and_they_reach_nobody(dev: list[Object], engine: str) -> None:
    port, target = ENGINES[engine], peer(dev, f"StatefulSet {engine}")
    for owner in ("Deployment chinwag", "Job chinwag-migrate"):
        assert may_reach(dev, peer(dev, owner), target, port)
        assert not may_reach(dev, target, peer(dev, owner), 7400)
    for other in ENGINES.keys() - {engine}:
        assert not may_reach(dev, peer(dev, f"StatefulSet {other}"), target, port)
    assert not may_reach(dev, peer(dev, "Job certificates"), target, port)
    assert not may_reach(dev, target, API, 443)


def test_only_the_certificates_are_made_through_the_api(dev: list[Object]) -> None:
    assert may_reach(dev, peer(dev, "Job certificates"), API, 443)
    assert not may_reach(dev, peer(dev, "Deployment chinwag"), API, 443)


def test_in_production_nodes_reach_engines_outside(prod: list[Object]) -> None:
    for owner in ("Deployment chinwag", "Job chinwag-migrate"):
        for port in ENGINES.values():
            assert may_reach(prod, peer(prod, owner), DATABASE, port)
            assert not may_reach(prod, peer(prod, owner), CLIENT, port)
        assert not may_reach(prod, peer(prod, owner), DATABASE, 22)
        assert may_reach(prod, peer(prod, owner), DNS, 53)


def test_metrics_are_read_with_the_component_only(
    prod: list[Object], monitored: list[Object]
) -> None:
    node = peer(prod, "Deployment chinwag")
    assert not may_reach(prod, PROMETHEUS, node, 7401)
    assert may_reach(monitored, PROMETHEUS, node, 7401)
    assert not may_reach(monitored, CLIENT, node, 7401)
