"""A connection that carries many people's streams: what one of them does costs that one alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import pytest

from chinwag.chat.v1 import chat_service_pb2 as pb
from tests.wire.hostile import peer as h2
from tests.wire.hostile.attacks import CALM, CONNECT, GET_FIELDS, LIST_CHANNELS, hello
from tests.wire.hostile.peer import END_HEADERS, END_STREAM, HEADERS, Peer
from tests.wire.hostile.stage import STALL_MS, Stage, until_not_slow

SYNC = "/chinwag.chat.v1.ChatService/Sync"
ANSWER_S = 5.0
RESETS = 10_000
STALLED = 100
GOOD = 1


class Proxied:
    """A proxy's connection with one device on it that does no harm."""

    def __init__(self, peer: Peer, stage: Stage) -> None:
        self.peer = peer
        self.stage = stage
        self._next = GOOD

    def stream(self) -> int:
        """A new stream's id."""
        self._next += 2
        return self._next

    def token(self, number: int) -> str:
        """Of somebody who may do harm."""
        return self.stage.people.hostile[number]

    async def assert_alive(self) -> None:
        """The good device still gets what is said, and new calls are answered."""
        peer, had = self.peer, self.peer.bytes_of[GOOD]
        got = await peer.until(lambda: peer.bytes_of[GOOD] > had, ANSWER_S)
        assert got, f"nothing came any more; the connection: {peer.ending}"
        stream_id = self.stream()
        peer.write(
            h2.call_head(stream_id, LIST_CHANNELS, self.token(0))
            + h2.message(stream_id, b"", end=True)
        )
        assert await peer.until(lambda: stream_id in peer.ended, ANSWER_S)
        assert peer.trailers[stream_id]["grpc-status"] == "0"
        assert peer.ending == "open"
        assert GOOD not in peer.resets

    async def assert_reset(self, stream_id: int, code: str) -> None:
        """One stream was ended for what it did, and all else goes on."""
        peer = self.peer
        await peer.until(lambda: stream_id in peer.resets, ANSWER_S)
        assert peer.resets.get(stream_id) == code, peer.ending
        await self.assert_alive()


@asynccontextmanager
async def proxied(stage: Stage) -> AsyncIterator[Proxied]:
    """A connection of a proxy's, beside people who are not to notice what comes over it."""
    async with stage.watched():
        large = h2.settings((h2.INITIAL_WINDOW_SIZE, h2.LARGEST_WINDOW))
        large += h2.window_update(0, h2.LARGEST_WINDOW - h2.DEFAULT_WINDOW)
        peer = await Peer.open(stage.port, first=h2.PREFACE + large)
        proxied = Proxied(peer, stage)
        peer.write(hello(proxied.token(0), stage.people.groups[0], GOOD))
        await proxied.assert_alive()
        yield proxied
        peer.close()


def call(stream_id: int, token: str) -> bytes:
    """A call that waits for its request."""
    return h2.call_head(stream_id, LIST_CHANNELS, token)


def waiting(stream_id: int, token: str) -> bytes:
    """A call that has sent all, and whose answer takes a while."""
    request = pb.SyncRequest()
    request.wait.FromSeconds(30)
    data = request.SerializeToString()
    return h2.call_head(stream_id, SYNC, token) + h2.message(stream_id, data, end=True)


def trailers(stream_id: int, *fields: tuple[str, str], flags: int = END_STREAM) -> bytes:
    """A second header block."""
    return h2.frame(HEADERS, flags | END_HEADERS, stream_id, h2.block(fields))


Violation = Callable[[int, str], bytes]
VIOLATIONS: dict[str, tuple[Violation, str]] = {
    "data_after_end_stream": (
        lambda one, token: waiting(one, token) + h2.frame(h2.DATA, 0, one, b"more"),
        "STREAM_CLOSED",
    ),
    "headers_after_end_stream": (
        lambda one, token: waiting(one, token) + trailers(one, ("x", "y")),
        "STREAM_CLOSED",
    ),
    "data_after_reset_by_the_client": (
        lambda one, token: call(one, token) + h2.reset(one) + h2.frame(h2.DATA, 0, one, b"more"),
        "STREAM_CLOSED",
    ),
    "pseudo_header_in_trailers": (
        lambda one, token: call(one, token) + trailers(one, (":path", "/")),
        "PROTOCOL_ERROR",
    ),
    "upper_case_in_trailers": (
        lambda one, token: call(one, token) + trailers(one, ("Upper", "x")),
        "PROTOCOL_ERROR",
    ),
    "trailers_that_do_not_end": (
        lambda one, token: call(one, token) + trailers(one, ("x", "y"), flags=0),
        "PROTOCOL_ERROR",
    ),
    "upper_case_in_a_request": (
        lambda one, _: trailers(one, *h2.call_fields(LIST_CHANNELS), ("Upper", "x")),
        "PROTOCOL_ERROR",
    ),
    "no_path": (lambda one, _: trailers(one, *h2.call_fields(CONNECT)[:2]), "PROTOCOL_ERROR"),
    "content_length": (
        lambda one, token: (
            h2.frame(
                HEADERS,
                END_HEADERS,
                one,
                h2.block([*h2.call_fields(LIST_CHANNELS, token), ("content-length", "3")]),
            )
            + h2.frame(h2.DATA, 0, one, b"more")
        ),
        "PROTOCOL_ERROR",
    ),
    "window_update_of_0": (
        lambda one, token: call(one, token) + h2.window_update(one, 0),
        "PROTOCOL_ERROR",
    ),
    "window_too_large": (
        lambda one, token: call(one, token) + h2.window_update(one, h2.LARGEST_WINDOW),
        "FLOW_CONTROL_ERROR",
    ),
    "depends_on_itself": (
        lambda one, token: (
            call(one, token) + h2.frame(h2.PRIORITY, 0, one, one.to_bytes(4, "big") + b"\0")
        ),
        "PROTOCOL_ERROR",
    ),
}


async def violate(proxied: Proxied) -> None:
    for name, (violation, code) in VIOLATIONS.items():
        stream_id = proxied.stream()
        proxied.peer.write(violation(stream_id, proxied.token(1)))
        try:
            await proxied.assert_reset(stream_id, code)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


async def reset_ten_thousand(proxied: Proxied) -> None:
    for _ in range(RESETS // 50):
        await proxied.peer.push(
            b"".join(
                call(one, proxied.token(2)) + h2.reset(one)
                for one in (proxied.stream() for _ in range(50))
            )
        )
        await asyncio.sleep(0.01)
    await proxied.assert_alive()


def readers_of_nothing(proxied: Proxied) -> Iterable[tuple[int, bytes]]:
    """Streams whose answers wait for a window: of web browsers, and of devices."""
    people = proxied.stage.people
    for number in range(STALLED):
        stream_id = proxied.stream()
        if number % 2:
            get = h2.block(GET_FIELDS)
            yield stream_id, h2.frame(HEADERS, END_STREAM | END_HEADERS, stream_id, get)
        else:
            token = people.hostile[1 + number % 40]
            yield stream_id, hello(token, people.groups[0], stream_id, cursor=0)


async def stall(proxied: Proxied) -> None:
    peer = proxied.peer
    peer.write(h2.settings((h2.INITIAL_WINDOW_SIZE, 0)) + h2.window_update(GOOD, 1 << 20))
    # It had the largest window before: what it still may get is that less the change.
    peer.write(h2.window_update(GOOD, (1 << 30)))
    stalled = dict(readers_of_nothing(proxied))
    for data in stalled.values():
        peer.write(data)
    all_reset = await peer.until(
        lambda: all(one in peer.resets or one in peer.ended for one in stalled),
        STALL_MS / 1000 + 3,
    )
    assert all_reset
    codes = {peer.resets.get(one) for one in stalled}
    # A device of which another stream came has been told so, and is gone sooner.
    assert codes <= {CALM, None, "NO_ERROR"}
    peer.write(h2.settings((h2.INITIAL_WINDOW_SIZE, h2.DEFAULT_WINDOW)))
    await proxied.assert_alive()


# What comes over the connection, and that it costs only the streams that it is on.
HARMS = (violate, reset_ten_thousand, stall)


@pytest.mark.parametrize("harm", HARMS, ids=[harm.__name__ for harm in HARMS])
async def test_the_others_of_a_proxy_do_not_notice(
    trusting_stage: Stage, harm: Callable[[Proxied], Awaitable[None]]
) -> None:
    async def once() -> None:
        async with proxied(trusting_stage) as connection:
            await harm(connection)

    await until_not_slow(once)
