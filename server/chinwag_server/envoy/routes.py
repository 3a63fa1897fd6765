"""What becomes of a request: a call of the contract, a file of the page, or nothing."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from chinwag_server.envoy import methods
from chinwag_server.envoy.clusters import ADMIN, NODES
from chinwag_server.envoy.front import File, Front

# Longer than the longest wait of Sync, 60 s, and than a node's own deadline of a call.
UNARY_S = 75
# A request that certainly was not handled may be tried elsewhere; of any other the client decides.
UNHANDLED = "connect-failure,refused-stream"
# The whole page may be so large.
PAGE_BYTES = 4 << 20

PAGE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


def public(front: Front) -> dict[str, Any]:
    """The routes for clients."""
    routes = [*_calls(), *(_file(path, file) for path, file in sorted(front.page.items()))]
    host: dict[str, Any] = {
        "name": "chinwag",
        "domains": ["*"],
        "routes": routes,
        # A token in a cookie would be sent by any page that names us.
        "request_headers_to_remove": ["cookie"],
        "typed_per_filter_config": {"envoy.filters.http.cors": _cors(front)},
    }
    return {
        "name": "public",
        "max_direct_response_body_size_bytes": PAGE_BYTES,
        "virtual_hosts": [host],
    }


def _calls() -> Iterable[dict[str, Any]]:
    for method in methods.methods():
        if method.streams:
            # A stream lives for days. Its own pings notice a dead peer; Envoy must not.
            route: dict[str, Any] = {
                "cluster": NODES,
                "timeout": "0s",
                "idle_timeout": "0s",
                "retry_policy": _retry(UNHANDLED),
            }
        elif method.retriable:
            # A try that takes long may be a wait that was asked for: it is not cut short.
            route = {**_unary(), "retry_policy": _retry(f"{UNHANDLED},reset,unavailable")}
        else:
            continue
        yield {"name": method.path, "match": {"path": method.path}, "route": route}
    for name in methods.services():
        yield {
            "name": name,
            "match": {"prefix": f"/{name}/"},
            "route": {**_unary(), "retry_policy": _retry(UNHANDLED)},
        }
    for name in methods.OPEN_SERVICES:
        yield {
            "name": name,
            "match": {"prefix": f"/{name}/"},
            "route": {"cluster": NODES, "timeout": "0s", "idle_timeout": "300s"},
        }


def _unary() -> dict[str, Any]:
    return {
        "cluster": NODES,
        "timeout": f"{UNARY_S}s",
        "idle_timeout": f"{UNARY_S}s",
        # The client's own deadline counts where it is shorter.
        "max_stream_duration": {"grpc_timeout_header_max": f"{UNARY_S}s"},
    }


def _retry(when: str) -> dict[str, Any]:
    return {
        "retry_on": when,
        "num_retries": 2,
        "retry_back_off": {"base_interval": "0.05s", "max_interval": "0.5s"},
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host."
                    "previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 3,
    }


def _file(path: str, file: File) -> dict[str, Any]:
    headers = {
        "content-type": file.content_type,
        "cache-control": "public, max-age=31536000, immutable" if file.cacheable else "no-cache",
        "content-security-policy": PAGE_CSP,
        "cross-origin-opener-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
    body = base64.b64encode(file.body).decode()
    return {
        "name": f"page {path}",
        "match": {"path": path},
        "direct_response": {"status": 200, "body": {"inline_bytes": body}},
        "response_headers_to_add": [
            {
                "header": {"key": key, "value": value},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
            for key, value in headers.items()
        ],
    }


def _cors(front: Front) -> dict[str, Any]:
    if "*" in front.origins:
        matches: list[dict[str, Any]] = [{"safe_regex": {"regex": ".*"}}]
    else:
        matches = [{"exact": origin} for origin in front.origins]
    return {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": matches,
        "allow_methods": "GET, POST, PUT, PATCH, DELETE",
        "allow_headers": "authorization, content-type, grpc-timeout, x-grpc-web, x-user-agent, "
        "chinwag-on-behalf-of",
        "expose_headers": "grpc-status, grpc-message, grpc-status-details-bin",
        "max_age": "7200",
        # Nothing is authenticated by what a browser sends by itself.
        "allow_credentials": False,
    }


def stats() -> dict[str, Any]:
    """The one route of the statistics' listener."""
    return {
        "name": "stats",
        "virtual_hosts": [
            {
                "name": "stats",
                "domains": ["*"],
                "routes": [
                    {
                        "match": {"path": "/metrics"},
                        "route": {
                            "cluster": ADMIN,
                            "prefix_rewrite": "/stats/prometheus",
                            "timeout": "10s",
                        },
                    }
                ],
            }
        ],
    }
