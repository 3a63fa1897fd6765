"""A gRPC server for servicers that generated code registers.

A method is found by its "Path" ("Requests" in the gRPC protocol document), and one that there is
not is UNIMPLEMENTED.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from chinwag_server.wire.call import Call
from chinwag_server.wire.dispatch import Dispatch
from chinwag_server.wire.handlers import Method, MethodHandler, Middleware
from chinwag_server.wire.limits import Limits
from chinwag_server.wire.listener import Listener, Tls
from chinwag_server.wire.metadata import Metadata
from chinwag_server.wire.status import Code


class CallDetails(NamedTuple):
    """What a generic handler is told of a call (`grpc.HandlerCallDetails`)."""

    method: str
    invocation_metadata: Metadata


class GenericHandler(Protocol):
    """Finds the handlers of methods by their paths (`grpc.GenericRpcHandler`)."""

    def service(self, details: Any, /) -> MethodHandler | None: ...


class Server:
    """Serves methods; give it to a generated `add_...Servicer_to_server(servicer, server)`.

    Args:
        middleware: Wraps each call, the first one outermost.
        is_trusted: Whether an address is a proxy's; see `Limits.for_proxy`.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        middleware: Sequence[Middleware] = (),
        is_trusted: Callable[[str], bool] = lambda _address: False,
    ) -> None:
        self._limits = limits or Limits()
        self._middleware = tuple(middleware)
        self._is_trusted = is_trusted
        self._methods: dict[str, Method] = {}
        self._generic: list[GenericHandler] = []
        self._listener: Listener | None = None

    # --- called by generated code ---

    def add_generic_rpc_handlers(self, handlers: Sequence[GenericHandler]) -> None:
        """Takes handlers that are asked for each method that is not known otherwise: code of
        older generators registers no other way."""
        self._generic += handlers

    def add_registered_method_handlers(
        self, service_name: str, handlers: Mapping[str, MethodHandler]
    ) -> None:
        """Takes a service's methods.

        Raises:
            ValueError: One of them is registered already.
        """
        for name, handler in handlers.items():
            path = f"/{service_name}/{name}"
            if path in self._methods:
                raise ValueError(f"{path} is registered twice")
            self._methods[path] = Method(path, handler)

    # --- serving ---

    async def listen(self, host: str, port: int = 0, *, tls: Tls | None = None) -> int:
        """Serves at an address; gives the port. May be called more than once.

        Raises:
            OSError: The port is taken, or the address is not this machine's.
        """
        return await self._listening().listen(host, port, tls)

    async def listen_unix(self, path: str | Path) -> None:
        """Serves at a Unix socket."""
        await self._listening().listen_unix(path)

    def _listening(self) -> Listener:
        if self._listener is None:
            self._listener = Listener(
                Dispatch(self._open), self._limits, is_trusted=self._is_trusted
            )
        return self._listener

    def _open(self, call: Call) -> None:
        method = self._methods.get(call.path) or self._find(call)
        if method is None:
            call.finish(Code.UNIMPLEMENTED, f"there is no method {call.path}")
            call.stream.connection.charge_reset()
        else:
            method.open(call, self._middleware)

    def _find(self, call: Call) -> Method | None:
        details = CallDetails(call.path, call.metadata)
        for generic in self._generic:
            handler = generic.service(details)
            if handler is not None:
                method = self._methods[call.path] = Method(call.path, handler)
                return method
        return None

    async def stop(self, grace_s: float = 0.0) -> None:
        """Takes no new calls, lets running ones end for so long, and ends the others."""
        if self._listener is not None:
            await self._listener.stop(grace_s)
            self._listener = None
