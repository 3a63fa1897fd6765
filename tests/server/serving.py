"""A real node in the test's own event loop, and what a test says to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from chinwag_server.config import Settings
from chinwag_server.config.sources import build
from chinwag_server.node import Node

Stub = TypeVar("Stub")


def settings_for(data_dir: Path, **changes: Any) -> Settings:
    """Settings of a test's node: free ports, cheap passwords.

    Args:
        changes: By key with two underscores for the dot: `limits__user_streams=2`.
    """
    values: dict[str, Any] = {
        "data_dir": data_dir,
        "listen.port": 0,
        "account.argon2_memory_kib": 64,
        "account.argon2_passes": 1,
        "deadlines.drain_ms": 5000,
    }
    return build(values | {key.replace("__", "."): value for key, value in changes.items()})


class Served:
    """A running node.

    Attributes:
        target: "127.0.0.1:PORT".
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self.target = f"127.0.0.1:{node.port}"
        self._channels: list[aio.Channel] = []

    def channel(self, credentials: grpc.ChannelCredentials | None = None) -> aio.Channel:
        """A connection of its own; closed at the end of the test."""
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1))
        if credentials is None:
            channel = aio.insecure_channel(self.target, options=options)
        else:
            channel = aio.secure_channel(self.target, credentials, options=options)
        self._channels.append(channel)
        return channel

    def stub(self, make: Callable[[Any], Stub]) -> Stub:
        """A generated stub over a connection of its own."""
        return make(self.channel())

    async def close(self) -> None:
        """Closes the connections and stops the node."""
        for channel in self._channels:
            await channel.close(None)
        await self.node.stop()


def bearer(token: str, *more: tuple[str, str | bytes]) -> tuple[tuple[str, str | bytes], ...]:
    """Call metadata with a token."""
    return (("authorization", f"Bearer {token}"), *more)


def status_of(error: grpc.RpcError) -> status_pb2.Status:
    """The status with details that an error carries; without any if it has none."""
    assert isinstance(error, aio.AioRpcError)
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            assert isinstance(value, bytes)
            return status_pb2.Status.FromString(value)
    return status_pb2.Status(code=error.code().value[0], message=error.details() or "")


def detail(status: status_pb2.Status, kind: Any) -> Any:
    """The detail of a kind that a status carries; an empty one if none."""
    found = kind()
    for packed in status.details:
        if packed.Unpack(found):
            break
    return found


def reason(error: grpc.RpcError) -> str:
    """The reason that an error carries."""
    return str(detail(status_of(error), error_details_pb2.ErrorInfo).reason)


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    """(code, reason) of a call that must fail."""
    try:
        await call
    except aio.AioRpcError as error:
        return error.code(), reason(error)
    raise AssertionError("the call succeeded")
