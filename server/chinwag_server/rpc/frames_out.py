"""Frames of a stream on their way out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

# Frames that wait for a slow reader; above it, what it sends is not read either.
MAX_WAITING = 64

Frame = TypeVar("Frame", bound=Message)


class FramesOut(Generic[Frame]):
    """Frames that wait to be written; what comes together goes in one frame, as long as that
    keeps the order of handling.

    Args:
        frame_type: The message that is a frame.
        order: Its fields in the order in which a client handles them; `close` is the last.
        repeated: Those of them that hold many, each with how many at most.
    """

    def __init__(
        self, frame_type: type[Frame], order: Sequence[str], repeated: dict[str, int]
    ) -> None:
        self._frame_type = frame_type
        self._order = tuple(order)
        self._repeated = repeated
        self._frames: deque[Frame] = deque()
        self._place = 0
        self._ready = asyncio.Event()
        self._taken = asyncio.Event()
        self._ended = False

    def add(self, field: str, value: Any) -> None:
        """Queues one field's value."""
        if self._ended:
            return
        place = self._order.index(field)
        frame = self._frames[-1] if self._frames else None
        most = self._repeated.get(field, 0)
        if (
            frame is None
            or place < self._place
            or (place == self._place and (not most or len(getattr(frame, field)) >= most))
        ):
            frame = self._frame_type()
            self._frames.append(frame)
        self._place = place
        if most:
            getattr(frame, field).append(value)
        else:
            getattr(frame, field).CopyFrom(value)
        self._ready.set()

    def drop(self) -> None:
        """Leaves out what waits."""
        self._frames.clear()

    def end(self) -> None:
        """Takes nothing more; what waits is written."""
        self._ended = True
        self._ready.set()

    async def next(self) -> Frame | None:
        """The next frame; None: it was the last."""
        while (frame := self._next()) is None:
            if self._ended:
                return None
            self._ready.clear()
            await self._ready.wait()
        self._taken.set()
        return frame

    def _next(self) -> Frame | None:
        return self._frames.popleft() if self._frames else None

    async def room(self) -> None:
        """Waits until fewer frames wait."""
        while len(self._frames) >= MAX_WAITING and not self._ended:
            self._taken.clear()
            await self._taken.wait()
