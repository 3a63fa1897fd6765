"""A device's queue, alone: who waits for room is woken, whichever way a frame takes."""

from __future__ import annotations

import asyncio

from chinwag_server.chat.outbox import Flusher, Outbox
from tests.server.chat.rules import FakeSink, settle


def outbox_to(sink: FakeSink) -> Outbox:
    return Outbox(sink, Flusher(), max_pieces=100, max_bytes=1 << 20, on_overflow=lambda: None)


async def test_a_producer_is_woken_by_the_flush_of_a_single_piece() -> None:
    sink = FakeSink()
    outbox = outbox_to(sink)
    outbox.add(b"")
    sink.blocked = True
    waiting = asyncio.ensure_future(outbox.wait_for_room())
    await asyncio.sleep(0)
    # There is room again before the flush that is due comes to it.
    sink.blocked = False
    outbox.on_writable()
    await settle()
    assert waiting.done()
    assert waiting.result()


async def test_several_producers_wait_at_once() -> None:
    sink = FakeSink()
    outbox = outbox_to(sink)
    sink.blocked = True
    waiting = [asyncio.ensure_future(outbox.wait_for_room()) for _ in range(3)]
    await settle()
    assert not any(one.done() for one in waiting)
    sink.blocked = False
    outbox.on_writable()
    assert await asyncio.gather(*waiting) == [True] * 3


async def test_the_end_of_the_stream_ends_the_wait() -> None:
    sink = FakeSink()
    outbox = outbox_to(sink)
    sink.blocked = True
    waiting = asyncio.ensure_future(outbox.wait_for_room())
    await settle()
    outbox.end_waits()
    assert await waiting is False
    assert await outbox.wait_for_room() is False
