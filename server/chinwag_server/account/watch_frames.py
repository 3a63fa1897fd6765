"""Frames of AccountService.Watch on their way out."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.common.v1 import close_pb2
from chinwag_server.rpc.errors import Refusal

FRAME_EVENTS = 100
# Frames that wait for a slow reader; above it, what it sends is not read either.
MAX_WAITING = 64

Reason = close_pb2.CloseReason

# The order in which a client handles the fields of a frame.
_ORDER = ("welcome", "token_renewed", "events", "errors", "caught_up", "pong", "close")


class Outgoing:
    """Frames that wait to be written; what comes together goes in one frame, as long as that
    keeps the order of handling."""

    def __init__(self) -> None:
        self._frames: deque[pb.WatchResponse] = deque()
        self._place = 0
        self._ready = asyncio.Event()
        self._taken = asyncio.Event()
        self._ended = False

    def add(self, field: str, value: Any) -> None:
        """Queues one field's value."""
        if self._ended:
            return
        place = _ORDER.index(field)
        frame = self._frames[-1] if self._frames else None
        repeated = field in ("events", "errors")
        if (
            frame is None
            or place < self._place
            or (place == self._place and not repeated)
            or len(frame.events) >= FRAME_EVENTS
        ):
            frame = pb.WatchResponse()
            self._frames.append(frame)
        self._place = place
        if repeated:
            getattr(frame, field).append(value)
        else:
            getattr(frame, field).CopyFrom(value)
        self._ready.set()

    def end(self, *, drop: bool = False) -> None:
        """Takes nothing more; with `drop`, what waits is left out but for the last frame."""
        if drop:
            while len(self._frames) > 1:
                self._frames.popleft()
        self._ended = True
        self._ready.set()

    async def next(self) -> pb.WatchResponse | None:
        """The next frame; None: it was the last."""
        while not self._frames:
            if self._ended:
                return None
            self._ready.clear()
            await self._ready.wait()
        self._taken.set()
        return self._frames.popleft()

    async def room(self) -> None:
        """Waits until fewer frames wait."""
        while len(self._frames) >= MAX_WAITING and not self._ended:
            self._taken.clear()
            await self._taken.wait()


def closing(
    reason: Reason.ValueType,
    *,
    reconnect: bool,
    refusal: Refusal | None = None,
    jitter_s: int = 0,
) -> close_pb2.Close:
    """A `Close` frame's content."""
    close = close_pb2.Close(reason=reason, reconnect=reconnect)
    if jitter_s:
        close.jitter.FromSeconds(jitter_s)
    if refusal is not None:
        close.status.CopyFrom(refusal.status())
    return close
