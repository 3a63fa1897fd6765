"""A gRPC channel over several addresses without asyncio: see `chinwag.routes`."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc

from chinwag.addresses import Addresses, parse_addresses
from chinwag.endpoints import Endpoints
from chinwag.errors import from_rpc_error
from chinwag.failover import ATTEMPT_SHARE, CONNECT_S, has_changed_nothing, is_away, is_repeatable
from chinwag.routes import DECIDED, GRACE_S
from chinwag.transport import Security, open_blocking_channel


class Routes(grpc.Channel):
    """`Routes` without asyncio; may be used from any thread."""

    def __init__(self, endpoints: Endpoints, security: Security) -> None:
        self.endpoints = endpoints
        self._security = security
        self._lock = threading.Lock()
        self._channels: dict[str, grpc.Channel] = {}
        self._closing: dict[threading.Timer, grpc.Channel] = {}

    def to(self, address: str) -> grpc.Channel:
        """The connection to a node."""
        with self._lock:
            channel = self._channels.get(address)
            if channel is None:
                channel = open_blocking_channel(address, self._security)
                self._channels[address] = channel
            return channel

    def leave(self, address: str) -> None:
        """A stream over this connection has ended: it is kept only if it is the one in use."""
        with self._lock:
            if address == self.endpoints.current or address not in self._channels:
                return
            channel = self._channels.pop(address)
            # Closing cancels what runs, so calls of other threads get their time first.
            timer = threading.Timer(GRACE_S, lambda: self._close_left(timer))
            timer.daemon = True
            self._closing[timer] = channel
            timer.start()

    def _close_left(self, timer: threading.Timer) -> None:
        with self._lock:
            channel = self._closing.pop(timer, None)
        if channel is not None:
            channel.close()

    def close(self) -> None:
        """Closes all connections."""
        with self._lock:
            channels = [*self._channels.values(), *self._closing.values()]
            for timer in self._closing:
                timer.cancel()
            self._channels.clear()
            self._closing.clear()
        for channel in channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- what stubs ask ---

    def unary_unary(self, method: str, *args: Any, **more: Any) -> Any:
        return _Unary(self, method, args, more)

    def unary_stream(self, method: str, *args: Any, **more: Any) -> Any:
        return self._of_current("unary_stream", method, args, more)

    def stream_unary(self, method: str, *args: Any, **more: Any) -> Any:
        return self._of_current("stream_unary", method, args, more)

    def stream_stream(self, method: str, *args: Any, **more: Any) -> Any:
        return self._of_current("stream_stream", method, args, more)

    def _of_current(self, kind: str, method: str, args: Any, more: Any) -> Callable[..., Any]:
        def call(*call_args: Any, **call_more: Any) -> Any:
            channel = self.to(self.endpoints.current)
            return getattr(channel, kind)(method, *args, **more)(*call_args, **call_more)

        return call

    def subscribe(
        self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool = False
    ) -> None:
        self.to(self.endpoints.current).subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        self.to(self.endpoints.current).unsubscribe(callback)


class _Unary:
    """A method of a stub: see `chinwag.routes`."""

    def __init__(self, routes: Routes, method: str, args: Any, more: Any) -> None:
        self._routes = routes
        self._method = method
        self._args, self._more = args, more
        self._calls: dict[str, tuple[grpc.Channel, Any]] = {}

    def __call__(self, request: Any, timeout: float | None = None, **more: Any) -> Any:
        endpoints = self._routes.endpoints
        end = None if timeout is None else time.monotonic() + timeout
        repeatable = is_repeatable(request)
        order = endpoints.order()
        for address in order:
            is_last = address == order[-1]
            left = None if end is None else max(end - time.monotonic(), 0.001)
            if not is_last and not repeatable and not self._is_connected(address, left):
                endpoints.failed(address)
                continue
            if left is not None and not is_last and repeatable:
                left *= ATTEMPT_SHARE
            try:
                answer = self._to(address)(request, timeout=left, **more)
            except grpc.RpcError as failure:
                error = from_rpc_error(failure)
                if is_away(error):
                    endpoints.failed(address)
                    if not is_last and (repeatable or has_changed_nothing(error)):
                        continue
                raise
            endpoints.answered(address)
            return answer
        raise AssertionError("the last address returns or raises")

    def _is_connected(self, address: str, left_s: float | None) -> bool:
        limit_s = CONNECT_S if left_s is None else min(CONNECT_S, left_s / 2)
        channel = self._routes.to(address)
        states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
        until = time.monotonic() + limit_s
        channel.subscribe(states.put, try_to_connect=True)
        try:
            while (left_s := until - time.monotonic()) > 0:
                state = states.get(timeout=left_s)
                if state in DECIDED:
                    return state is grpc.ChannelConnectivity.READY
        except queue.Empty:
            pass
        finally:
            channel.unsubscribe(states.put)
        return False

    def _to(self, address: str) -> Any:
        channel = self._routes.to(address)
        known = self._calls.get(address)
        if known is None or known[0] is not channel:
            known = (channel, channel.unary_unary(self._method, *self._args, **self._more))
            self._calls[address] = known
        return known[1]


def open_routes(addresses: Addresses, security: Security) -> Routes:
    """A channel over one address or several: see `chinwag.routes.open_routes`."""
    parsed = parse_addresses(addresses)
    for address in parsed:
        security.credentials(address)
    endpoints = Endpoints(parsed, rng=random.Random(), monotonic=time.monotonic)
    return Routes(endpoints, security)
