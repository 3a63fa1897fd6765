"""ChatService on a node of many: calls about a channel run where it is owned."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import Message as ProtobufMessage

from chinwag_server.chat.routed.calls import METHODS, RoutedCalls
from chinwag_server.chat.servicer import ChatServicer, Serving
from chinwag_server.rpc.caller import current_caller

Method = Callable[[Any, ProtobufMessage, Any], Awaitable[ProtobufMessage]]


class RoutedServicer(ChatServicer):
    """The methods of ChatService. Those about a channel are in `METHODS`; the others (Connect,
    Sync, ListChannels, StreamEvents) are about a user or all, and run here."""

    def __init__(self, serving: Serving, local: ChatServicer, calls: RoutedCalls) -> None:
        """`serving` is for what runs here, `local` for calls about channels owned here."""
        super().__init__(serving)
        self._local = local
        self._calls = calls


def _routed(method: str) -> Method:
    async def call(self: RoutedServicer, request: ProtobufMessage, context: Any) -> ProtobufMessage:
        async def local() -> ProtobufMessage:
            answer: ProtobufMessage = await getattr(self._local, method)(request, context)
            return answer

        return await self._calls.call(method, current_caller(), request, local)

    call.__name__ = method
    return call


for _method in METHODS:
    setattr(RoutedServicer, _method, _routed(_method))
