"""request_id: a repeat of a call gets the same answer, a repeat with other content is refused."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from google.protobuf.message import Message

from chinwag_server.account.records import RequestRecord
from chinwag_server.account.store import AccountStore
from chinwag_server.clock import Clock
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal

Response = TypeVar("Response", bound=Message)
# Gives the rows that remember an answer; they go into the commit that makes it true.
Remember = Callable[[Message], list[RequestRecord]]

SECRET_FIELDS = ("password", "current_password", "new_password")


def content_hash(request: Message) -> bytes:
    """16 bytes that differ when the content does; passwords are left out."""
    copy = type(request)()
    copy.CopyFrom(request)
    for name in SECRET_FIELDS:
        if name in copy.DESCRIPTOR.fields_by_name:
            copy.ClearField(name)
    digest = hashlib.blake2b(digest_size=16, person=b"chinwag request")
    digest.update(type(request).__name__.encode() + b"\0")
    digest.update(copy.SerializeToString(deterministic=True))
    return digest.digest()


def request_id_of(request: Message) -> str:
    """The request_id of a mutating method's request."""
    request_id: str = request.request_id  # type: ignore[attr-defined]
    return request_id


@dataclasses.dataclass(slots=True, frozen=True)
class Place:
    """Where a call's answer is remembered.

    Attributes:
        partition: The user whom the call is about, or "key:" and an API key's id.
        scope: Who calls.
        pair: For calls about two users, the one whose commit decides: the answer stands in it,
            and after it in `partition` too, so that a request_id counts for all methods.
    """

    partition: str
    scope: str
    pair: str = ""

    @property
    def deciding(self) -> str:
        """The partition whose commit holds the answer."""
        return self.pair or self.partition


def place_of(user_id: str, caller: Caller, *, pair: str = "") -> Place:
    """For a call about a user, by themselves or by an API key."""
    return Place(user_id, f"{caller.user_id}:{caller.api_key_id}", pair)


def key_place(caller: Caller) -> Place:
    """For a call about nobody: the API key's own."""
    return Place(f"key:{caller.api_key_id}", caller.api_key_id)


class Requests:
    """Runs calls once for each request_id."""

    def __init__(self, store: AccountStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._running: dict[tuple[str, str, str], asyncio.Future[None]] = {}

    async def once(
        self,
        place: Place,
        request: Message,
        response_type: type[Response],
        run: Callable[[Remember], Awaitable[Response]],
    ) -> Response:
        """Runs the call, or gives the answer of its first run.

        Args:
            request: Has a `request_id`; an empty one makes every call a new one.
            run: Does the work. It adds `remember(answer)` to what it commits.

        Raises:
            Refusal: ID_REUSED.
        """
        async with self.one_at_a_time(place, request):
            if (stored := await self.find(place, request)) is not None:
                answer = response_type()
                answer.ParseFromString(stored.response)
                return answer
            kept: list[RequestRecord] = []

            def remember(answer: Message) -> list[RequestRecord]:
                kept[:] = self.records(place, request, answer.SerializeToString())
                return kept

            answer = await run(remember)
            if place.deciding != place.partition:
                for record in kept:
                    await self._store.put_request(
                        dataclasses.replace(record, partition=place.partition)
                    )
            return answer

    def records(self, place: Place, request: Message, response: bytes) -> list[RequestRecord]:
        """The rows that remember an answer: one, or none without a request_id."""
        if not (request_id := request_id_of(request)):
            return []
        return [
            RequestRecord(
                place.deciding,
                place.scope,
                request_id,
                self._clock.time_us(),
                content_hash(request),
                response,
            )
        ]

    async def find(self, place: Place, request: Message) -> RequestRecord | None:
        """The answer that a request got before.

        Raises:
            Refusal: ID_REUSED.
        """
        if not (request_id := request_id_of(request)):
            return None
        for partition in dict.fromkeys((place.partition, place.deciding)):
            stored = await self._store.request(partition, place.scope, request_id)
            if stored is None:
                continue
            if stored.content_hash != content_hash(request):
                raise Refusal(
                    "ID_REUSED",
                    f"request_id {request_id!r} was used with other content within 30 days: draw "
                    "a new one for a new request",
                )
            return stored
        return None

    @contextlib.asynccontextmanager
    async def one_at_a_time(self, place: Place, request: Message) -> AsyncIterator[None]:
        """Keeps repeats of a request waiting while it runs."""
        if not (request_id := request_id_of(request)):
            yield
            return
        key = (place.partition, place.scope, request_id)
        while (first := self._running.get(key)) is not None:
            await asyncio.shield(first)
        running: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running[key] = running
        try:
            yield
        finally:
            del self._running[key]
            running.set_result(None)
