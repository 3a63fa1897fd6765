"""What a request goes through before it is routed, in this order."""

from __future__ import annotations

import base64
from typing import Any

from chinwag_server.envoy import methods
from chinwag_server.envoy.clusters import KEYS, typed
from chinwag_server.envoy.front import Front

HTTP = "extensions.filters.http"
JWKS_PATH = "/.well-known/jwks.json"
PROVIDER = "chinwag"
# What an API key's secret begins with: it is no JWT, and the node alone knows it.
API_KEY = "Bearer cwk_"
MAX_ADDRESSES = 20_000
COMPRESSED = (
    "application/json",
    "application/javascript",
    "image/svg+xml",
    "text/css",
    "text/html",
    "text/javascript",
)


def http_filters(front: Front) -> list[dict[str, Any]]:
    """All of them. gRPC-Web and JSON become gRPC first, so that what follows (also a refusal) is
    the same for all; then the cheap refusals, then the token."""
    found = [
        _filter("cors", typed(f"{HTTP}.cors.v3.Cors")),
        _filter("compressor", _compressor()),
        _filter("grpc_web", typed(f"{HTTP}.grpc_web.v3.GrpcWeb")),
        _filter("grpc_json_transcoder", _transcoder()),
    ]
    if front.limits.requests_per_second:
        found.append(_filter("local_ratelimit", _rate_limit(front)))
    found += [
        _filter("jwt_authn", _jwt(front)),
        _filter("grpc_stats", _stats()),
        router(),
    ]
    return found


def router() -> dict[str, Any]:
    """The last filter."""
    return _filter("router", typed(f"{HTTP}.router.v3.Router", suppress_envoy_headers=True))


def _filter(name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"name": f"envoy.filters.http.{name}", "typed_config": config}


def _compressor() -> dict[str, Any]:
    # Never gRPC: its messages are small, and a stream would wait for the compressor's block.
    return typed(
        f"{HTTP}.compressor.v3.Compressor",
        response_direction_config={
            "common_config": {"min_content_length": 1024, "content_type": list(COMPRESSED)},
            "remove_accept_encoding_header": True,
        },
        compressor_library={
            "name": "gzip",
            "typed_config": typed(
                "extensions.compression.gzip.compressor.v3.Gzip", memory_level=5, window_bits=12
            ),
        },
    )


def _transcoder() -> dict[str, Any]:
    return typed(
        f"{HTTP}.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor_bin=base64.b64encode(methods.descriptor_set()).decode(),
        services=methods.services(),
        convert_grpc_status=True,
        print_options={"always_print_enums_as_ints": False},
    )


def _rate_limit(front: Front) -> dict[str, Any]:
    limits = front.limits
    bucket = {
        "max_tokens": limits.requests_burst,
        "tokens_per_fill": limits.requests_per_second,
        "fill_interval": "1s",
    }
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return typed(
        f"{HTTP}.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="addresses",
        # Of what has no address of its own, which there is not.
        token_bucket={"max_tokens": 1 << 30, "tokens_per_fill": 1 << 30, "fill_interval": "1s"},
        filter_enabled={"runtime_key": "addresses.enabled", **always},
        filter_enforced={"runtime_key": "addresses.enforced", **always},
        # A bucket for each address, made as it comes.
        rate_limits=[{"actions": [{"remote_address": {}}]}],
        descriptors=[{"entries": [{"key": "remote_address"}], "token_bucket": bucket}],
        max_dynamic_descriptors=MAX_ADDRESSES,
        # By gRPC it is RESOURCE_EXHAUSTED, not UNAVAILABLE.
        rate_limited_as_resource_exhausted=True,
    )


def _jwt(front: Front) -> dict[str, Any]:
    anonymous = [method.path for method in methods.methods() if method.anonymous]
    authorization = {"name": "authorization", "string_match": {"prefix": API_KEY}}
    rules: list[dict[str, Any]] = [{"match": {"path": path}} for path in anonymous]
    rules += [{"match": {"prefix": f"/{name}/"}} for name in methods.OPEN_SERVICES]
    rules += [
        {"match": {"prefix": f"/{name}/", "headers": [authorization]}}
        for name in methods.services()
    ]
    rules += [
        {"match": {"prefix": f"/{name}/"}, "requires": {"provider_name": PROVIDER}}
        for name in methods.services()
    ]
    provider = {
        "issuer": front.issuer,
        "audiences": [front.issuer],
        "forward": True,
        # Nowhere else: neither a cookie nor the query, which others can make a browser send.
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "remote_jwks": {
            "http_uri": {
                "uri": f"http://{front.jwks}{JWKS_PATH}",
                "cluster": KEYS,
                "timeout": "5s",
            },
            "cache_duration": "300s",
            "async_fetch": {"failed_refetch_duration": "1s"},
            "retry_policy": {"num_retries": 3},
        },
    }
    return typed(
        f"{HTTP}.jwt_authn.v3.JwtAuthentication", providers={PROVIDER: provider}, rules=rules
    )


def _stats() -> dict[str, Any]:
    return typed(f"{HTTP}.grpc_stats.v3.FilterConfig", stats_for_all_methods=False)
