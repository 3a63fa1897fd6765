"""The core: connections, liveness, tokens, guidance, back-pressure."""

from __future__ import annotations

import random

import pytest

from chinwag import events as ev
from chinwag.chat.v1 import connect_pb2, entry_pb2, message_pb2
from chinwag.common.v1 import close_pb2
from chinwag.endpoints import Endpoints
from chinwag.errors import (
    ClientClosed,
    InvalidArgument,
    PermissionDenied,
    Replaced,
    Unauthenticated,
    Unavailable,
)
from chinwag.events import Connection, Cursor
from chinwag.liveness import PONG_TIMEOUT_S, WELCOME_TIMEOUT_S
from chinwag.protocol import DeviceProtocol, Output
from chinwag.store import Saved
from tests.sdk.clock import FakeClock
from tests.sdk.model import refusal
from tests.sdk.test_positions import entry

Reason = close_pb2.CloseReason


class Device:
    """A protocol with its clock."""

    def __init__(self, saved: Saved | None = None, *addresses: str) -> None:
        self.clock = FakeClock()
        rng = random.Random(1)
        endpoints = Endpoints(addresses or [""], rng=rng, monotonic=self.clock.monotonic)
        self.protocol = DeviceProtocol(
            saved or Saved(), clock=self.clock, rng=rng, endpoints=endpoints
        )

    def connect(self, **welcome: int) -> Output:
        self.protocol.connecting()
        self.protocol.connected()
        hello = self.protocol.take()
        made = connect_pb2.Welcome(user_id="ada", device_id="d")
        made.limits.max_sends_per_frame = 100
        made.limits.max_frame_bytes = 4 << 20
        made.limits.ping_interval.FromSeconds(30)
        made.server_time.FromNanoseconds(int(self.clock.time() * 1e9))
        if "token_s" in welcome:
            end = self.clock.time() + welcome["token_s"]
            made.token_expire_time.FromNanoseconds(int(end * 1e9))
        self.receive(connect_pb2.ConnectResponse(welcome=made))
        return hello

    def receive(self, frame: connect_pb2.ConnectResponse) -> None:
        self.protocol.receive(frame)

    def caught_up(self, stamp: str = "s1") -> None:
        done = connect_pb2.CaughtUp(stamp=stamp)
        self.receive(connect_pb2.ConnectResponse(caught_up=done))

    def close(self, **fields: object) -> None:
        made = close_pb2.Close(**fields)  # type: ignore[arg-type]
        self.receive(connect_pb2.ConnectResponse(close=made))
        assert self.protocol.drop
        self.protocol.connection_lost(None)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.protocol.tick()

    def post(self, text: str = "x") -> str:
        content = message_pb2.MessageContent(text=text)
        return self.protocol.post("c", content).request.client_message_id


@pytest.fixture
def device() -> Device:
    return Device()


def test_hello_says_what_the_device_has() -> None:
    device = Device(Saved([Cursor("c", 3, 9)], "stamp", "account"))
    (frame,) = device.connect().frames
    hello = frame.hello
    assert (hello.protocol_version, hello.resume_stamp) == (1, "stamp")
    assert [(c.channel_id, c.generation, c.id) for c in hello.cursors] == [("c", 3, 9)]
    assert hello.subscriptions.account_cursor == "account"
    assert hello.subscriptions.receipts


def test_sends_wait_for_the_welcome_and_share_a_frame(device: Device) -> None:
    names = [device.post() for _ in range(3)]
    (hello,) = device.connect().frames
    assert not hello.sends
    (frame,) = device.protocol.take().frames
    assert [send.client_message_id for send in frame.sends] == names


def test_states(device: Device) -> None:
    device.connect()
    device.caught_up()
    states = [
        e.connection for e in device.protocol.take().events if isinstance(e, ev.ConnectionChanged)
    ]
    assert states == [Connection.CATCHING_UP, Connection.LIVE]
    assert device.protocol.connection is Connection.LIVE


def test_a_ping_when_nothing_else_went_out(device: Device) -> None:
    device.connect()
    device.caught_up()
    assert device.protocol.next_tick == device.clock.now + 30
    device.advance(30)
    (frame,) = device.protocol.take().frames
    assert frame.HasField("ping")
    device.receive(connect_pb2.ConnectResponse(pong=connect_pb2.Pong(id=frame.ping.id)))
    device.advance(PONG_TIMEOUT_S + 1)
    assert not device.protocol.drop


def test_a_dead_peer(device: Device) -> None:
    device.connect()
    device.caught_up()
    device.advance(30)
    device.protocol.take()
    device.advance(PONG_TIMEOUT_S)
    assert device.protocol.drop


def test_silence_while_the_skin_does_not_read_is_no_death(device: Device) -> None:
    device.connect()
    device.caught_up()
    device.protocol.pause()
    for _ in range(5):
        device.advance(30)
        device.protocol.take()
    assert not device.protocol.drop
    device.protocol.unpause()
    device.advance(PONG_TIMEOUT_S)
    assert device.protocol.drop


def test_no_welcome(device: Device) -> None:
    device.protocol.connected()
    device.advance(WELCOME_TIMEOUT_S)
    assert device.protocol.drop


def test_full_jitter(device: Device) -> None:
    bounds = [0.5, 1, 2, 4, 8, 16, 30, 30]
    for bound in bounds:
        device.protocol.connecting()
        device.protocol.connection_lost(Unavailable("no", code=14))
        assert 0 <= device.protocol.plan.delay_s <= bound
    device.connect()
    device.caught_up()
    device.protocol.connection_lost(None)
    assert device.protocol.plan.delay_s <= 0.5


def test_replaced_is_for_good(device: Device) -> None:
    device.connect()
    device.close(reason=Reason.CLOSE_REASON_REPLACED)
    assert isinstance(device.protocol.error, Replaced)
    with pytest.raises(ClientClosed):
        device.post()


def test_guidance() -> None:
    device = Device(None, "one:1", "other:1")
    device.connect()
    made = close_pb2.Close(reconnect=True, reason=Reason.CLOSE_REASON_MOVED, address="other:1")
    made.min_delay.FromSeconds(7)
    made.jitter.FromSeconds(5)
    device.receive(connect_pb2.ConnectResponse(close=made))
    device.protocol.connection_lost(Unavailable("the status comes too", code=14))
    plan = device.protocol.plan
    assert plan.address == "other:1"
    assert 7 <= plan.delay_s <= 12
    device.connect()
    device.protocol.connection_lost(None)
    assert device.protocol.plan.address == "one:1"
    assert device.protocol.plan.delay_s == 0


def test_an_unknown_reason_does_no_harm(device: Device) -> None:
    device.connect()
    device.close(reason=999, reconnect=True)
    assert device.protocol.error is None
    device.connect()
    device.close(reason=999)
    assert device.protocol.error is not None


def test_banned(device: Device) -> None:
    device.connect()
    device.close(reason=Reason.CLOSE_REASON_BANNED, status=refusal("BANNED", 7))
    assert isinstance(device.protocol.error, PermissionDenied)


def test_an_expired_token_is_refreshed_once(device: Device) -> None:
    expired = Unauthenticated("no", reason="TOKEN_EXPIRED", code=16)
    device.protocol.connecting()
    device.protocol.connection_lost(expired)
    assert device.protocol.plan.new_token
    device.protocol.connecting()
    device.protocol.connection_lost(expired)
    assert device.protocol.error is expired


def test_a_close_for_an_expired_token(device: Device) -> None:
    device.connect()
    device.close(
        reason=Reason.CLOSE_REASON_TOKEN_EXPIRED,
        reconnect=True,
        status=refusal("TOKEN_EXPIRED", 16),
    )
    assert device.protocol.plan.new_token


def test_the_token_is_renewed_on_the_open_stream(device: Device) -> None:
    device.connect(token_s=900)
    device.caught_up()
    wanted = []
    for seconds in (700, 20):
        device.advance(seconds)
        wanted.append(device.protocol.token_wanted)
    assert wanted == [False, True]
    device.protocol.take()
    device.protocol.renew_token("fresh")
    (frame,) = device.protocol.take().frames
    assert frame.renew_token.access_token == "fresh"
    renewed = connect_pb2.TokenRenewed()
    renewed.expire_time.FromNanoseconds(int((device.clock.time() + 900) * 1e9))
    device.receive(connect_pb2.ConnectResponse(token_renewed=renewed))
    assert not device.protocol.token_wanted


def test_a_frame_is_handled_in_the_order_of_the_contract() -> None:
    device = Device(Saved([Cursor("c", 1, 0)]))
    device.connect()
    device.protocol.take()
    frame = connect_pb2.ConnectResponse(
        caught_up=connect_pb2.CaughtUp(stamp="s"),
        events=[entry(1)],
        receipts=[{"channel_id": "c", "user_id": "bob", "read_id": 1}],  # type: ignore[list-item]
        typing=[{"channel_id": "c", "user_id": "bob", "active": True}],  # type: ignore[list-item]
    )
    device.receive(frame)
    assert [type(event).__name__ for event in device.protocol.take().events] == [
        "MessageReceived",
        "ReceiptChanged",
        "TypingChanged",
        "ConnectionChanged",
        "StampReached",
    ]


def test_no_stamp_while_there_is_a_hole() -> None:
    device = Device(Saved([Cursor("c", 1, 0)]))
    device.connect()
    device.receive(connect_pb2.ConnectResponse(events=[entry(2)]))
    device.caught_up("later")
    output = device.protocol.take()
    assert not any(isinstance(event, ev.StampReached) for event in output.events)
    (fetch,) = output.fetches
    device.protocol.fetch_failed(fetch.number)
    assert device.protocol.drop
    device.protocol.connection_lost(None)
    (hello,) = device.connect().frames
    assert hello.hello.resume_stamp == ""
    assert [cursor.id for cursor in hello.hello.cursors] == [0]


def test_pausing_on_a_refusal(device: Device) -> None:
    device.connect()
    name = device.post()
    assert len(device.protocol.take().frames) == 1
    refused = connect_pb2.SendResult(
        client_message_id=name, channel_id="c", error=refusal("OVERLOADED", 8, retry_s=3.0)
    )
    device.receive(connect_pb2.ConnectResponse(results=[refused]))
    assert device.protocol.take().frames == []
    assert device.protocol.next_tick == pytest.approx(device.clock.now + 3.0)
    device.advance(3.1)
    (frame,) = device.protocol.take().frames
    assert frame.sends[0].client_message_id == name


def test_a_frame_that_is_refused_whole(device: Device) -> None:
    device.connect()
    names = [device.post(), device.post()]
    (frame,) = device.protocol.take().frames
    error = connect_pb2.FrameError(frame_id=frame.frame_id, status=refusal("TOO_LARGE", 8))
    device.receive(connect_pb2.ConnectResponse(errors=[error]))
    sent = []
    for _ in range(10):
        device.advance(20)
        for frame in device.protocol.take().frames:
            for send in frame.sends:
                sent.append([send.client_message_id for send in frame.sends])
                result = connect_pb2.SendResult(
                    client_message_id=send.client_message_id, channel_id="c", message_id=1
                )
                device.receive(connect_pb2.ConnectResponse(results=[result]))
    assert sent == [[names[0]], [names[1]]]


def test_a_send_that_the_server_waits_for_and_we_gave_up(device: Device) -> None:
    device.connect()
    name = device.post()
    device.protocol.take()
    error = refusal("EARLIER_SEND_REFUSED", 10, client_message_id="given-up")
    result = connect_pb2.SendResult(client_message_id=name, channel_id="c", error=error)
    device.receive(connect_pb2.ConnectResponse(results=[result]))
    assert device.protocol.drop


def test_larger_than_any_frame(device: Device) -> None:
    with pytest.raises(InvalidArgument) as refused:
        device.post("x" * (5 << 20))
    assert refused.value.reason == "TOO_LARGE"


def test_shedding_answers_sends_and_misses_nothing() -> None:
    device = Device(Saved([Cursor("c", 1, 0)], "s0"))
    device.connect()
    device.caught_up("s1")
    name = device.post()
    device.protocol.take()
    device.protocol.shedding = True
    result = connect_pb2.SendResult(client_message_id=name, channel_id="c", message_id=2)
    pong = connect_pb2.Pong(stamp="s2")
    device.receive(connect_pb2.ConnectResponse(events=[entry(1)], results=[result], pong=pong))
    output = device.protocol.take()
    assert output.events == []
    assert [outcome.sent is not None for outcome in output.outcomes] == [True]
    device.protocol.resume()
    assert device.protocol.drop
    device.protocol.connection_lost(None)
    assert device.protocol.plan.delay_s == 0
    (hello,) = device.connect().frames
    assert hello.hello.resume_stamp == "s1"
    assert [cursor.id for cursor in hello.hello.cursors] == [0]


def test_marks_are_repeated_until_confirmed(device: Device) -> None:
    device.connect()
    device.protocol.mark("c", read_id=5)
    device.protocol.mark("c", read_id=7)
    device.protocol.mark("c", read_id=6)
    (frame,) = device.protocol.take().frames
    assert [(mark.channel_id, mark.read_id) for mark in frame.marks] == [("c", 7)]
    device.protocol.connection_lost(None)
    device.connect()
    (frame,) = device.protocol.take().frames
    assert frame.marks[0].read_id == 7
    state = entry_pb2.Event()
    state.state.channel_id = "c"
    state.state.read_id = state.state.delivered_id = 7
    device.receive(connect_pb2.ConnectResponse(events=[state]))
    device.protocol.connection_lost(None)
    device.connect()
    assert device.protocol.take().frames == []


def test_typing_goes_out_every_four_seconds(device: Device) -> None:
    device.connect()
    device.protocol.typing("c")
    device.protocol.typing("c")
    (frame,) = device.protocol.take().frames
    assert len(frame.typing) == 1
    device.advance(4)
    device.protocol.typing("c")
    assert len(device.protocol.take().frames) == 1


def test_message_ids_follow_the_servers_clock(device: Device) -> None:
    device.protocol.connected()
    device.protocol.take()
    welcome = connect_pb2.Welcome()
    welcome.server_time.FromSeconds(2_000_000_000)
    device.receive(connect_pb2.ConnectResponse(welcome=welcome))
    name = device.post()
    assert int(name.replace("-", "")[:12], 16) == 2_000_000_000_000
