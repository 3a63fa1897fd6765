"""The grpc.aio adapter: serves a registry through the middleware with grpcio's server.

All that this server knows of grpc.aio is in this file. Messages pass as bytes: the middleware
parses them.

`GRPC_EXPERIMENTS=-event_engine_listener`, set before grpc is first imported, makes this server
1.7 to 2 times faster; `chinwag serve` sets it.
"""

from __future__ import annotations

import asyncio
import logging
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
from grpc import aio

from chinwag_server.rpc.call import CallFailed, Head, PeerGone, read_metadata
from chinwag_server.rpc.errors import Refusal
from chinwag_server.rpc.listening import AGE_GRACE_MS, ListenOptions, Tls
from chinwag_server.rpc.middleware import Middleware
from chinwag_server.rpc.registry import Method, Registry

log = logging.getLogger(__name__)

_CODES = {code.value[0]: code for code in grpc.StatusCode}
# Above our own limits grpc answers by itself, without a reason; up to there we do.
_SLACK = 2


class GrpcioServer:
    """A grpc.aio server of a registry.

    Attributes:
        port: The bound port, after `start`.
    """

    def __init__(self, registry: Registry, middleware: Middleware, options: ListenOptions) -> None:
        self.port = 0
        self._options = options
        self._middleware = middleware
        self._handlers = {method.path: self._handler(method) for method in registry}
        self._server: aio.Server | None = None

    async def start(self) -> None:
        """Binds the port and serves.

        Raises:
            ListenError: The address may not be used, or the port is taken.
        """
        options = self._options
        options.check()  # grpc says nothing of what is wrong with a file
        server = aio.server(options=_channel_options(options))
        server.add_generic_rpc_handlers((_Handlers(self._handlers),))
        try:
            if options.tls is None:
                self.port = server.add_insecure_port(options.address)
            else:
                self.port = server.add_secure_port(options.address, _credentials(options.tls))
        except RuntimeError as error:
            raise options.in_use() from error
        await server.start()
        self._server = server

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, waits for running ones, at most so long, and ends the others."""
        if self._server is not None:
            await self._server.stop(grace_s)
            self._server = None

    # --- handlers ---

    def _handler(self, method: Method) -> Any:
        if method.request_streaming and method.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._stream_stream(method))
        if method.request_streaming:
            return grpc.stream_unary_rpc_method_handler(self._stream_unary(method))
        if method.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._unary_stream(method))
        return grpc.unary_unary_rpc_method_handler(self._unary_unary(method))

    def _unary_unary(self, method: Method) -> Any:
        async def handle(data: bytes, context: Any) -> bytes:
            async def read() -> bytes:
                return data

            try:
                return await self._middleware.unary(method, _head(context), read)
            except CallFailed as failure:
                await _abort(context, failure)

        return handle

    def _unary_stream(self, method: Method) -> Any:
        async def handle(data: bytes, context: Any) -> None:
            await self._stream(method, _once(data), _writer(context), context)

        return handle

    def _stream_unary(self, method: Method) -> Any:
        async def handle(incoming: AsyncIterator[bytes], context: Any) -> bytes:
            answers: list[bytes] = []

            async def write(data: bytes) -> None:
                answers.append(data)

            await self._stream(method, incoming, write, context)
            return answers[0]

        return handle

    def _stream_stream(self, method: Method) -> Any:
        async def handle(incoming: AsyncIterator[bytes], context: Any) -> None:
            await self._stream(method, incoming, _writer(context), context)

        return handle

    async def _stream(
        self,
        method: Method,
        incoming: AsyncIterator[bytes],
        write: Callable[[bytes], Awaitable[None]],
        context: Any,
    ) -> None:
        try:
            await self._middleware.stream(method, _head(context), incoming, write)
        except CallFailed as failure:
            await _abort(context, failure)


class _Handlers(grpc.GenericRpcHandler):
    """Finds a path's handler; a path that nobody has gets a status with a reason."""

    def __init__(self, handlers: dict[str, Any]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: Any) -> Any:
        path = handler_call_details.method
        path = path.decode() if isinstance(path, bytes) else path
        return self._handlers.get(path) or _unknown


async def _refuse_unknown(_incoming: AsyncIterator[bytes], context: Any) -> None:
    refusal = Refusal("NOT_IMPLEMENTED", "this server has no such method")
    await _abort(context, CallFailed(refusal.status(), _head(context).request_id))


_unknown: Any = grpc.stream_stream_rpc_method_handler(_refuse_unknown)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _writer(context: Any) -> Callable[[bytes], Awaitable[None]]:
    async def write(data: bytes) -> None:
        try:
            await context.write(data)
        except asyncio.CancelledError:
            raise
        except (aio.UsageError, aio.InternalError, RuntimeError) as error:
            raise PeerGone(str(error)) from error

    return write


async def _abort(context: Any, failure: CallFailed) -> NoReturn:
    status = failure.status
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    await context.abort(code, status.message, failure.trailers)
    raise AssertionError("abort raises")


def _head(context: Any) -> Head:
    metadata, size = read_metadata(context.invocation_metadata() or ())
    return Head(metadata, size, peer_address(context.peer()), context.time_remaining())


def peer_address(peer: str) -> str:
    """The address in grpc's name of a peer: "ipv4:1.2.3.4:5", "ipv6:[::1]:5", "unix:..."."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return kind
    return urllib.parse.unquote(rest).rpartition(":")[0].strip("[]")


# --- listening ---


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    key, certificate = tls.key_file.read_bytes(), tls.cert_file.read_bytes()
    client_ca = tls.client_ca_file.read_bytes() if tls.client_ca_file else None
    return grpc.ssl_server_credentials(
        [(key, certificate)],
        root_certificates=client_ca,
        require_client_auth=client_ca is not None,
    )


def _channel_options(options: ListenOptions) -> list[tuple[str, Any]]:
    told: list[tuple[str, Any]] = [
        ("grpc.so_reuseport", 0),  # two servers on one port would share its clients unseen
        ("grpc.max_receive_message_length", options.message_bytes * _SLACK),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", options.metadata_bytes * _SLACK),
        ("grpc.absolute_max_metadata_size", options.metadata_bytes * _SLACK),
        ("grpc.max_concurrent_streams", options.connection_streams),
        ("grpc.keepalive_time_ms", options.keepalive_ms),
        ("grpc.keepalive_timeout_ms", options.ping_timeout_ms),
        ("grpc.http2.ping_timeout_ms", options.ping_timeout_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ]
    if options.age_ms:
        told += [
            ("grpc.max_connection_age_ms", options.age_ms),
            ("grpc.max_connection_age_grace_ms", AGE_GRACE_MS),
        ]
    return told
