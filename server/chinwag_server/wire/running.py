"""A call that a coroutine serves: reading and writing messages by awaiting.

The other way, by callbacks, is to be the call's `Receiver` oneself. "Timeout" of the gRPC protocol
document ends it with DEADLINE_EXCEEDED, and RST_STREAM (RFC 9113, 6.4) by cancelling the coroutine.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final
from weakref import WeakKeyDictionary

from chinwag_server.wire.call import Call
from chinwag_server.wire.status import CallError, Code

# Tasks that are cancelled in one turn of the loop.
_TURN: Final = 32


class _Cancelling:
    """Cancels a loop's tasks, a few a turn: when a connection ends with a thousand calls, what each
    of them does at its end must not hold up everybody else."""

    def __init__(self) -> None:
        self._due: deque[asyncio.Task[None]] = deque()
        self._left = _TURN

    def cancel(self, task: asyncio.Task[None]) -> None:
        """Now, or soon."""
        if self._left == _TURN:
            task.get_loop().call_soon(self._next_turn)
        if self._left:
            self._left -= 1
            task.cancel()
        else:
            self._due.append(task)

    def _next_turn(self) -> None:
        self._left = _TURN
        for _ in range(min(_TURN, len(self._due))):
            self.cancel(self._due.popleft())


_cancelling: WeakKeyDictionary[asyncio.AbstractEventLoop, _Cancelling] = WeakKeyDictionary()


def _cancel(task: asyncio.Task[None]) -> None:
    loop = task.get_loop()
    cancelling = _cancelling.get(loop)
    if cancelling is None:
        cancelling = _cancelling[loop] = _Cancelling()
    cancelling.cancel(task)


class CallOver(Exception):
    """The call was ended by the other side: nothing that is written reaches anybody."""


class Running:
    """A call's receiver for one task.

    One message is kept ready; while the task does not take it, the client's window closes.

    Attributes:
        ended_by: How the call was ended, if not by the handler.
    """

    __slots__ = (
        "_ended",
        "_message",
        "_on_refused",
        "_reader",
        "_task",
        "_timer",
        "_writer",
        "call",
        "ended_by",
    )

    def __init__(
        self, call: Call, on_refused: Callable[[Call, CallError], None] | None = None
    ) -> None:
        self.call = call
        self.ended_by: Code | None = None
        self._on_refused = on_refused
        self._message: bytes | None = None
        self._ended = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        call.receiver = self

    @property
    def running(self) -> bool:
        """Whether the handler is at work."""
        return self._task is not None and not self._task.done()

    @property
    def cancelled(self) -> bool:
        """Whether somebody wants the handler to end."""
        return self._task is not None and bool(self._task.cancelling())

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs the handler: `work` catches what it may raise and finishes the call."""
        self._task = asyncio.ensure_future(work)
        self._task.add_done_callback(self._done)
        return self._task

    def end_after(self, timeout_s: float) -> None:
        """Ends the call with DEADLINE_EXCEEDED after a time, and cancels the handler."""
        self._timer = asyncio.get_running_loop().call_later(timeout_s, self._expired)

    # --- of the handler ---

    async def read(self) -> bytes | None:
        """The next message; None: the client has sent all."""
        if not self._ready():
            self.call.release()
            if not self._ready():
                self._reader = asyncio.get_running_loop().create_future()
                try:
                    await self._reader
                finally:
                    self._reader = None
        message, self._message = self._message, None
        return message

    def _ready(self) -> bool:
        return self._message is not None or self._ended

    async def messages(self) -> AsyncIterator[bytes]:
        """All messages until the client has sent all."""
        while (message := await self.read()) is not None:
            yield message

    async def write(self, data: bytes, *, plain: bool = False) -> None:
        """Sends a message, when those before it have left.

        Raises:
            CallOver: The client is gone.
        """
        call = self.call
        while not call.room() and not call.over:
            if self._writer is None:
                self._writer = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._writer)
        if call.over:
            raise CallOver
        call.send(data, plain=plain)

    # --- of the call ---

    def message(self, data: bytes) -> None:
        self._message = data
        self.call.hold()
        self._wake_reader()

    def half_closed(self) -> None:
        self._ended = True
        self._wake_reader()

    def writable(self) -> None:
        if self._writer is not None:
            if not self._writer.done():
                self._writer.set_result(None)
            self._writer = None

    def gone(self, code: Code) -> None:
        self._stop(code)

    def refused(self, error: CallError) -> None:
        if self._on_refused is not None:
            self._on_refused(self.call, error)
        self.call.finish(error.code, error.message)
        self._stop(Code(error.code))

    def _expired(self) -> None:
        if not self.call.over:
            self.call.finish(Code.DEADLINE_EXCEEDED, "the call took longer than it may")
            self._stop(Code.DEADLINE_EXCEEDED)

    def _stop(self, code: Code) -> None:
        if self.ended_by is None:
            self.ended_by = code
        self.writable()
        if self._task is not None:
            _cancel(self._task)

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _done(self, _task: asyncio.Task[None]) -> None:
        self._task = self._message = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
