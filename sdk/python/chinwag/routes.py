"""A gRPC channel over several addresses: stubs are made over it as over any other.

A connection to a node is opened when it is first needed. A unary call that does not reach one node
is made at the next one at once, so what fails with it has failed everywhere, and the back-off
(`calls`) is one over the whole set.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc
from grpc import aio

from chinwag.addresses import Addresses, parse_addresses
from chinwag.endpoints import Endpoints
from chinwag.errors import from_rpc_error
from chinwag.failover import ATTEMPT_SHARE, CONNECT_S, has_changed_nothing, is_away, is_repeatable
from chinwag.transport import Options, Security, open_channel

# What still runs over a connection that is not wanted any more has so long.
GRACE_S = 20.0
# States of a connection that say whether it stands.
DECIDED = (
    grpc.ChannelConnectivity.READY,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    grpc.ChannelConnectivity.SHUTDOWN,
)


class Routes(aio.Channel):
    """One connection a node.

    Args:
        endpoints: The addresses, and which one is to be used.
        security: TLS or not, for all of them.
        options: Of gRPC, beside the SDK's own.

    Attributes:
        endpoints: As given.
    """

    def __init__(self, endpoints: Endpoints, security: Security, options: Options = ()) -> None:
        self.endpoints = endpoints
        self._security = security
        self._options = options
        self._channels: dict[str, aio.Channel] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def to(self, address: str) -> aio.Channel:
        """The connection to a node.

        Raises:
            InsecureAddress: See `Security.credentials`.
        """
        channel = self._channels.get(address)
        if channel is None:
            channel = open_channel(address, self._security, self._options)
            self._channels[address] = channel
        return channel

    def leave(self, address: str) -> None:
        """A stream over this connection has ended: it is kept only if it is the one in use."""
        if address != self.endpoints.current and address in self._channels:
            channel = self._channels.pop(address)
            task = asyncio.ensure_future(channel.close(GRACE_S))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self, grace: float | None = None) -> None:
        """Closes all connections."""
        channels, self._channels = list(self._channels.values()), {}
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*(channel.close(grace) for channel in channels))
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

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

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self.to(self.endpoints.current).get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self.to(self.endpoints.current).wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self.to(self.endpoints.current).channel_ready()


class _Unary:
    """A method of a stub: `await stub.GetChannel(request, timeout=..., metadata=...)`."""

    def __init__(self, routes: Routes, method: str, args: Any, more: Any) -> None:
        self._routes = routes
        self._method = method
        self._args, self._more = args, more
        # By the connection too: one that was closed and opened again has methods of its own.
        self._calls: dict[str, tuple[aio.Channel, Any]] = {}

    async def __call__(self, request: Any, *, timeout: float | None = None, **more: Any) -> Any:
        """Makes the call at one node after the other, until one answers.

        Raises:
            grpc.RpcError: One refused, none could be reached, or the time is over; or a call that
                must not be made twice broke.
        """
        endpoints = self._routes.endpoints
        end = None if timeout is None else time.monotonic() + timeout
        repeatable = is_repeatable(request)
        order = endpoints.order()
        for address in order:
            is_last = address == order[-1]
            left = None if end is None else max(end - time.monotonic(), 0.001)
            if not is_last and not repeatable and not await self._is_connected(address, left):
                endpoints.failed(address)
                continue
            if left is not None and not is_last and repeatable:
                left *= ATTEMPT_SHARE
            try:
                answer = await self._to(address)(request, timeout=left, **more)
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

    async def _is_connected(self, address: str, left_s: float | None) -> bool:
        limit_s = CONNECT_S if left_s is None else min(CONNECT_S, left_s / 2)
        channel = self._routes.to(address)
        try:
            async with asyncio.timeout(limit_s):
                while (state := channel.get_state(try_to_connect=True)) not in DECIDED:
                    await channel.wait_for_state_change(state)
        except TimeoutError:
            return False
        return state is grpc.ChannelConnectivity.READY

    def _to(self, address: str) -> Any:
        channel = self._routes.to(address)
        known = self._calls.get(address)
        if known is None or known[0] is not channel:
            known = (channel, channel.unary_unary(self._method, *self._args, **self._more))
            self._calls[address] = known
        return known[1]


def open_routes(addresses: Addresses, security: Security, *, options: Options = ()) -> Routes:
    """A channel over one address or several.

    Raises:
        ValueError: See `parse_addresses`.
        InsecureAddress: See `Security.credentials`.
    """
    parsed = parse_addresses(addresses)
    for address in parsed:
        security.credentials(address)
    endpoints = Endpoints(parsed, rng=random.Random(), monotonic=time.monotonic)
    return Routes(endpoints, security, options)
