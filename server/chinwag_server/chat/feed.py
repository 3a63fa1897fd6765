"""StreamEvents: every entry of every channel, for a team's backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

from chinwag.chat.v1 import chat_service_pb2
from chinwag_server.chat.catchup import Stamp
from chinwag_server.chat.hub import Hub
from chinwag_server.chat.store import ChatStore
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal

PAGE_RANGES = 200
PAGE_BYTES = 512 << 10


class FeedLog(Protocol):
    """What a feed is read from."""

    def read(
        self, request: chat_service_pb2.StreamEventsRequest, wake: Callable[[], None]
    ) -> AsyncGenerator[chat_service_pb2.StreamEventsResponse | None, None]:
        """Batches from the request's cursor on, without an end. None: there is nothing now, and
        `wake` is called when there may be.

        Raises:
            Refusal: CURSOR_EXPIRED.
            StoreUnavailable: It cannot be read now.
        """


class Feed:
    """Who reads a feed, and hands them what is there.

    Args:
        log: None: this server keeps none.
    """

    def __init__(self, log: FeedLog | None) -> None:
        self._log = log
        # Feeds that are open, by the API key that reads them: what ends each.
        self._open: dict[str, set[asyncio.Event]] = {}

    def close_key(self, api_key_id: str) -> None:
        """Ends the feeds of an API key: it was revoked."""
        for woken in self._open.pop(api_key_id, ()):
            woken.set()

    def readers(self) -> list[str]:
        """The ids of the API keys that read a feed."""
        return list(self._open)

    async def stream(
        self, request: chat_service_pb2.StreamEventsRequest, caller: Caller
    ) -> AsyncGenerator[chat_service_pb2.StreamEventsResponse, None]:
        """Batches of entries from the cursor on, without an end.

        Raises:
            Refusal: CURSOR_EXPIRED; DISABLED; SESSION_REVOKED once the key is revoked.
        """
        if self._log is None:
            raise Refusal("DISABLED", "this server keeps no feed: turn mesh.feed on, on all nodes")
        woken = asyncio.Event()
        key = caller.api_key_id
        self._open.setdefault(key, set()).add(woken)
        try:
            async with aclosing(self._log.read(request, woken.set)) as batches:
                while True:
                    if woken not in self._open.get(key, ()):
                        raise Refusal("SESSION_REVOKED", "the API key was revoked")
                    woken.clear()
                    batch = await anext(batches)
                    if batch is None:
                        await woken.wait()
                    else:
                        yield batch
        finally:
            if key in self._open:
                self._open[key].discard(woken)
                if not self._open[key]:
                    del self._open[key]


class StoreFeed:
    """`FeedLog` of a store of one writer, in commit order. A cursor is the stamp of a commit: what
    came before it was handed out whole."""

    def __init__(self, store: ChatStore, hub: Hub) -> None:
        self._store = store
        self._hub = hub

    async def read(
        self, request: chat_service_pb2.StreamEventsRequest, wake: Callable[[], None]
    ) -> AsyncGenerator[chat_service_pb2.StreamEventsResponse | None, None]:
        after = self._start(request)
        only = frozenset(request.channel_ids)
        if request.from_now and not request.cursor:
            # Whoever is cut off before anything happens is to go on from here.
            cursor = str(Stamp(self._store.generation, after))
            yield chat_service_pb2.StreamEventsResponse(cursor=cursor)
        unwatch = self._hub.watch_feed(wake)
        try:
            while True:
                ranges = await self._store.feed(after, PAGE_RANGES)
                if not ranges:
                    yield None
                    continue
                batch = chat_service_pb2.StreamEventsResponse()
                size = 0
                stamp = ranges[0].stamp
                for item in ranges:
                    # A batch ends between commits, so that its cursor covers all it holds.
                    if item.stamp != stamp and size > PAGE_BYTES:
                        break
                    stamp = item.stamp
                    if only and item.channel_id not in only:
                        continue
                    position = item.first_id - 1
                    while position < item.last_id:
                        page = await self._store.entries(
                            item.channel_id, position, item.last_id, 500, PAGE_BYTES
                        )
                        for entry in page:
                            batch.entries.add().ParseFromString(entry.payload)
                            size += len(entry.payload)
                        position = page[-1].id
                        if size > 2 * PAGE_BYTES:
                            # One commit of more than a message may hold: its later parts repeat
                            # the cursor before it, so that a crash between them loses nothing.
                            batch.cursor = str(Stamp(self._store.generation, after))
                            yield batch
                            batch = chat_service_pb2.StreamEventsResponse()
                            size = 0
                after = stamp
                batch.cursor = str(Stamp(self._store.generation, after))
                if batch.entries:
                    yield batch
        finally:
            unwatch()

    def _start(self, request: chat_service_pb2.StreamEventsRequest) -> int:
        if not request.cursor:
            return self._store.stamp if request.from_now else 0
        cursor = Stamp.parse(request.cursor)
        if (
            cursor is None
            or cursor.generation != self._store.generation
            or not 0 <= cursor.number <= self._store.stamp
        ):
            raise expired()
        return cursor.number


def expired() -> Refusal:
    """What a cursor is answered with that names no place in the log."""
    return Refusal(
        "CURSOR_EXPIRED",
        "the cursor is not of this store, or of one that was restored since: start from "
        "the beginning, or from now",
    )
