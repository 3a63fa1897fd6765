"""Ids, waits, marks, the inbox, and unary calls with their retries."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import uuid
from typing import Any

import grpc
import pytest

from chinwag import errors
from chinwag import events as ev
from chinwag.backoff import Backoff
from chinwag.calls import Calls
from chinwag.chat.v1 import channel_pb2, chat_service_pb2
from chinwag.content import content_of
from chinwag.ids import MessageIds
from chinwag.inbox import Inbox
from chinwag.marks import LAZY_S, Marks
from tests.sdk.clock import FakeClock
from tests.sdk.model import refusal
from tests.sdk.test_errors import Failure

PATTERN = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")


def test_ids_rise_and_are_uuids_of_version_7() -> None:
    ids = MessageIds(random.Random(1))
    drawn = [ids.draw(1_700_000_000.0 + step / 100_000) for step in range(6000)]
    drawn += [ids.draw(1_600_000_000.0) for _ in range(5000)]  # the clock went back
    assert drawn == sorted(set(drawn))
    assert all(PATTERN.match(name) for name in drawn)
    assert uuid.UUID(drawn[0]).version == 7
    assert int(drawn[0].replace("-", "")[:12], 16) == 1_700_000_000_000


def test_full_jitter() -> None:
    backoff = Backoff(random.Random(1), base_s=1, cap_s=10)
    for _ in range(100):
        waits = [backoff.next() for _ in range(6)]
        assert all(
            0 <= wait <= bound for wait, bound in zip(waits, [1, 2, 4, 8, 10, 10], strict=True)
        )
        backoff.reset()


def test_lazy_marks_share_a_frame() -> None:
    marks = Marks()
    marks.raise_to("a", 0, 5, 0.0, lazy=True)
    marks.raise_to("b", 0, 3, 0.5, lazy=True)
    assert marks.take(0.9) == []
    due = [marks.due]
    taken = marks.take(LAZY_S)
    due.append(marks.due)
    assert [(m.channel_id, m.delivered_id) for m in taken] == [("a", 5), ("b", 3)]
    assert due == [LAZY_S, None]
    marks.raise_to("a", 0, 4, 2.0)
    assert marks.take(2.0) == []
    marks.confirmed(channel_pb2.ChannelState(channel_id="a", delivered_id=5))
    marks.again(3.0)
    assert [m.channel_id for m in marks.take(3.0)] == ["b"]


def test_the_inbox_is_bounded_and_says_when_there_is_room() -> None:
    rooms: list[int] = []
    inbox = Inbox(lambda: rooms.append(len(inbox)), max_events=4, max_bytes=100)
    events = [ev.StampReached(str(number)) for number in range(4)]
    inbox.put(events[:3])
    full = [inbox.is_full]
    inbox.put(events[3:])
    full.append(inbox.is_full)
    assert full == [False, True]
    assert [inbox.pop() for _ in range(4)] == events
    assert rooms == [2]
    assert inbox.pop() is None
    inbox.put(events[:1], 100)
    assert inbox.is_full
    inbox.pop()
    assert rooms == [2, 0]


def test_a_connection_that_comes_and_goes_fills_no_inbox() -> None:
    inbox = Inbox(lambda: None)
    for _ in range(100):
        inbox.put([ev.ConnectionChanged(ev.Connection.WAITING)])
    assert len(inbox) == 1


def test_content() -> None:
    made = content_of("hi", ["bob"], {"k": "v"})
    assert (made.text, list(made.mentioned_user_ids), dict(made.metadata)) == (
        "hi",
        ["bob"],
        {"k": "v"},
    )
    assert content_of(made) == made
    assert content_of(made) is not made
    with pytest.raises(errors.InvalidArgument):
        content_of("\udcff")


class Method:
    """A stub's method that fails in given ways, then answers."""

    def __init__(self, *failures: Failure) -> None:
        self.failures = list(failures)
        self.requests: list[Any] = []

    async def __call__(self, request: Any, *, timeout: float, metadata: Any) -> str:
        self.requests.append((request.request_id, dict(metadata)))
        if self.failures:
            raise self.failures.pop(0)
        return "answer"


class Token:
    def __init__(self) -> None:
        self.number = 0

    async def token(self) -> str:
        return f"t{self.number}"

    async def rejected(self, token: str) -> None:
        self.number += 1


def failure(reason: str, code: grpc.StatusCode, retry_s: float | None = None) -> Failure:
    status = refusal(reason, code.value[0], retry_s=retry_s)
    return Failure(code, status.SerializeToString())


class Caller:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.slept: list[float] = []
        self.calls = Calls(
            Token(), rng=random.Random(1), sleep=self._sleep, monotonic=self.clock.monotonic
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)

    async def __call__(self, method: Method) -> str:
        stub: Any = method
        answer: Any = await self.calls(stub, chat_service_pb2.EditMessageRequest(channel_id="c"))
        return str(answer)


async def test_retries_keep_their_request_id() -> None:
    method = Method(
        Failure(grpc.StatusCode.UNAVAILABLE),
        failure("OVERLOADED", grpc.StatusCode.RESOURCE_EXHAUSTED, 2.0),
    )
    caller = Caller()
    assert await caller(method) == "answer"
    ids = {request_id for request_id, _ in method.requests}
    assert len(method.requests) == 3
    assert len(ids) == 1
    assert ids != {""}
    assert caller.slept[1] >= 2.0


async def test_what_is_refused_for_good_is_not_tried_again() -> None:
    method = Method(failure("MESSAGE_NOT_FOUND", grpc.StatusCode.NOT_FOUND))
    with pytest.raises(errors.NotFound):
        await Caller()(method)
    assert len(method.requests) == 1


async def test_an_expired_token_is_refreshed() -> None:
    method = Method(failure("TOKEN_EXPIRED", grpc.StatusCode.UNAUTHENTICATED))
    assert await Caller()(method) == "answer"
    assert [m["authorization"] for _, m in method.requests] == ["Bearer t0", "Bearer t1"]


async def test_retries_end() -> None:
    method = Method(*(Failure(grpc.StatusCode.UNAVAILABLE) for _ in range(1000)))
    caller = Caller()
    with pytest.raises(errors.Unavailable):
        await caller(method)
    assert caller.clock.now <= 1000.0 + 15.0
    waits = failure("RATE_LIMITED", grpc.StatusCode.RESOURCE_EXHAUSTED, 60.0)
    with pytest.raises(errors.LimitExceeded) as refused:
        await Caller()(Method(waits))
    assert refused.value.retry_after == 60.0


def test_generated_messages_do_not_bring_the_client() -> None:
    program = (
        "import sys, chinwag, chinwag.chat.v1.entry_pb2\n"
        "assert 'grpc' not in sys.modules and 'chinwag.client' not in sys.modules\n"
        "chinwag.connect, chinwag.Session, chinwag.blocking.connect\n"
        "assert all(hasattr(chinwag, name) for name in chinwag.__all__)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
