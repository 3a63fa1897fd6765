"""A device's queue, alone: who waits for room is woken, and when what is queued is flushed."""

from __future__ import annotations

import asyncio

import pytest

from chinwag.chat.v1 import connect_pb2
from chinwag_server.chat import frames
from chinwag_server.chat.outbox import MAX_LINGER_S, Flusher, Outbox
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


class LoopTime:
    """The loop's clock, which moves when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)

    async def pass_by(self, seconds: float) -> None:
        """Time passes, and what is due runs."""
        self.now += seconds
        await settle()


class CostlySink(FakeSink):
    """Taking a frame takes time: some at once, and some in the next turn, as a write does."""

    def __init__(self, time: LoopTime, cost_s: float) -> None:
        super().__init__()
        self._time = time
        self._cost_s = cost_s

    def send(self, data: bytes) -> None:
        super().send(data)
        self._work()
        asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        self._time.now += self._cost_s / 2


class Crowd:
    """Devices that share a flusher, each of which takes so long for a frame."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int, cost_s: float) -> None:
        self.time = LoopTime(monkeypatch)
        self.sinks = [CostlySink(self.time, cost_s) for _ in range(count)]
        flusher = Flusher()
        self._outboxes = [
            Outbox(sink, flusher, max_pieces=100, max_bytes=1 << 20, on_overflow=lambda: None)
            for sink in self.sinks
        ]

    def say(self) -> None:
        """A piece for everybody."""
        piece = frames.result(connect_pb2.SendResult(channel_id="c"))
        for outbox in self._outboxes:
            outbox.add(piece)

    @property
    def frames(self) -> set[int]:
        """How many frames each has, as a set."""
        return {len(sink.frames) for sink in self.sinks}


async def test_on_an_idle_server_nothing_is_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd(monkeypatch, 100, 0.0)
    for said in range(1, 6):
        crowd.say()
        await settle()
        assert crowd.frames == {said}


async def test_nor_for_a_few_devices_however_long_they_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crowd = Crowd(monkeypatch, 3, 0.5)
    for said in range(1, 4):
        crowd.say()
        await settle()
        assert crowd.frames == {said}


async def test_under_load_a_flush_is_put_off_as_long_as_the_last_one_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crowd = Crowd(monkeypatch, 10, 0.0008)
    crowd.say()
    await settle()
    assert crowd.frames == {1}  # the first one is not
    crowd.say()
    # 8 ms, of which half were spent in the turn after the flush.
    await crowd.time.pass_by(0.0075)
    assert crowd.frames == {1}
    crowd.say()
    await crowd.time.pass_by(0.001)
    assert crowd.frames == {2}
    assert all(len(sink.frames[1].results) == 2 for sink in crowd.sinks), "a frame for both"


async def test_it_is_never_put_off_for_longer_than_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crowd = Crowd(monkeypatch, 10, 0.1)
    crowd.say()
    await settle()
    crowd.say()
    await crowd.time.pass_by(MAX_LINGER_S - 0.001)
    assert crowd.frames == {1}
    await crowd.time.pass_by(0.002)
    assert crowd.frames == {2}


async def test_when_the_load_is_over_nothing_is_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd(monkeypatch, 10, 0.0008)
    crowd.say()
    await settle()
    await crowd.time.pass_by(0.009)
    crowd.say()
    await settle()
    assert crowd.frames == {2}
