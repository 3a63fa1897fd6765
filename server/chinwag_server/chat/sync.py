"""Sync: the catch-up of Connect in pages, and the long poll."""

from __future__ import annotations

import asyncio

from chinwag.chat.v1 import chat_service_pb2, connect_pb2
from chinwag_server.chat.catchup import CatchUp, Progress, Wanted
from chinwag_server.chat.entries import timestamp
from chinwag_server.chat.listeners import Listeners
from chinwag_server.clock import Clock
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal

DEFAULT_ENTRIES = 200
MAX_BYTES = 1 << 20


class _Waiter:
    """A waiting Sync: woken by anything that its user's devices would get."""

    def __init__(self, device_id: str) -> None:
        self.device_id = device_id
        self.woken = asyncio.Event()

    def offer(self, channel_id: str, entry_id: int, piece: bytes) -> None:
        self.woken.set()

    def offer_opened(self, channel_id: str, piece: bytes) -> None:
        self.woken.set()

    def offer_gone(self, channel_id: str) -> None:
        self.woken.set()

    def offer_state(self, channel_id: str, piece: bytes) -> None:
        self.woken.set()

    def offer_receipts(self, channel_id: str, piece: bytes) -> None:
        self.woken.set()

    def offer_typing(self, piece: bytes) -> None:
        """Typing is not worth an answer."""


class Sync:
    """Answers what is missing.

    Args:
        max_waiting: Long polls that one user may have open.
    """

    def __init__(
        self, catch_up: CatchUp, listeners: Listeners, clock: Clock, *, max_waiting: int = 20
    ) -> None:
        self._catch_up = catch_up
        self._listeners = listeners
        self._clock = clock
        self._max_waiting = max_waiting
        self._waiting: dict[str, int] = {}

    async def sync(
        self, caller: Caller, request: chat_service_pb2.SyncRequest
    ) -> chat_service_pb2.SyncResponse:
        """What is missing; with a wait, as soon as there is something.

        Raises:
            Refusal: STREAM_LIMIT: too many long polls of this user.
        """
        wait_s = request.wait.ToNanoseconds() / 1e9
        if not wait_s:
            return await self._page(caller, request)
        user_id = caller.user_id
        if self._waiting.get(user_id, 0) >= self._max_waiting:
            raise Refusal(
                "STREAM_LIMIT",
                f"the user has {self._max_waiting} waiting Sync calls, as many as one may have",
                retry_after=wait_s,
            )
        waiter = _Waiter(caller.device_id)
        self._waiting[user_id] = self._waiting.get(user_id, 0) + 1
        # Joined before the first look: what comes between look and wait wakes it all the same.
        self._listeners.join(user_id, waiter)
        looked_at = [cursor.channel_id for cursor in request.cursors]
        for channel_id in looked_at:
            self._listeners.look(channel_id, waiter)
        try:
            await self._listeners.heard(user_id)
            loop = asyncio.get_running_loop()
            end = loop.time() + wait_s
            while True:
                waiter.woken.clear()
                answer = await self._page(caller, request)
                left = end - loop.time()
                if answer.events or answer.receipts or left <= 0:
                    return answer
                try:
                    await asyncio.wait_for(waiter.woken.wait(), left)
                except TimeoutError:
                    return answer
        finally:
            for channel_id in looked_at:
                self._listeners.look_away(channel_id, waiter)
            self._listeners.leave(user_id, waiter)
            if self._waiting[user_id] == 1:
                del self._waiting[user_id]
            else:
                self._waiting[user_id] -= 1

    async def _page(
        self, caller: Caller, request: chat_service_pb2.SyncRequest
    ) -> chat_service_pb2.SyncResponse:
        max_entries = request.max_entries or DEFAULT_ENTRIES
        stamp = self._catch_up.usable(request.resume_stamp)
        # Drawn before the reads: what is committed during them is told again, not missed.
        now = await self._catch_up.moment()
        wanted = Wanted(
            {cursor.channel_id: cursor for cursor in request.cursors},
            stamp,
            request.catch_up_limit,
            request.receipts,
            page_entries=max_entries,
            cursors_only=request.cursors_only,
            was_told=bool(request.resume_stamp),
        )
        frame = connect_pb2.ConnectResponse()
        events = size = 0
        has_more = False
        pieces = self._catch_up.pieces(caller.user_id, wanted, Progress())
        async for piece in pieces:
            if piece.events:
                size += len(piece.data)
                if events and (events + piece.events > max_entries or size > MAX_BYTES):
                    has_more = True
                    break
                events += piece.events
            frame.MergeFromString(piece.data)
        await pieces.aclose()
        return chat_service_pb2.SyncResponse(
            events=frame.events,
            receipts=frame.receipts,
            stamp=request.resume_stamp if has_more or request.cursors_only else str(now),
            has_more=has_more,
            server_time=timestamp(self._clock.time_us()),
        )
