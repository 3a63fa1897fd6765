"""What a server serves: the methods that generated code registers.

A `Registry` is the `server` argument of the generated `add_...Servicer_to_server(servicer,
server)`. It keeps what each method is (its kind, its messages, who may call it, what runs it) and
knows nothing of what will serve it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from chinwag.common.v1 import options_pb2


class Handler(Protocol):
    """What generated code makes of a servicer's method (`grpc.RpcMethodHandler`)."""

    request_streaming: bool
    response_streaming: bool
    unary_unary: Any
    unary_stream: Any
    stream_unary: Any
    stream_stream: Any


@dataclass(slots=True, frozen=True)
class Access:
    """Who may call a method; see `chinwag.common.v1.Access`.

    Attributes:
        scope: What an API key needs; empty: no API key may call it.
    """

    anonymous: bool = False
    scope: str = ""
    api_key_only: bool = False


@dataclass(slots=True, frozen=True)
class Method:
    """A method that can be called.

    Attributes:
        path: "/package.Service/Method".
        raw: The behaviour takes an iterator of bytes and a writer of bytes, and parses itself.
        pushed: The behaviour is a `pushed.OpenStream`: it works by calls, and parses itself.
        infrastructure: Health and reflection: served while draining and without limits.
        behaviour: The servicer's method; None: the servicer does not implement it.
    """

    path: str
    service: str
    name: str
    request_streaming: bool
    response_streaming: bool
    input_type: type[Message]
    output_type: type[Message]
    access: Access
    raw: bool
    pushed: bool
    infrastructure: bool
    behaviour: Callable[..., Any] | None


class Registry:
    """The methods of all services that were registered.

    Args:
        raw_methods: Paths of bidirectional methods whose behaviour is
            `async (incoming: AsyncIterator[bytes], write: Callable[[bytes], Awaitable[None]])`
            instead of the generated signature.
        pushed_methods: Paths of bidirectional methods whose behaviour is a `pushed.OpenStream`.
    """

    def __init__(
        self, raw_methods: Collection[str] = (), pushed_methods: Collection[str] = ()
    ) -> None:
        self._raw = frozenset(raw_methods)
        self._pushed = frozenset(pushed_methods)
        self._methods: dict[str, Method] = {}

    def __iter__(self) -> Iterator[Method]:
        return iter(self._methods.values())

    def get(self, path: str) -> Method | None:
        """The method of a path."""
        return self._methods.get(path)

    @property
    def services(self) -> list[str]:
        """Full names of the services, in the order of registration."""
        return list(dict.fromkeys(method.service for method in self))

    def add(self, adder: Callable[[Any, Any], None], servicer: object) -> None:
        """Registers a servicer by its generated `add_...Servicer_to_server`, which is typed for
        grpcio's servers alone."""
        adder(servicer, self)

    # --- called by generated code ---

    def add_generic_rpc_handlers(self, handlers: Sequence[object]) -> None:
        """Nothing: the same methods come with `add_registered_method_handlers`."""

    def add_registered_method_handlers(
        self, service_name: str, handlers: Mapping[str, Handler]
    ) -> None:
        """Takes a service's methods.

        Raises:
            ValueError: One of them is registered already.
        """
        for name, handler in handlers.items():
            method = self._method(service_name, name, handler)
            if method.path in self._methods:
                raise ValueError(f"{method.path} is registered twice")
            self._methods[method.path] = method

    def _method(self, service: str, name: str, handler: Handler) -> Method:
        path = f"/{service}/{name}"
        descriptor = descriptor_pool.Default().FindMethodByName(f"{service}.{name}")
        infrastructure = service.startswith("grpc.")
        behaviour = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )
        # The generated base servicers are plain functions that raise; whatever is implemented
        # is a coroutine function or an async generator, or is known to be pushed.
        implemented = (
            inspect.iscoroutinefunction(behaviour)
            or inspect.isasyncgenfunction(behaviour)
            or path in self._pushed
        )
        return Method(
            path=path,
            service=service,
            name=name,
            request_streaming=handler.request_streaming,
            response_streaming=handler.response_streaming,
            input_type=message_factory.GetMessageClass(descriptor.input_type),
            output_type=message_factory.GetMessageClass(descriptor.output_type),
            access=Access(anonymous=True) if infrastructure else access_of(descriptor),
            raw=path in self._raw,
            pushed=path in self._pushed,
            infrastructure=infrastructure,
            behaviour=behaviour if implemented else None,
        )


def access_of(descriptor: MethodDescriptor) -> Access:
    """Who may call a method, from its option in the contract."""
    option = descriptor.GetOptions().Extensions[options_pb2.access]
    return Access(option.anonymous, option.scope, option.api_key_only)
