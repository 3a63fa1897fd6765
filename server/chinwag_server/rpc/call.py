"""A call as it passes between a server core and the middleware."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from google.protobuf.message import Message
from google.rpc import status_pb2

REQUEST_ID = "x-request-id"
_MAX_REQUEST_ID = 64


# No secret, and asking the system for one gives up the interpreter's lock: at every call of a flood
# a thread that writes to the store would be woken to find it taken again.
_random = random.Random()


def _new_request_id() -> str:
    return f"{_random.getrandbits(64):016x}"


@dataclass(slots=True, frozen=True)
class Head:
    """What is known of a call before its first message.

    Attributes:
        metadata: Text metadata by lower-case name; of a repeated name the last.
        metadata_bytes: Of all metadata, as HTTP/2 counts: names, values and 32 a field.
        peer: The address of the other end of the connection, without a port.
        time_left_s: Until the client's deadline; None: it gave none.
    """

    metadata: Mapping[str, str]
    metadata_bytes: int
    peer: str
    time_left_s: float | None = None
    request_id: str = field(init=False)

    def __post_init__(self) -> None:
        given = self.metadata.get(REQUEST_ID, "")
        good = 0 < len(given) <= _MAX_REQUEST_ID and given.isascii() and given.isprintable()
        object.__setattr__(self, "request_id", given if good else _new_request_id())


def read_metadata(pairs: Sequence[tuple[str, str | bytes]]) -> tuple[dict[str, str], int]:
    """Metadata as `Head` keeps it, and its size."""
    text: dict[str, str] = {}
    size = 0
    for name, value in pairs:
        size += len(name) + len(value) + 32
        if isinstance(value, str):
            text[name.lower()] = value
    return text, size


class CallFailed(Exception):
    """How a call ends that does not end with OK: for the server core to send."""

    def __init__(self, status: status_pb2.Status, request_id: str) -> None:
        super().__init__(status.message)
        self.status = status
        self.request_id = request_id

    @property
    def trailers(self) -> tuple[tuple[str, str | bytes], ...]:
        """Metadata that ends the call."""
        return (
            ("grpc-status-details-bin", self.status.SerializeToString()),
            (REQUEST_ID, self.request_id),
        )


class PeerGone(Exception):
    """The other end of a call is not there any more."""


class Aborted(Exception):
    """A servicer that was written for grpc.aio ended its call with `context.abort`."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Context:
    """The `context` argument of a servicer's method.

    Our own servicers need none (they use `current_caller` and raise `Refusal`); grpcio's health
    and reflection servicers use this much of it.
    """

    __slots__ = ("_head", "_write")

    def __init__(
        self, head: Head, write: Callable[[Message], Awaitable[None]] | None = None
    ) -> None:
        self._head = head
        self._write = write

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        """The call's text metadata."""
        return tuple(self._head.metadata.items())

    async def write(self, message: Message) -> None:
        """Sends a message; waits for the connection to take it."""
        assert self._write is not None, "the method has no streaming response"
        await self._write(message)

    async def abort(self, code: Any, details: str = "", trailing_metadata: object = ()) -> NoReturn:
        """Ends the call with a `grpc.StatusCode` or its number."""
        number = code if isinstance(code, int) else code.value[0]
        raise Aborted(number, details)
