"""Sessions: files, and tokens that are refreshed once and in time."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest
from google.rpc import status_pb2

from chinwag import errors
from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import user_pb2
from chinwag.session import TRUST_S, Session, SessionCredential
from tests.sdk.clock import FakeClock


def tokens(number: int, end_s: float, refresh: bool = True) -> user_pb2.Tokens:
    made = user_pb2.Tokens(
        user_id="ada",
        device_id="d",
        access_token=f"access{number}",
        refresh_token=f"refresh{number}" if refresh else "",
    )
    made.access_expire_time.FromNanoseconds(int(end_s * 1e9))
    if refresh:
        made.refresh_expire_time.FromNanoseconds(int((end_s + 1000) * 1e9))
    return made


class Server:
    """Answers RefreshToken."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.asked: list[str] = []
        self.failure: errors.ChinwagError | None = None

    async def refresh(self, method: object, request: pb.RefreshTokenRequest) -> Any:
        self.asked.append(request.refresh_token)
        await asyncio.sleep(0.01)
        if self.failure is not None:
            raise self.failure
        number = len(self.asked)
        return pb.RefreshTokenResponse(tokens=tokens(number, self.clock.time() + 900))


class _NoChannel:
    def __getattr__(self, name: str) -> Any:
        return lambda *args, **more: None


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def server(clock: FakeClock) -> Server:
    return Server(clock)


def credential(session: Session, server: Server) -> SessionCredential:
    channel: Any = _NoChannel()
    made = SessionCredential(
        session, channel, time_s=server.clock.time, monotonic=server.clock.monotonic
    )
    made._calls = server.refresh  # type: ignore[assignment]
    return made


async def test_a_good_token_is_used(clock: FakeClock, server: Server) -> None:
    session = Session.of(tokens(0, clock.time() + 900))
    assert await credential(session, server).token() == "access0"
    assert server.asked == []


async def test_refreshed_before_its_end_and_once(clock: FakeClock, server: Server) -> None:
    session = Session.of(tokens(0, clock.time() + 30))
    made = credential(session, server)
    found = await asyncio.gather(*(made.token() for _ in range(5)))
    assert found == ["access1"] * 5
    assert server.asked == ["refresh0"]
    assert session.refresh_token == "refresh1"
    clock.advance(850)
    assert await made.token() == "access2"
    assert server.asked == ["refresh0", "refresh1"]


async def test_a_rejected_token_is_refreshed_once(clock: FakeClock, server: Server) -> None:
    made = credential(Session.of(tokens(0, clock.time() + 900)), server)
    await asyncio.gather(made.rejected("access0"), made.rejected("access0"))
    await made.rejected("access0")
    assert server.asked == ["refresh0"]
    assert await made.token() == "access1"


async def test_who_gives_up_waiting_does_not_break_it(clock: FakeClock, server: Server) -> None:
    made = credential(Session.of(tokens(0, clock.time())), server)
    waiting = asyncio.ensure_future(made.token())
    await asyncio.sleep(0)
    waiting.cancel()
    assert await made.token() == "access1"
    assert server.asked == ["refresh0"]


async def test_a_failure_is_told_and_tried_again(clock: FakeClock, server: Server) -> None:
    made = credential(Session.of(tokens(0, clock.time())), server)
    server.failure = errors.Unavailable("away", code=14)
    with pytest.raises(errors.Unavailable):
        await made.token()
    server.failure = None
    assert await made.token() == "access2"


async def test_without_a_refresh_token(clock: FakeClock, server: Server) -> None:
    session = Session.of(tokens(0, clock.time(), refresh=False))
    with pytest.raises(errors.Unauthenticated):
        await credential(session, server).token()

    async def source() -> user_pb2.Tokens:
        return tokens(7, clock.time() + 900, refresh=False)

    session.source = source
    assert await credential(session, server).token() == "access7"


async def test_a_wrong_clock_does_not_refresh_for_ever(clock: FakeClock, server: Server) -> None:
    made = credential(Session.of(tokens(0, clock.time())), server)
    clock.now += 5000  # from here on every new token looks ended
    server.clock = FakeClock()
    await made.token()
    await made.token()
    assert len(server.asked) == 1
    clock.advance(TRUST_S + 1)
    await made.token()
    assert len(server.asked) == 2


def test_the_file(tmp_path: Path, clock: FakeClock) -> None:
    path = tmp_path / "home" / "ada.json"
    session = Session.of(tokens(0, clock.time()), username="ada", address="localhost:7400")
    session.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Session.load(path) == session
    session.take(tokens(1, clock.time()))
    assert Session.load(path).access_token == "access1"
    assert [file.name for file in path.parent.iterdir()] == ["ada.json"]
    assert "access1" not in repr(session)
    assert "refresh1" not in repr(session)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Session.load(tmp_path / "missing")
    for content in ("", "[]", "{}", '{"user_id": 1}', "\x00"):
        (tmp_path / "bad").write_text(content)
        with pytest.raises(ValueError, match="no chinwag session"):
            Session.load(tmp_path / "bad")


async def test_two_programs_with_one_file(tmp_path: Path, clock: FakeClock, server: Server) -> None:
    path = tmp_path / "ada.json"
    Session.of(tokens(0, clock.time())).save(path)
    first, second = (credential(Session.load(path), server) for _ in range(2))
    assert await first.token() == "access1"
    assert await second.token() == "access1"
    assert server.asked == ["refresh0"]


def test_a_status_that_is_none() -> None:
    assert errors.from_status(status_pb2.Status()).reason == ""
