"""What is served: the resources that say where the nodes are, made from endpoints.

gRPC clients ask by name (`xds:///chinwag`): a listener names a route, the route a cluster, the
cluster its endpoints. Envoy has the first three in its own configuration and asks for the last.
(reference: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from chinwag_server.xds.pb import xds_pb2 as pb

NAME = "chinwag"
ROUTES = "chinwag-routes"

_PREFIX = "type.googleapis.com/"
LISTENER = f"{_PREFIX}envoy.config.listener.v3.Listener"
ROUTE = f"{_PREFIX}envoy.config.route.v3.RouteConfiguration"
CLUSTER = f"{_PREFIX}envoy.config.cluster.v3.Cluster"
ENDPOINTS = f"{_PREFIX}envoy.config.endpoint.v3.ClusterLoadAssignment"
# The order in which changes are told: nothing names what was not told of before.
TYPES = (CLUSTER, ENDPOINTS, LISTENER, ROUTE)

_MANAGER = (
    f"{_PREFIX}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
_ROUTER = f"{_PREFIX}envoy.extensions.filters.http.router.v3.Router"
_EDS = 3
_V3 = 2
_HEALTHY, _DRAINING = 1, 3
# Of a capacity of 1.
_WEIGHT = 100


@dataclass(slots=True, frozen=True, order=True)
class Endpoint:
    """A node as clients reach it.

    Attributes:
        host: An IP address.
        draining: It gets nothing new, and keeps what it has.
    """

    host: str
    port: int
    zone: str = ""
    capacity: float = 1.0
    draining: bool = False


# By type and name, each serialised.
Resources = Mapping[str, Mapping[str, AnyMessage]]


def resources(endpoints: Iterable[Endpoint]) -> Resources:
    """Everything that is served."""
    ads = pb.ConfigSource(ads=pb.Empty(), resource_api_version=_V3)
    cluster = pb.Cluster(
        name=NAME,
        type=_EDS,
        eds_cluster_config=pb.EdsClusterConfig(eds_config=ads, service_name=NAME),
    )
    routes = pb.RouteConfiguration(
        name=ROUTES,
        virtual_hosts=[
            pb.VirtualHost(
                name=NAME,
                domains=["*"],
                # Not "": proto3 leaves that out, and gRPC refuses the route.
                routes=[
                    pb.Route(match=pb.RouteMatch(prefix="/"), route=pb.RouteAction(cluster=NAME))
                ],
            )
        ],
    )
    # gRPC refuses a listener without a router as its last filter.
    router = pb.HttpFilter(name="router", typed_config=AnyMessage(type_url=_ROUTER))
    manager = pb.HttpConnectionManager(
        rds=pb.Rds(config_source=ads, route_config_name=ROUTES), http_filters=[router]
    )
    listener = pb.Listener(
        name=NAME, api_listener=pb.ApiListener(api_listener=_packed(_MANAGER, manager))
    )
    return {
        CLUSTER: {NAME: _packed(CLUSTER, cluster)},
        ENDPOINTS: {NAME: _packed(ENDPOINTS, assignment(endpoints))},
        LISTENER: {NAME: _packed(LISTENER, listener)},
        ROUTE: {ROUTES: _packed(ROUTE, routes)},
    }


def assignment(endpoints: Iterable[Endpoint]) -> pb.ClusterLoadAssignment:
    """The endpoints, zone by zone."""
    zones: dict[str, pb.LocalityLbEndpoints] = {}
    for endpoint in sorted(endpoints):
        zone = zones.get(endpoint.zone)
        if zone is None:
            # gRPC drops a locality without a weight, and without a word.
            zone = zones[endpoint.zone] = pb.LocalityLbEndpoints(
                locality=pb.Locality(region=NAME, zone=endpoint.zone)
            )
        weight = max(1, round(endpoint.capacity * _WEIGHT))
        zone.load_balancing_weight.value += weight
        found = zone.lb_endpoints.add(health_status=_DRAINING if endpoint.draining else _HEALTHY)
        found.load_balancing_weight.value = weight
        address = found.endpoint.address.socket_address
        address.address, address.port_value = endpoint.host, endpoint.port
    return pb.ClusterLoadAssignment(cluster_name=NAME, endpoints=zones.values())


def _packed(url: str, message: Message) -> AnyMessage:
    return AnyMessage(type_url=url, value=message.SerializeToString(deterministic=True))
