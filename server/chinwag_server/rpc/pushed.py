"""Streams that work by calls: bidirectional methods whose frames are parsed by their room.

A device's stream lives for days and mostly waits. So its room is no coroutine: the server core
calls it with each frame, and it sends when it has something. A core whose handlers are
coroutines is bridged by `serve`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from chinwag_server.rpc.errors import Refusal

Write = Callable[[bytes], Awaitable[None]]

# How long a closed stream's last frame may wait for a reader that does not read.
FINISH_TIMEOUT_S = 5.0
# A coroutine core does not say how much it takes.
_ROOM = 1 << 20


class Sink(Protocol):
    """The way to a client, given by the server core that holds its stream."""

    def room(self) -> int:
        """About how many bytes can be sent now; 0: none, and `PushedStream.on_writable` is called
        when that has changed."""

    @property
    def offer(self) -> Callable[[bytes], bool]:
        """Sends one frame if all of it can go at once; whether it has. A function that is kept
        and called for every delivery."""

    def send(self, data: bytes) -> None:
        """Sends one frame; never waits."""

    def finish(self) -> None:
        """Ends the stream after what was sent, with the stream's `refusal` as its status."""


class PushedStream(Protocol):
    """One open stream of a room.

    Attributes:
        refusal: The status with which the call ends; None: OK.
    """

    refusal: Refusal | None

    async def receive(self, data: bytes) -> None:
        """Handles one frame; returns when the next one may come. It is run up to its first real
        wait without a task, so nothing before that may ask for the current one."""

    def on_writable(self) -> None:
        """The sink has room again."""

    def gone(self) -> None:
        """The stream has ended, from either side."""


# A pushed method's behaviour. Raises Refusal.
OpenStream = Callable[[Sink], PushedStream]


class _WriterSink:
    """A `Sink` over an awaited write: one write at a time, a task only while there is one."""

    __slots__ = ("_data", "_finishing", "_handler", "_task", "_write", "finished", "stream")

    def __init__(self, write: Write, handler: asyncio.Task[None]) -> None:
        self._write = write
        self._handler = handler
        self._data: bytes | None = None
        self._task: asyncio.Task[None] | None = None
        self._finishing = False
        self.finished = False
        self.stream: PushedStream | None = None

    def room(self) -> int:
        return _ROOM if self._data is None and not self.finished else 0

    def offer(self, data: bytes) -> bool:
        if self._data is not None or self.finished:
            return False
        self.send(data)
        return True

    def send(self, data: bytes) -> None:
        self._data = data
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        try:
            while self._data is not None:
                await self._write(self._data)
                self._data = None
                if self.stream is not None:
                    self.stream.on_writable()
        except asyncio.CancelledError:
            raise
        except Exception:
            # The peer is gone, or the call has ended: how a write says so differs by core.
            self._end()
        finally:
            self._task = None
            if self._finishing:
                self._end()

    def finish(self) -> None:
        if self._finishing:
            return
        self._finishing = True
        if self._task is None:
            self._end()
        else:
            asyncio.get_running_loop().call_later(FINISH_TIMEOUT_S, self._end)

    def _end(self) -> None:
        if not self.finished:
            self.finished = True
            # The handler waits for the peer's next frame, and nothing else wakes it.
            self._handler.cancel()

    def abandon(self) -> None:
        """The call is over: a write on its way is of no use."""
        self.finished = True
        if self._task is not None:
            self._task.cancel()


async def serve(open_stream: OpenStream, incoming: AsyncIterator[bytes], write: Write) -> None:
    """Runs a stream over a core of coroutines until either side ends it.

    Raises:
        Refusal: The status with which the call ends, if it is not OK.
    """
    handler = asyncio.current_task()
    assert handler is not None
    sink = _WriterSink(write, handler)
    stream = open_stream(sink)
    sink.stream = stream
    try:
        async for data in incoming:
            await stream.receive(data)
    except asyncio.CancelledError:
        if not sink.finished:
            raise
        handler.uncancel()
    finally:
        stream.gone()
        sink.abandon()
    if stream.refusal is not None:
        raise stream.refusal
