"""AccountService.Watch: frames in, frames out, without a server core."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.common.v1 import close_pb2, stream_pb2
from chinwag_server.account.records import SessionRecord, UserRecord
from chinwag_server.account.watch_stream import WatchLimits
from chinwag_server.account.watch_streams import WatchStreams
from chinwag_server.clock import SystemClock
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal
from tests.server.account.clock import START_US, FakeClock
from tests.server.account.test_watch import Log

HELLO = pb.WatchRequest(hello=pb.WatchHello(client=stream_pb2.StreamHello(protocol_version=1)))


def reason_of(status: status_pb2.Status) -> str:
    info = error_details_pb2.ErrorInfo()
    return info.reason if any(detail.Unpack(info) for detail in status.details) else ""


class Call:
    """A running Watch call, seen from the client's side."""

    def __init__(self, streams: WatchStreams, caller: Caller) -> None:
        self.frames: list[pb.WatchResponse] = []
        self.readable = asyncio.Event()
        self.readable.set()
        self._came = asyncio.Event()
        self._sent: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.task = asyncio.ensure_future(streams.serve(caller, self._incoming(), self._write))

    async def _incoming(self) -> AsyncIterator[bytes]:
        while (data := await self._sent.get()) is not None:
            yield data

    async def _write(self, data: bytes) -> None:
        await self.readable.wait()
        self.frames.append(pb.WatchResponse.FromString(data))
        self._came.set()

    def send(self, frame: pb.WatchRequest | bytes | None = None, **fields: Any) -> None:
        if frame is None:
            frame = pb.WatchRequest(**fields)
        self._sent.put_nowait(frame if isinstance(frame, bytes) else frame.SerializeToString())

    def end(self) -> None:
        self._sent.put_nowait(None)

    async def until(self, field: str, count: int = 1) -> Any:
        """The newest value of a field, once it came so often."""
        async with asyncio.timeout(5):
            while True:
                found: list[Any] = []
                for frame in self.frames:
                    if field in ("events", "errors"):
                        found += getattr(frame, field)
                    elif frame.HasField(field):  # type: ignore[arg-type]
                        found.append(getattr(frame, field))
                if len(found) >= count:
                    return found[-1]
                self._came.clear()
                await self._came.wait()

    async def error(self, count: int = 1) -> tuple[str, str]:
        """(reason, field) of the newest error."""
        error = await self.until("errors", count)
        return reason_of(error.status), error.field

    @property
    def seen(self) -> list[int]:
        return [event.id for frame in self.frames for event in frame.events]


class World:
    def __init__(self) -> None:
        self.log = Log()
        self.clock = FakeClock()
        self.wait_s = 0.0
        self.calls: list[Call] = []
        self.streams = self.make()

    def make(self, **limits: Any) -> WatchStreams:
        self.streams = WatchStreams(
            self.log.watchers,
            self.clock,
            limits=WatchLimits(**limits),
            authenticate=self.authenticate,
            take_frame=lambda _caller: self.wait_s,
            server_version="1.2",
        )
        return self.streams

    async def authenticate(self, token: str) -> Caller:
        user_id, _, device_id = token.partition("/")
        if not device_id:
            raise Refusal("TOKEN_INVALID", "none of ours")
        return Caller(user_id, device_id, START_US + 90_000_000)

    def call(self, device_id: str = "d1", user_id: str = "ann", **fields: Any) -> Call:
        caller = Caller(user_id, device_id, START_US + 60_000_000, **fields)
        self.calls.append(Call(self.streams, caller))
        return self.calls[-1]

    async def stop(self) -> None:
        for call in self.calls:
            call.task.cancel()
        # Also takes the refusals with which calls ended.
        await asyncio.gather(*(call.task for call in self.calls), return_exceptions=True)
        await self.streams.stop()
        await self.log.watchers.stop()

    async def helloed(self, device_id: str = "d1", cursor: str = "", **fields: Any) -> Call:
        call = self.call(device_id, **fields)
        frame = pb.WatchRequest()
        frame.CopyFrom(HELLO)
        frame.hello.cursor = cursor
        call.send(frame)
        await call.until("welcome")
        return call


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    sessions = [SessionRecord("ann", f"d{n}", expire_time_us=1 << 60) for n in (1, 2)]
    await world.log.store.commit(UserRecord("ann"), sessions)
    await world.log.happen("b1", "b2", "b3")
    yield world
    await world.stop()


async def closed(call: Call, reason: close_pb2.CloseReason.ValueType) -> close_pb2.Close:
    """The close that ended a call, which was its last frame."""
    close: close_pb2.Close = await call.until("close")
    assert close.reason == reason
    assert call.frames[-1].HasField("close")
    await asyncio.wait({call.task}, timeout=5)
    assert call.task.done()
    return close


# --- the way of a good stream ---


async def test_hello_welcome_events_caught_up(world: World) -> None:
    call = await world.helloed(cursor=world.log.cursor(1))
    welcome = await call.until("welcome")
    assert welcome.stream.server_version == "1.2"
    assert welcome.stream.token_expire_time.ToMicroseconds() == START_US + 60_000_000
    assert welcome.ping_interval.seconds == 30
    caught_up = await call.until("caught_up")
    assert call.seen == [2, 3]
    assert caught_up.cursor == world.log.cursor(3)
    await world.log.happen("b4")
    await call.until("events", 3)
    assert call.seen == [2, 3, 4]
    call.end()
    await call.task
    assert len(world.streams) == 0
    assert len(world.log.watchers) == 0


async def test_without_a_cursor_a_reset_and_then_from_the_ack(world: World) -> None:
    call = await world.helloed()
    assert (await call.until("events")).HasField("reset")
    await world.log.happen("b4", "b5")
    event = await call.until("events", 3)
    call.send(ack=event.cursor, ping=stream_pb2.StreamPing(id=1))
    await call.until("pong")
    await world.log.happen("b6")
    await call.until("events", 4)
    call.end()
    await call.task
    call = await world.helloed()
    await call.until("caught_up")
    assert call.seen == [6]


async def test_one_event_after_the_other_while_it_acks(world: World) -> None:
    world.make(window=3)
    call = await world.helloed(cursor=world.log.cursor(0))
    await call.until("caught_up")
    await world.log.happen(*(f"x{number}" for number in range(20)))
    for count in range(3, 24):
        event = await call.until("events", count)
        call.send(ack=event.cursor)
    assert call.seen == list(range(1, 24))


async def test_at_most_a_window_goes_unacked(world: World) -> None:
    world.make(window=2)
    call = await world.helloed(cursor=world.log.cursor(0))
    await call.until("events", 2)
    # What was not sent cannot be acked.
    call.send(ack=world.log.cursor(3), ping=stream_pb2.StreamPing(id=1))
    await call.until("pong")
    assert call.seen == [1, 2]
    call.send(ack=world.log.cursor(2))
    await call.until("caught_up")
    assert call.seen == [1, 2, 3]


async def test_ping_and_renewal(world: World) -> None:
    call = await world.helloed()
    call.send(ping=stream_pb2.StreamPing(id=7))
    pong = await call.until("pong")
    assert (pong.id, pong.server_time.ToMicroseconds()) == (7, START_US)
    call.send(renew_token=stream_pb2.StreamRenewToken(access_token="ann/d1"))
    renewed = await call.until("token_renewed")
    assert renewed.expire_time.ToMicroseconds() == START_US + 90_000_000
    world.clock.advance(80)
    world.streams.check_all()
    assert not call.task.done()
    for count, token in enumerate(("ann/d2", "bob/d1", "junk"), 1):
        call.send(renew_token=stream_pb2.StreamRenewToken(access_token=token))
        assert await call.error(count) == ("TOKEN_INVALID", "renew_token.access_token")
    world.clock.advance(11)
    world.streams.check_all()
    close = await closed(call, close_pb2.CLOSE_REASON_TOKEN_EXPIRED)
    assert close.reconnect
    with pytest.raises(Refusal, match="has ended"):
        await call.task


# --- bad frames ---


async def test_bad_frames_are_answered_and_the_stream_stays(world: World) -> None:
    call = await world.helloed()
    call.send(b"\xff\xff\xff")
    assert await call.error(1) == ("MALFORMED", "")
    call.send(frame_id=5)
    assert await call.error(2) == ("UNKNOWN_FRAME", "")
    assert (await call.until("errors", 2)).frame_id == 5
    call.send(b"\xfa\x3f\x00")  # a field of a later version
    assert await call.error(3) == ("UNKNOWN_FRAME", "")
    call.send(ack="x" * 300)
    assert await call.error(4) == ("INVALID_FIELD", "ack")
    call.send(ack=world.log.cursor(1, "bob"))
    assert await call.error(5) == ("INVALID_FIELD", "ack")
    world.wait_s = 2.0
    call.send(ping=stream_pb2.StreamPing(id=1))
    assert await call.error(6) == ("RATE_LIMITED", "")
    world.wait_s = 0.0
    call.send(b"x" * (5 << 20))
    assert await call.error(7) == ("TOO_LARGE", "")
    call.send(ping=stream_pb2.StreamPing(id=2))
    assert (await call.until("pong")).id == 2


async def test_too_many_of_them_end_it(world: World) -> None:
    world.make(bad_frames=3)
    call = await world.helloed()
    for _ in range(4):
        call.send(frame_id=1)
    await closed(call, close_pb2.CLOSE_REASON_PROTOCOL_ERROR)


async def test_frames_before_hello_and_none_in_time(world: World) -> None:
    call = world.call()
    call.send(ping=stream_pb2.StreamPing(id=1))
    assert await call.error() == ("HELLO_REQUIRED", "")
    world.clock.advance(11)
    world.streams.check_all()
    close = await closed(call, close_pb2.CLOSE_REASON_PROTOCOL_ERROR)
    assert reason_of(close.status) == "HELLO_TIMEOUT"


async def test_hello_twice_ends_it(world: World) -> None:
    call = await world.helloed()
    call.send(HELLO)
    close = await closed(call, close_pb2.CLOSE_REASON_PROTOCOL_ERROR)
    assert reason_of(close.status) == "HELLO_REPEATED"
    assert not close.reconnect
    with pytest.raises(Refusal) as refused:
        await call.task
    assert refused.value.reason == "HELLO_REPEATED"


async def test_a_bad_hello_is_refused(world: World) -> None:
    call = world.call()
    call.send(hello=pb.WatchHello(client=stream_pb2.StreamHello(protocol_version=9)))
    close = await closed(call, close_pb2.CLOSE_REASON_REFUSED)
    assert reason_of(close.status) == "VERSION_UNSUPPORTED"
    call = world.call()
    call.send(hello=pb.WatchHello())
    close = await closed(call, close_pb2.CLOSE_REASON_REFUSED)
    assert reason_of(close.status) == "INVALID_FIELD"


# --- ends ---


async def test_a_second_stream_of_a_device_closes_the_first(world: World) -> None:
    first = await world.helloed("d1")
    other = await world.helloed("d2")
    second = await world.helloed("d1")
    close = await closed(first, close_pb2.CLOSE_REASON_REPLACED)
    assert not close.reconnect
    await first.task
    assert not other.task.done()
    assert not second.task.done()


async def test_a_user_has_so_many_streams(world: World) -> None:
    world.make(user_streams=2)
    await world.helloed("d1")
    await world.helloed("d2")
    await world.helloed("d2")  # takes the place of the one before
    third = world.call("d3")
    third.send(HELLO)
    close = await closed(third, close_pb2.CLOSE_REASON_REFUSED)
    assert reason_of(close.status) == "STREAM_LIMIT"
    assert close.reconnect
    await world.helloed("d1", user_id="bob")


async def test_a_revoked_session_is_closed_at_once(world: World) -> None:
    mine, other = await world.helloed("d1"), await world.helloed("d2")
    world.streams.close_sessions("ann", "d1")
    await closed(mine, close_pb2.CLOSE_REASON_SESSION_REVOKED)
    with pytest.raises(Refusal) as refused:
        await mine.task
    assert refused.value.reason == "SESSION_REVOKED"
    assert not other.task.done()
    world.streams.close_sessions("ann", None, close_pb2.CLOSE_REASON_BANNED)
    close = await closed(other, close_pb2.CLOSE_REASON_BANNED)
    assert reason_of(close.status) == "BANNED"


async def test_what_waits_does_not_reach_a_revoked_device(world: World) -> None:
    call = await world.helloed()
    await call.until("caught_up")
    call.readable.clear()
    await world.log.happen("held")  # on its way
    await asyncio.sleep(0.01)
    await world.log.happen("kept back")
    await asyncio.sleep(0.01)
    world.streams.close_sessions("ann", "d1")
    call.readable.set()
    await closed(call, close_pb2.CLOSE_REASON_SESSION_REVOKED)
    assert call.seen == [3, 4]


async def test_a_revoked_key_closes_its_streams(world: World) -> None:
    mine = await world.helloed("", api_key_id="k1")
    other = await world.helloed("", api_key_id="k2")
    world.streams.close_key("k1")
    await closed(mine, close_pb2.CLOSE_REASON_SESSION_REVOKED)
    assert not other.task.done()


async def test_silence_ends_it(world: World) -> None:
    call = await world.helloed()
    call.send(renew_token=stream_pb2.StreamRenewToken(access_token="ann/d1"))
    await call.until("token_renewed")
    world.clock.advance(60)
    call.send(ping=stream_pb2.StreamPing(id=1))
    await call.until("pong")
    world.clock.advance(29)
    world.streams.check_all()
    assert not call.task.done()


async def test_an_idle_stream_is_closed(world: World) -> None:
    call = await world.helloed("", api_key_id="k1")
    world.streams.limits = WatchLimits(idle_timeout_s=10)
    world.clock.advance(11)
    world.streams.check_all()
    close = await closed(call, close_pb2.CLOSE_REASON_IDLE)
    assert close.reconnect
    await call.task


async def test_drain(world: World) -> None:
    call = await world.helloed()
    world.streams.drain()
    close = await closed(call, close_pb2.CLOSE_REASON_DRAINING)
    assert close.reconnect
    assert close.jitter.seconds == 5
    await call.task
    late = world.call()
    await closed(late, close_pb2.CLOSE_REASON_DRAINING)


async def test_a_reader_that_stopped_does_not_hold_up_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chinwag_server.rpc.framed_streams.FINISH_S", 0.05)
    call = await world.helloed()
    call.readable.clear()
    await world.log.happen("b4")
    await asyncio.sleep(0.01)
    world.streams.close_sessions("ann", "d1")
    await asyncio.wait({call.task}, timeout=2)
    assert call.task.done()
    assert len(world.streams) == 0


async def test_who_does_not_read_is_not_read_either(world: World) -> None:
    call = await world.helloed()
    await call.until("caught_up")
    call.readable.clear()
    for number in range(1000):
        call.send(ping=stream_pb2.StreamPing(id=number))
    await asyncio.sleep(0.05)
    assert call._sent.qsize() > 800
    call.readable.set()
    await call.until("pong", 1000)


async def test_a_broken_connection_leaves_nothing(world: World) -> None:
    call = await world.helloed()
    await call.until("caught_up")
    call.task.cancel()
    await asyncio.gather(call.task, return_exceptions=True)
    assert len(world.streams) == 0
    assert len(world.log.watchers) == 0


async def test_the_system_clock_does_too() -> None:
    log = Log()
    streams = WatchStreams(
        log.watchers, SystemClock(), limits=WatchLimits(), authenticate=World().authenticate
    )
    call = Call(streams, Caller("ann", "d1"))
    call.send(HELLO)
    welcome = await call.until("welcome")
    assert not welcome.stream.HasField("token_expire_time")
    call.end()
    await call.task
    await streams.stop()
