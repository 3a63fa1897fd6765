"""The whole of Envoy's configuration."""

from __future__ import annotations

from typing import Any

from chinwag_server.envoy.clusters import XDS, clusters, typed
from chinwag_server.envoy.front import Front
from chinwag_server.envoy.listeners import MODULE, listeners


def bootstrap(front: Front) -> dict[str, Any]:
    """A configuration, to be written as JSON."""
    config: dict[str, Any] = {
        "node": {"id": front.node_id, "cluster": "chinwag"},
        # Never a port: who reaches it may end Envoy and read its configuration.
        "admin": {"address": {"pipe": {"path": str(front.admin), "mode": 0o600}}},
        "static_resources": {"listeners": listeners(front), "clusters": clusters(front)},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": typed(
                        "extensions.resource_monitors.downstream_connections.v3."
                        "DownstreamConnectionsConfig",
                        max_active_downstream_connections=front.limits.connections,
                    ),
                }
            ]
        },
    }
    if front.bridge is not None:
        # It hears of drains, of which a network filter is not told.
        config["bootstrap_extensions"] = [
            {
                "name": "chinwag_bridge",
                "typed_config": typed(
                    "extensions.bootstrap.dynamic_modules.v3.DynamicModuleBootstrapExtension",
                    dynamic_module_config={"name": MODULE, "do_not_close": True},
                    extension_name="grpc_websockets",
                ),
            }
        ]
    if front.nodes.xds is not None:
        config["dynamic_resources"] = {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": XDS}}],
            }
        }
    return config
