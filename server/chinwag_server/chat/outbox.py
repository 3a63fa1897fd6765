"""What waits to go to one device: pieces of frames, joined into as few frames as possible.

A piece is a serialised part of a `ConnectResponse` (see `frames`). The queue is bounded in
pieces and bytes; a reader for whom it overflows is closed with "resume" and never skipped over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from chinwag_server.rpc.pushed import Sink

# Clients refuse messages of over 4 MiB; 64 to 256 KiB is where a larger frame stops paying.
FRAME_BYTES = 128 << 10
# So much may wait of what is made ready for a device that is catching up.
ENOUGH_BYTES = 256 << 10
LEAST_PAGE_BYTES = 16 << 10
MAX_LINGER_S = 0.02


class Flusher:
    """Flushes all outboxes that got something, together, once a loop turn.

    Under load a turn's flush is put off a little, so that more pieces share a frame and a system
    call: as long as the last flush round took (so that flushing takes at most about half of the
    loop's time), at most 20 ms. On an idle server nothing is put off.
    """

    def __init__(self, *, max_linger_s: float = MAX_LINGER_S) -> None:
        self._loop = asyncio.get_running_loop()
        self._dirty: list[Outbox] = []
        self._armed = False
        self._max_linger_s = max_linger_s
        self._busy_until = 0.0

    def add(self, outbox: Outbox) -> None:
        """Notes an outbox that is not noted yet."""
        self._dirty.append(outbox)
        if not self._armed:
            self._armed = True
            wait = self._busy_until - self._loop.time()
            if wait > 0:
                self._loop.call_later(wait, self._flush)
            else:
                self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        started = self._loop.time()
        dirty, self._dirty = self._dirty, []
        self._armed = False
        for outbox in dirty:
            outbox.scheduled = False
            pieces = outbox.pieces
            # A quiet channel: one event, one frame.
            if (
                len(pieces) == 1
                and not outbox.finishing
                and not outbox.waiting
                and outbox.offer(pieces[0])
            ):
                pieces.clear()
                outbox.size = 0
            else:
                outbox.flush()
        # What the flush has set going (writes, their completions) runs in the next turns: the
        # lag until this callback is the time that it really took.
        self._loop.call_soon(self._measure, started, len(dirty))

    def _measure(self, started: float, flushed: int) -> None:
        if flushed < 4:
            return
        now = self._loop.time()
        self._busy_until = now + min(now - started, self._max_linger_s)


class Outbox:
    """One device's queue.

    Args:
        max_pieces, max_bytes: The bounds.
        on_overflow: Called once, when a piece does not fit.

    Attributes:
        pieces: What waits; size: its bytes.
        scheduled: The flusher has it.
        finishing: Takes nothing more.
        waiting: Producers that wait for room; None: the stream has ended.
    """

    __slots__ = (
        "_flusher",
        "_max_bytes",
        "_max_pieces",
        "_on_overflow",
        "_sink",
        "finishing",
        "offer",
        "pieces",
        "scheduled",
        "size",
        "waiting",
    )

    def __init__(
        self,
        sink: Sink,
        flusher: Flusher,
        *,
        max_pieces: int,
        max_bytes: int,
        on_overflow: Callable[[], None],
    ) -> None:
        self._sink = sink
        self.offer = sink.offer
        self._flusher = flusher
        self.pieces: list[bytes] = []
        self.size = 0
        self._max_pieces = max_pieces
        self._max_bytes = max_bytes
        self._on_overflow = on_overflow
        self.scheduled = False
        self.finishing = False
        self.waiting: tuple[asyncio.Future[None], ...] | None = ()

    def has_room(self) -> bool:
        """Whether the device takes something now."""
        return self.size <= ENOUGH_BYTES and self._sink.room() > 0

    async def wait_for_room(self) -> bool:
        """For producers that can wait: until the device takes something, so that nothing is made
        ready for one that does not read (it would be a copy for that device alone). False: the
        stream has ended."""
        while self.waiting is not None and not self.has_room():
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting += (room,)
            await room
        return self.waiting is not None

    def end_waits(self) -> None:
        """The stream has ended: nobody needs to wait any more."""
        waiting, self.waiting = self.waiting, None
        _wake(waiting or ())

    def page_bytes(self, most: int) -> int:
        """How large a page should be for it: about what it takes at once."""
        return min(most, max(LEAST_PAGE_BYTES, self._sink.room()))

    def add(self, piece: bytes) -> None:
        """Queues a piece and has it flushed soon."""
        if self.finishing:
            return
        pieces = self.pieces
        pieces.append(piece)
        self.size += len(piece)
        if self.size > self._max_bytes or len(pieces) > self._max_pieces:
            self._on_overflow()
        elif not self.scheduled:
            self.scheduled = True
            self._flusher.add(self)

    def on_writable(self) -> None:
        """The sink takes frames again. What a flush left behind goes now; what the next flush
        will take anyway waits for it and shares its frame."""
        if self.finishing or not self.scheduled:
            self.flush()

    def flush(self) -> None:
        """Sends what is queued while the sink takes it."""
        sink = self._sink
        while self.pieces and (room := sink.room()):
            sink.send(self._take(min(room, FRAME_BYTES)))
        if self.waiting and self.has_room():
            waiting, self.waiting = self.waiting, ()
            _wake(waiting)
        if self.finishing and not self.pieces:
            sink.finish()

    def _take(self, most: int) -> bytes:
        """The next frame. It has about as many bytes as can go: what is joined beyond that would
        be a copy for each reader that is slow."""
        pieces = self.pieces
        if self.size <= most or len(pieces) == 1:
            self.pieces = []
            self.size = 0
            return b"".join(pieces) if len(pieces) > 1 else pieces[0]
        size = index = 0
        for index, piece in enumerate(pieces):
            size += len(piece)
            if size > most and index:
                size -= len(piece)
                break
        else:
            index = len(pieces)
        self.pieces = pieces[index:]
        self.size -= size
        return b"".join(pieces[:index])

    def finish(self, last: bytes, *, drop: bool) -> None:
        """Ends the stream with a last frame.

        Args:
            drop: Leave out what is queued: the reader is too slow, or may not have it any more.
        """
        if self.finishing:
            return
        if drop:
            self.pieces = []
            self.size = 0
        self.pieces.append(last)
        self.size += len(last)
        self.finishing = True
        self.flush()


def _wake(waiting: Iterable[asyncio.Future[None]]) -> None:
    for one in waiting:
        if not one.done():
            one.set_result(None)
