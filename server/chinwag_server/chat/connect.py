"""Carries a device's stream over a server core whose handlers are coroutines.

A core that works by callbacks gives `Streams.open` a `Sink` of its own instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from chinwag_server.chat.stream import DeviceStream
from chinwag_server.chat.streams import Streams
from chinwag_server.rpc.caller import Caller

Write = Callable[[bytes], Awaitable[None]]

# How long a closed stream's last frame may wait for a reader that does not read.
FINISH_TIMEOUT_S = 5.0


class WriterSink:
    """A `Sink` over an awaited write: one write at a time, a task only while there is one."""

    __slots__ = ("_data", "_finishing", "_handler", "_task", "_write", "finished", "stream")

    def __init__(self, write: Write, handler: asyncio.Task[None]) -> None:
        self._write = write
        self._handler = handler
        self._data: bytes | None = None
        self._task: asyncio.Task[None] | None = None
        self._finishing = False
        self.finished = False
        self.stream: DeviceStream | None = None

    @property
    def writable(self) -> bool:
        return self._data is None and not self.finished

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
                    self.stream.outbox.on_writable()
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


async def serve_stream(
    streams: Streams, caller: Caller, incoming: AsyncIterator[bytes], write: Write
) -> None:
    """Runs a device's stream until either side ends it.

    Raises:
        Refusal: The status with which the call ends, if it is not OK.
    """
    handler = asyncio.current_task()
    assert handler is not None
    sink = WriterSink(write, handler)
    stream = streams.open(caller, sink)
    sink.stream = stream
    try:
        async for data in incoming:
            await stream.receive(data)
    except asyncio.CancelledError:
        if not sink.finished or not stream.closed:
            raise
        handler.uncancel()
    finally:
        stream.gone()
        sink.abandon()
    if stream.refusal is not None:
        raise stream.refusal
