"""What the network policies of an overlay let through: as Kubernetes says, for pods of one
namespace, labelled others, and the outside."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.k8s.references import Object, matches, of_kind

TCP = "TCP"


@dataclass(slots=True, frozen=True)
class Peer:
    """An end of a connection.

    Attributes:
        labels: Of a pod in the overlay's namespace; None: it is elsewhere.
        namespace: Name of another namespace where the pod is; "": none.
        address: Of what is no pod.
        ports: By name.
    """

    labels: Mapping[str, str] | None = None
    namespace: str = ""
    address: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)


def may_reach(objects: Sequence[Object], source: Peer, target: Peer, port: int) -> bool:
    """Whether a TCP connection comes about."""
    return _allows(objects, "Egress", source, target, port, target.ports) and _allows(
        objects, "Ingress", target, source, port, target.ports
    )


def _allows(
    objects: Sequence[Object],
    direction: str,
    own: Peer,
    other: Peer,
    port: int,
    names: Mapping[str, int],
) -> bool:
    if own.labels is None:
        return True  # nobody's policy here is about it
    policies = [
        one["spec"]
        for one in of_kind(objects, "NetworkPolicy")
        if direction in one["spec"]["policyTypes"]
        and matches(one["spec"]["podSelector"], own.labels)
    ]
    if not policies:
        return True
    rules, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    return any(
        _is_port(rule, port, names)
        and (peers not in rule or any(_is_peer(peer, other) for peer in rule[peers]))
        for spec in policies
        for rule in spec.get(rules, [])
    )


def _is_port(rule: Mapping[str, Any], port: int, names: Mapping[str, int]) -> bool:
    return "ports" not in rule or any(
        one["protocol"] == TCP and port in (one["port"], names.get(str(one["port"])))
        for one in rule["ports"]
    )


def _is_peer(peer: Mapping[str, Any], other: Peer) -> bool:
    if "ipBlock" in peer:
        block = ipaddress.ip_network(peer["ipBlock"]["cidr"])
        return bool(other.address) and ipaddress.ip_address(other.address) in block
    if "namespaceSelector" in peer:
        labels = {"kubernetes.io/metadata.name": other.namespace}
        return bool(other.namespace) and matches(peer["namespaceSelector"], labels)
    return other.labels is not None and matches(peer["podSelector"], other.labels)
