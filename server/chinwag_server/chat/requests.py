"""request_id: a repeat of a call gets the same answer, a repeat with other content is refused."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message as ProtobufMessage

from chinwag_server.chat.store import ChatStore, PutRequest
from chinwag_server.clock import Clock
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal


class HasRequestId(Protocol):
    """A request of a mutating method."""

    request_id: str


Response = TypeVar("Response", bound=ProtobufMessage)
# Gives the writes that remember an answer; they go into the submission that makes it true.
Remember = Callable[[ProtobufMessage], list[PutRequest]]


def content_hash(*parts: bytes) -> bytes:
    """16 bytes that differ when the content does (BLAKE2b, RFC 7693)."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


class Requests:
    """Runs calls once for each request_id."""

    def __init__(self, store: ChatStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._running: dict[tuple[str, str], asyncio.Task[Any]] = {}

    async def once(
        self,
        caller: Caller,
        request: ProtobufMessage,
        response_type: type[Response],
        run: Callable[[Remember], Awaitable[Response]],
        *,
        channel_id: str = "",
    ) -> Response:
        """Runs the call, or gives the answer of its first run.

        Args:
            request: Has a `request_id`; an empty one makes every call a new one.
            run: Does the work. It adds `remember(answer)` to the writes that it submits.
            channel_id: The channel that it is about, if the request does not say.

        Raises:
            Refusal: ID_REUSED.
        """
        request_id: str = request.request_id  # type: ignore[attr-defined]
        if not request_id:
            return await run(lambda _answer: [])
        channel_id = getattr(request, "channel_id", channel_id)
        scope = f"{channel_id}:{caller.user_id or caller.api_key_id}"
        digest = content_hash(
            type(request).__name__.encode(), request.SerializeToString(deterministic=True)
        )
        key = (scope, request_id)
        while (first := self._running.get(key)) is not None:
            await asyncio.wait([first])

        async def once() -> Response:
            stored = await self._store.find_request(scope, request_id)
            if stored is not None:
                if stored.content_hash != digest:
                    raise Refusal(
                        "ID_REUSED",
                        f"request_id {request_id!r} was used with other content within 30 days: "
                        "draw a new one for a new request",
                        metadata={"channel_id": channel_id} if channel_id else None,
                    )
                answer = response_type()
                answer.ParseFromString(stored.response)
                return answer
            return await run(remember)

        def remember(answer: ProtobufMessage) -> list[PutRequest]:
            response, now_us = answer.SerializeToString(), self._clock.time_us()
            return [PutRequest(scope, request_id, digest, response, now_us)]

        def ended(task: asyncio.Task[Response]) -> None:
            del self._running[key]
            if not task.cancelled():
                task.exception()  # nobody may wait for it any more

        running = self._running[key] = asyncio.ensure_future(once())
        running.add_done_callback(ended)
        # Whoever called may go away: what was submitted holds all the same, and until it is stored
        # a repeat must not think that nothing was.
        return await asyncio.shield(running)
