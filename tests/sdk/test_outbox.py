"""The outbox: order, one store a message, bounds, and giving up."""

from __future__ import annotations

import pytest

from chinwag.chat.v1 import connect_pb2, message_pb2
from chinwag.errors import LimitExceeded, NotFound, OutboxFull, SendExpired
from chinwag.outbox import EXPIRE_S, Outbox, Send, Sent
from tests.sdk.model import refusal


def request(name: str, channel: str = "c", text: str = "x") -> connect_pb2.SendMessageRequest:
    return connect_pb2.SendMessageRequest(
        channel_id=channel,
        client_message_id=name,
        content=message_pb2.MessageContent(text=text),
    )


def post(outbox: Outbox, *names: str, channel: str = "c") -> None:
    for name in names:
        outbox.post(request(name, channel), 0.0)


def take(outbox: Outbox, count: int = 100) -> list[str]:
    return [send.request.client_message_id for send in outbox.take(count, 1 << 20, 0.0)]


def ack(name: str, message_id: int = 1) -> connect_pb2.SendResult:
    return connect_pb2.SendResult(client_message_id=name, channel_id="c", message_id=message_id)


def refuse(name: str, reason: str, code: int, **more: object) -> connect_pb2.SendResult:
    error = refusal(reason, code, **more)  # type: ignore[arg-type]
    return connect_pb2.SendResult(client_message_id=name, channel_id="c", error=error)


def test_in_order_and_once() -> None:
    outbox = Outbox()
    post(outbox, "a", "b", "c")
    assert take(outbox, 2) == ["a", "b"]
    assert take(outbox) == ["c"]
    assert take(outbox) == []
    outcome, pause = outbox.answered(ack("a", 7))
    assert outcome is not None
    assert outcome.sent == Sent("c", 7, "a", None)
    assert pause is None
    assert outbox.answered(ack("a", 7)) == (None, None)
    assert len(outbox) == 2


def test_after_a_break_all_unresolved_ones_go_again() -> None:
    outbox = Outbox()
    post(outbox, "a", "b", "c", "d")
    assert take(outbox, 3) == ["a", "b", "c"]
    outbox.answered(ack("b"))
    outbox.connection_lost()
    assert outbox.in_flight == 0
    assert take(outbox) == ["a", "c", "d"]


def test_a_refusal_for_good_lets_the_others_go_on() -> None:
    outbox = Outbox()
    post(outbox, "a", "b")
    take(outbox)
    outcome, pause = outbox.answered(refuse("a", "CHANNEL_NOT_FOUND", 5))
    assert outcome is not None
    assert isinstance(outcome.error, NotFound)
    assert pause is None
    outcome, _ = outbox.answered(ack("b"))
    assert outcome is not None
    assert outcome.sent is not None


def test_a_refusal_for_a_moment_keeps_the_order() -> None:
    outbox = Outbox()
    post(outbox, "a", "b", "c")
    take(outbox)
    outcome, pause = outbox.answered(refuse("a", "RATE_LIMITED", 8, retry_s=2.0))
    assert outcome is None
    assert pause is not None
    assert pause.retry_after == 2.0
    post(outbox, "d")
    # Answers to what was under way are awaited first.
    assert take(outbox) == []
    assert outbox.answered(refuse("b", "EARLIER_SEND_REFUSED", 10)) == (None, None)
    assert take(outbox) == []
    assert outbox.answered(refuse("c", "EARLIER_SEND_REFUSED", 10)) == (None, None)
    assert take(outbox) == ["a"]
    outbox.answered(ack("a"))
    assert take(outbox) == ["b", "c"]
    outbox.answered(ack("b"))
    assert take(outbox) == ["d"]


def test_a_blocked_channel_does_not_stop_others() -> None:
    outbox = Outbox()
    post(outbox, "a", "b")
    post(outbox, "other", "more", channel="d")
    take(outbox)
    outbox.answered(ack("other"))
    outbox.answered(refuse("a", "RATE_LIMITED", 8, retry_s=2.0))
    outbox.answered(ack("more"))
    post(outbox, "c")
    post(outbox, "last", channel="d")
    assert take(outbox) == ["last"]


def test_the_window_finds_the_limit() -> None:
    outbox = Outbox(max_window=8)
    post(outbox, *map(str, range(20)))
    assert len(take(outbox)) == 8
    for name in range(8):
        reason = "RATE_LIMITED" if name == 0 else "EARLIER_SEND_REFUSED"
        outbox.answered(refuse(str(name), reason, 8 if name == 0 else 10, retry_s=1.0))
    assert take(outbox) == ["0", "1", "2", "3"]
    for name in range(4):
        outbox.answered(ack(str(name)))
    assert len(take(outbox)) == 8


def test_too_large_is_no_passing_limit() -> None:
    outbox = Outbox()
    post(outbox, "a")
    take(outbox)
    outcome, _ = outbox.answered(refuse("a", "TOO_LARGE", 8))
    assert outcome is not None
    assert isinstance(outcome.error, LimitExceeded)


def test_bounds() -> None:
    outbox = Outbox(max_sends=2)
    post(outbox, "a", "b")
    with pytest.raises(OutboxFull):
        post(outbox, "c")
    outbox = Outbox(max_bytes=1000)
    outbox.post(request("a", text="x" * 5000), 0.0)  # one always fits
    with pytest.raises(OutboxFull):
        post(outbox, "b")
    assert len(outbox) == 1


def test_frames_are_bounded_in_bytes() -> None:
    outbox = Outbox()
    for name in "abc":
        outbox.post(request(name, text="x" * 600), 0.0)
    assert [len(outbox.take(100, 1000, 0.0)) for _ in range(3)] == [1, 1, 1]


def test_seven_days() -> None:
    outbox = Outbox()
    post(outbox, "a", "b")
    outbox.post(request("new"), EXPIRE_S)
    take(outbox, 1)
    assert outbox.expire(EXPIRE_S) == []
    outcomes = outbox.expire(EXPIRE_S + 1)
    assert [outcome.client_message_id for outcome in outcomes] == ["a", "b"]
    assert all(isinstance(outcome.error, SendExpired) for outcome in outcomes)
    assert take(outbox) == ["new"]
    assert outbox.answered(ack("a")) == (None, None)


def test_an_earlier_process_left_some() -> None:
    outbox = Outbox([Send(4, request("a"), 0.0), Send(9, request("b"), 0.0)])
    assert outbox.post(request("c"), 0.0).number == 10
    assert take(outbox) == ["a", "b", "c"]


def test_one_that_could_not_be_kept_is_withdrawn() -> None:
    outbox = Outbox()
    outbox.withdraw(outbox.post(request("a"), 0.0))
    assert len(outbox) == 0
    assert take(outbox) == []
