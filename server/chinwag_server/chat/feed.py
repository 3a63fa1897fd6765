"""StreamEvents: every entry of every channel, for a team's backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from chinwag.chat.v1 import chat_service_pb2
from chinwag_server.chat.catchup import CatchUp, Stamp
from chinwag_server.chat.hub import Hub
from chinwag_server.chat.store import ChatStore
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal

PAGE_RANGES = 200
PAGE_BYTES = 512 << 10


class Feed:
    """Reads the log in commit order. A cursor is the stamp of a commit: what came before it was
    handed out whole."""

    def __init__(self, store: ChatStore, catch_up: CatchUp, hub: Hub) -> None:
        self._store = store
        self._catch_up = catch_up
        self._hub = hub
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
            Refusal: CURSOR_EXPIRED; SESSION_REVOKED once the key is revoked.
        """
        after = self._start(request)
        only = frozenset(request.channel_ids)
        woken = asyncio.Event()
        unwatch = self._hub.watch_feed(woken.set)
        key = caller.api_key_id
        self._open.setdefault(key, set()).add(woken)
        try:
            while True:
                if woken not in self._open.get(key, ()):
                    raise Refusal("SESSION_REVOKED", "the API key was revoked")
                woken.clear()
                ranges = await self._store.feed(after, PAGE_RANGES)
                if not ranges:
                    await woken.wait()
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
            if key in self._open:
                self._open[key].discard(woken)
                if not self._open[key]:
                    del self._open[key]

    def _start(self, request: chat_service_pb2.StreamEventsRequest) -> int:
        if not request.cursor:
            return self._store.stamp if request.from_now else 0
        cursor = Stamp.parse(request.cursor)
        if (
            cursor is None
            or cursor.generation != self._store.generation
            or not 0 <= cursor.number <= self._store.stamp
        ):
            raise Refusal(
                "CURSOR_EXPIRED",
                "the cursor is not of this store, or of one that was restored since: start from "
                "the beginning, or from now",
            )
        return cursor.number
