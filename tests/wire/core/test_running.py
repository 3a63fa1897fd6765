"""A call as a coroutine sees it: awaiting messages, room, deadlines and the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from chinwag_server.wire import frames
from chinwag_server.wire.limits import Limits
from chinwag_server.wire.running import CallOver, Running
from chinwag_server.wire.status import CallError, Code
from tests.wire.core.peer import Peer, message


def running(peer: Peer, number: int = 0) -> Running:
    return Running(peer.calls[number].call)


async def turn() -> None:
    """Lets what was woken run."""
    for _ in range(5):
        await asyncio.sleep(0)


def start(one: Running, work: Callable[[], Awaitable[object]]) -> asyncio.Task[None]:
    async def run() -> None:
        await work()

    return one.start(run())


async def test_messages_in_order_and_the_end() -> None:
    peer = Peer().greet().request(1)
    one = running(peer)
    peer.data(1, message(b"1") + message(b"2"))
    assert await one.read() == b"1"
    assert await one.read() == b"2"
    reading = asyncio.ensure_future(one.read())
    await turn()
    assert not reading.done()
    peer.data(1, message(b"3"), end=True)
    assert await reading == b"3"
    assert await one.read() is None
    assert await one.read() is None


async def test_messages_as_an_iterator() -> None:
    peer = Peer().greet().request(1)
    one = running(peer)
    peer.data(1, message(b"1") + message(b"2") + message(b""), end=True)
    assert [data async for data in one.messages()] == [b"1", b"2", b""]


async def test_who_does_not_read_closes_the_window() -> None:
    peer = Peer(Limits(stream_window=1000)).greet().request(1)
    one = running(peer)
    peer.take()
    for _ in range(10):
        peer.data(1, message(bytes(95)))
    # One message is kept ready for the task; what is behind it gives no window.
    assert sum(frame.number for frame in peer.took(frames.WINDOW_UPDATE)) <= 500
    for _ in range(10):
        assert await one.read() == bytes(95)
    given = sum(frame.number for frame in peer.took(frames.WINDOW_UPDATE) if frame.stream_id)
    assert 0 < given <= 1000


async def test_reading_can_be_given_up() -> None:
    peer = Peer().greet().request(1)
    one = running(peer)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(one.read(), 0.01)
    peer.data(1, message(b"later"))
    assert await one.read() == b"later"


async def test_writing_waits_for_room() -> None:
    peer = Peer().greet(INITIAL_WINDOW_SIZE=5).request(1)
    one = running(peer)
    await one.write(b"first")
    writing = asyncio.ensure_future(one.write(b"second"))
    await turn()
    assert not writing.done()
    peer.send(frames.window_update(1, 6))
    await writing
    peer.send(frames.window_update(1, 100))
    sent = b"".join(frame.payload for frame in peer.took(frames.DATA))
    assert sent == message(b"first") + message(b"second")


async def test_writing_to_nobody() -> None:
    peer = Peer().greet(INITIAL_WINDOW_SIZE=0).request(1)
    one = running(peer)
    writing = asyncio.ensure_future(one.write(b"x"))
    await turn()
    peer.frame(frames.RST_STREAM, 0, 1, (8).to_bytes(4, "big"))
    with pytest.raises(CallOver):
        await writing
    with pytest.raises(CallOver):
        await one.write(b"x")
    assert one.ended_by == Code.CANCELLED


async def test_the_task_is_cancelled_with_the_call() -> None:
    peer = Peer().greet().request(1)
    one = running(peer)
    task = start(one, asyncio.Event().wait)
    await turn()
    peer.frame(frames.RST_STREAM, 0, 1, (8).to_bytes(4, "big"))
    await asyncio.wait([task])
    assert task.cancelled()
    assert not one.running
    assert one.ended_by == Code.CANCELLED


async def test_a_deadline() -> None:
    peer = Peer().greet().request(1)
    one = running(peer)
    one.end_after(0.01)
    task = start(one, asyncio.Event().wait)
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()
    assert one.ended_by == Code.DEADLINE_EXCEEDED
    (head,) = peer.took(frames.HEADERS)
    assert peer.headers(head)["grpc-status"] == str(int(Code.DEADLINE_EXCEEDED))


async def test_a_deadline_that_is_not_reached() -> None:
    peer = Peer().greet().request(1)
    one = running(peer)
    one.end_after(0.02)

    async def work() -> None:
        one.call.finish()

    await start(one, work)
    await asyncio.sleep(0.05)
    assert one.ended_by is None
    (head,) = peer.took(frames.HEADERS)
    assert peer.headers(head)["grpc-status"] == "0"


async def test_a_client_that_breaks_a_rule() -> None:
    peer = Peer().greet().request(1)
    told: list[CallError] = []
    one = Running(peer.calls[0].call, lambda _call, error: told.append(error))
    task = start(one, asyncio.Event().wait)
    await turn()
    peer.data(1, message(b"bad", 7))
    await asyncio.wait([task])
    assert [error.code for error in told] == [Code.INTERNAL]
    assert one.ended_by == Code.INTERNAL
    (head,) = peer.took(frames.HEADERS)
    assert peer.headers(head)["grpc-status"] == str(int(Code.INTERNAL))


async def test_many_messages_for_a_slow_reader_come_in_order() -> None:
    peer = Peer(Limits(stream_window=2000)).greet().request(1)
    one = running(peer)
    got: list[bytes] = []

    async def work() -> None:
        async for data in one.messages():
            got.append(data)
            await asyncio.sleep(0)

    task = start(one, work)
    window = 2000
    for number in range(300):
        whole = message(b"%d" % number)
        while window < len(whole):
            await asyncio.sleep(0)
            window += sum(f.number for f in peer.took(frames.WINDOW_UPDATE) if f.stream_id)
        window -= len(whole)
        peer.data(1, whole)
    peer.data(1, b"", end=True)
    await task
    assert got == [b"%d" % number for number in range(300)]
