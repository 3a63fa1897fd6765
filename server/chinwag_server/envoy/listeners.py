"""Where Envoy listens: for clients, one port for everything; for Prometheus, if it is wanted."""

from __future__ import annotations

from typing import Any

from chinwag_server.envoy import filters, routes
from chinwag_server.envoy.clusters import BUFFER_BYTES, HTTP2, socket_address, typed
from chinwag_server.envoy.front import Bridge, Front, Listen

NETWORK = "extensions.filters.network"
MODULE = "chinwag_bridge"
# Of a day without a request a keep-alive connection is told goodbye; streams are not idle.
IDLE_S = 3600
HEAD_S = 10
MAX_STREAMS = 1000

# No query: a client may have put into it what it should not have. No header that holds a token.
ACCESS_LOG = {
    "time": "%START_TIME%",
    "address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "received_bytes": "%BYTES_RECEIVED%",
    "sent_bytes": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "upstream": "%UPSTREAM_HOST%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "user_agent": "%REQ(USER-AGENT)%",
}


def listeners(front: Front) -> list[dict[str, Any]]:
    """All of them."""
    found = [
        _public(front, listen, f"public{number or ''}")
        for number, listen in enumerate(front.listen)
    ]
    if front.stats is not None:
        manager = typed(
            f"{NETWORK}.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix="stats",
            route_config=routes.stats(),
            http_filters=[filters.router()],
        )
        found.append(
            {
                "name": "stats",
                **socket_address(front.stats),
                "filter_chains": [{"filters": [_manager(manager)]}],
            }
        )
    return found


def _public(front: Front, listen: Listen, name: str) -> dict[str, Any]:
    chain: dict[str, Any] = {"filters": [_manager(_http(front, name))]}
    if front.bridge is not None:
        chain["filters"].insert(0, _bridge(front, front.bridge))
    if listen.tls is not None:
        context = typed(
            "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            common_tls_context={
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "tls_certificates": [
                    {
                        "certificate_chain": {"filename": str(listen.tls.cert_file)},
                        "private_key": {"filename": str(listen.tls.key_file)},
                    }
                ],
            },
        )
        chain["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": context,
        }
        chain["transport_socket_connect_timeout"] = f"{HEAD_S}s"
    return {
        "name": name,
        **socket_address(listen.address),
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "filter_chains": [chain],
    }


def _bridge(front: Front, bridge: Bridge) -> dict[str, Any]:
    config = {
        "allowed_origins": ",".join(front.origins),
        "ping_interval_s": bridge.ping_interval_s,
        "dead_after_s": bridge.dead_after_s,
        "handshake_timeout_s": HEAD_S,
        "max_message_bytes": bridge.max_message_bytes,
        "max_buffered_bytes": BUFFER_BYTES,
        "drain_spread_s": bridge.drain_spread_s,
    }
    value = "".join(f"{key} = {text}\n" for key, text in config.items())
    return {
        "name": "grpc_websockets",
        "typed_config": typed(
            f"{NETWORK}.dynamic_modules.v3.DynamicModuleNetworkFilter",
            dynamic_module_config={"name": MODULE, "do_not_close": True},
            filter_name="grpc_websockets",
            filter_config={
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": value,
            },
        ),
    }


def _manager(config: dict[str, Any]) -> dict[str, Any]:
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def _http(front: Front, name: str) -> dict[str, Any]:
    return typed(
        f"{NETWORK}.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        codec_type="AUTO",
        route_config=routes.public(front),
        http_filters=filters.http_filters(front),
        access_log=_access_log(front.access_log),
        local_reply_config={"mappers": [_exhausted()]},
        server_name="chinwag",
        use_remote_address=True,
        xff_num_trusted_hops=front.trusted_hops,
        skip_xff_append=False,
        generate_request_id=True,
        # What two readers could read in two ways is refused.
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        common_http_protocol_options={
            "idle_timeout": f"{IDLE_S}s",
            "headers_with_underscores_action": "REJECT_REQUEST",
            "max_headers_count": 100,
        },
        http2_protocol_options={
            **HTTP2,
            "max_concurrent_streams": MAX_STREAMS,
            # Who resets or sends empty frames without end costs us, and nobody else.
            "max_consecutive_inbound_frames_with_empty_payload": 10,
        },
        # Neither ends a stream that lives for days: routes say what calls may take.
        stream_idle_timeout="0s",
        request_timeout="0s",
        request_headers_timeout=f"{HEAD_S}s",
        drain_timeout="5s",
        delayed_close_timeout="1s",
    )


def _exhausted() -> dict[str, Any]:
    """By gRPC-Web a refused rate is RESOURCE_EXHAUSTED too: made of the HTTP status, it would be
    UNAVAILABLE, and so be tried again at once."""
    status = {"default_value": 429, "runtime_key": "chinwag.exhausted"}
    # JSON and gRPC-Web are both gRPC by now, and this tells one from the other.
    web = {"name": "x-grpc-web", "present_match": True}
    headers = {"grpc-status": "8", "content-type": "application/grpc"}
    return {
        "filter": {
            "and_filter": {
                "filters": [
                    {"status_code_filter": {"comparison": {"op": "EQ", "value": status}}},
                    {"header_filter": {"header": web}},
                ]
            }
        },
        "status_code": 200,
        "body": {"inline_string": ""},
        "headers_to_add": [
            {
                "header": {"key": key, "value": value},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
            for key, value in headers.items()
        ],
    }


def _access_log(path: str) -> list[dict[str, Any]]:
    if not path:
        return []
    config = typed(
        "extensions.access_loggers.file.v3.FileAccessLog",
        path=path,
        log_format={"json_format": ACCESS_LOG},
    )
    return [{"name": "envoy.access_loggers.file", "typed_config": config}]
