"""Where Envoy goes: to the nodes, to their keys, to the control plane."""

from __future__ import annotations

from typing import Any

from chinwag_server.envoy.front import Address, Front, Nodes

NODES = "nodes"
KEYS = "keys"
XDS = "xds"
ADMIN = "admin"

BUFFER_BYTES = 65_536
CONNECT_S = 3

# With Envoy's defaults a burst of small messages on a cold connection is taken for a flood of
# window updates, and ends the connection that all streams share.
HTTP2: dict[str, Any] = {
    "initial_stream_window_size": 65_536,
    "initial_connection_window_size": 1 << 20,
    "max_inbound_window_update_frames_per_data_frame_sent": (1 << 32) - 1,
    "connection_keepalive": {"interval": "30s", "timeout": "10s"},
}

_TYPE = "type.googleapis.com/envoy"


def typed(name: str, **fields: Any) -> dict[str, Any]:
    """A message with its type: `name` follows "type.googleapis.com/envoy."."""
    return {"@type": f"{_TYPE}.{name}", **fields}


def clusters(front: Front) -> list[dict[str, Any]]:
    """All of them."""
    found = [_nodes(front), _keys(front)]
    if front.nodes.xds is not None:
        found.append(_xds(front.nodes.xds))
    if front.stats is not None:
        found.append(_admin(front))
    return found


def _nodes(front: Front) -> dict[str, Any]:
    nodes, limits = front.nodes, front.limits
    cluster: dict[str, Any] = {
        "name": NODES,
        "connect_timeout": f"{CONNECT_S}s",
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": 10_000,
                    "max_pending_requests": limits.upstream_requests,
                    "max_requests": limits.upstream_requests,
                    "max_retries": 100,
                }
            ]
        },
        # A node that drains says so by its health before its streams end: it gets nothing new.
        "health_checks": [
            {
                "timeout": "1s",
                "interval": "2s",
                "interval_jitter": "0.5s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "no_traffic_interval": "2s",
                "grpc_health_check": {},
            }
        ],
        "ignore_health_on_host_removal": True,
        # What a node answers is no sign that it is ill: RESOURCE_EXHAUSTED is an answer. Only what
        # cannot be reached is left out for a while.
        "outlier_detection": {
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 3,
            "enforcing_consecutive_5xx": 0,
            "enforcing_consecutive_gateway_failure": 0,
            "enforcing_success_rate": 0,
            "enforcing_local_origin_success_rate": 0,
            "base_ejection_time": "5s",
            "max_ejection_percent": 50,
        },
        # With every node ill, all are tried: better a refusal from one than from here.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
        **_http2(),
        **_tls(nodes),
    }
    if nodes.xds is not None:
        cluster["type"] = "EDS"
        cluster["eds_cluster_config"] = {
            "service_name": "chinwag",
            "eds_config": {"ads": {}, "resource_api_version": "V3"},
        }
    else:
        cluster["type"] = "STATIC"
        cluster["load_assignment"] = assignment(NODES, *nodes.addresses)
    return cluster


def _tls(nodes: Nodes) -> dict[str, Any]:
    if nodes.ca_file is None:
        return {}
    context = typed(
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        sni=nodes.name,
        common_tls_context={
            "alpn_protocols": ["h2"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "validation_context": {
                "trusted_ca": {"filename": str(nodes.ca_file)},
                "match_typed_subject_alt_names": [
                    {"san_type": "DNS", "matcher": {"exact": nodes.name}}
                ],
            },
        },
    )
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}}


def _keys(front: Front) -> dict[str, Any]:
    return {
        "name": KEYS,
        "type": "STRICT_DNS",
        "connect_timeout": f"{CONNECT_S}s",
        "load_assignment": assignment(KEYS, front.jwks),
    }


def _xds(address: Address) -> dict[str, Any]:
    return {
        "name": XDS,
        "type": "STRICT_DNS",
        "connect_timeout": f"{CONNECT_S}s",
        "load_assignment": assignment(XDS, address),
        **_http2(),
    }


def _admin(front: Front) -> dict[str, Any]:
    endpoint = {"address": {"pipe": {"path": str(front.admin)}}}
    return {
        "name": ADMIN,
        "type": "STATIC",
        "connect_timeout": f"{CONNECT_S}s",
        "load_assignment": {
            "cluster_name": ADMIN,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
    }


def _http2() -> dict[str, Any]:
    options = typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config={"http2_protocol_options": HTTP2},
    )
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {"typed_extension_protocol_options": {name: options}}


def assignment(cluster: str, *addresses: Address) -> dict[str, Any]:
    """Endpoints of a cluster."""
    endpoints = [{"endpoint": socket_address(address)} for address in addresses]
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": endpoints}]}


def socket_address(address: Address) -> dict[str, Any]:
    """An address in Envoy's form."""
    return {"address": {"socket_address": {"address": address.host, "port_value": address.port}}}
