"""Writes the corpus that fuzzing starts from: `python -m tests.wire.core.seeds [FOLDER]`.

Out of those made here, those that are there and what fuzzing has left in the folder, the corpus
has the smallest that together go every way through the core that any of them goes.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from hpack import Encoder

import chinwag_server.wire
from chinwag_server.wire import frames
from tests.wire.core import target
from tests.wire.core.fuzz import CORPUS
from tests.wire.core.peer import HEAD, message

CORE = str(Path(chinwag_server.wire.__file__).parent)
MOST = 150
START = frames.PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: 100})
BLOCK = Encoder().encode(HEAD)
END = frames.END_HEADERS | frames.END_STREAM


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """A frame."""
    return frames.head(len(payload), kind, flags, stream_id) + payload


def headers(stream_id: int, *more: tuple[str, str], flags: int = frames.END_HEADERS) -> bytes:
    """HEADERS of a call."""
    return frame(frames.HEADERS, flags, stream_id, Encoder().encode([*HEAD, *more]))


def data(stream_id: int, body: bytes, flags: int = 0) -> bytes:
    """DATA."""
    return frame(frames.DATA, flags, stream_id, body)


def pieces(*parts: bytes, choice: int = 0) -> bytes:
    """Input as `target.run` takes it apart; what was chosen happens after the last."""
    cut = [part[at : at + 256] for part in parts for at in range(0, len(part), 256)]
    last = len(cut) - 1
    return b"".join(
        bytes((len(piece) - 1, choice if at == last else 0)) + piece for at, piece in enumerate(cut)
    )


def conversations() -> list[list[bytes]]:
    """Each kind of frame in its place and out of it, as h2spec has them."""
    hello = message(b"hello")
    return [
        [START],
        [START, headers(1, flags=END)],
        [START, headers(1), data(1, hello, frames.END_STREAM)],
        [START, headers(1), data(1, hello[:3]), data(1, hello[3:]), data(1, b"", 1)],
        [START, headers(1), data(1, hello * 9)],
        [START, headers(1), frame(frames.DATA, frames.PADDED, 1, b"\3" + hello + bytes(3))],
        [START, headers(1), frame(frames.DATA, frames.PADDED, 1, b"\x09" + hello)],
        [START, headers(1), frame(frames.HEADERS, END, 1, b"\0\1a\1b")],
        [START, headers(1), frame(frames.HEADERS, END, 1, b"\0\1A\1b")],
        [START, headers(1, ("grpc-timeout", "1S"), ("a-bin", "AAE"), ("grpc-encoding", "gzip"))],
        [START, headers(1, ("grpc-timeout", "soon"))],
        [START, headers(1, ("grpc-encoding", "br"), ("a-bin", "%"))],
        [START, headers(1, ("content-length", "10")), data(1, hello, frames.END_STREAM)],
        [START, headers(1, ("content-length", "9")), data(1, hello, frames.END_STREAM)],
        [START, headers(1, ("content-length", "x"))],
        [START, headers(1, ("connection", "close")), headers(3, ("te", "gzip"))],
        [START, headers(1, ("grpc-encoding", "gzip")), data(1, message(gzip.compress(b"a"), 1))],
        [START, headers(1), frames.rst_stream(1, 8), headers(3), headers(5)],
        [START, headers(1), frames.rst_stream(1, 8), data(1, hello)],
        [START, headers(1, flags=END), data(1, hello)],
        [START, headers(5), headers(3)],
        [START, *(headers(stream_id) for stream_id in range(1, 21, 2))],
        [START, headers(1), frames.window_update(1, 500), frames.window_update(0, 500)],
        [START, headers(1), frames.window_update(1, 0), frames.window_update(0, 0)],
        [START, headers(1), frames.window_update(1, 2**31 - 1)],
        [START, headers(1), frames.window_update(0, 2**31 - 1)],
        [START, headers(1), frames.settings({4: 5, 1: 0, 5: 20_000, 3: 1, 2: 0, 6: 9})],
        [START, headers(1), frames.settings({4: 2**31})],
        [START, frames.settings({5: 1})],
        [START, frames.settings({2: 2})],
        [START, frame(frames.SETTINGS, frames.ACK, 0, b"x")],
        [START, frame(frames.SETTINGS, 0, 1), frame(frames.SETTINGS, 0, 0, b"x")],
        [START, frames.ping(bytes(8)), frames.ping(b"farewell", ack=True), frames.goaway(0, 0)],
        [START, frame(frames.PING, 0, 0, b"short")],
        [START, frame(frames.GOAWAY, 0, 0, b"short")],
        [START, frame(frames.RST_STREAM, 0, 1, b"short")],
        [START, frames.rst_stream(1, 8)],
        [START, frame(frames.PUSH_PROMISE, 4, 1, bytes(4) + BLOCK)],
        [
            START,
            frame(frames.HEADERS, 0, 1, BLOCK[:4]),
            frame(frames.CONTINUATION, 0, 1, BLOCK[4:9]),
            frame(frames.CONTINUATION, END, 1, BLOCK[9:]),
        ],
        [START, frame(frames.HEADERS, 0, 1, BLOCK[:4]), frames.ping(bytes(8))],
        [START, frame(frames.HEADERS, 0, 1, b""), frame(frames.CONTINUATION, 0, 1) * 20],
        [START, frame(frames.CONTINUATION, 4, 1, BLOCK)],
        [START, frame(frames.HEADERS, END | frames.PADDED, 1, b"\2" + BLOCK + bytes(2))],
        [START, frame(frames.HEADERS, END | 0x20, 1, bytes(5) + BLOCK)],
        [START, frame(frames.HEADERS, END | 0x20, 1, b"\0\0\0\1\0" + BLOCK)],
        [START, frame(frames.HEADERS, END, 2, BLOCK)],
        [START, frame(frames.HEADERS, END, 1, b"\x3f\xe2\x1f")],
        [START, frame(frames.HEADERS, END, 1, b"\x82\x84\x86")],
        [START, frame(frames.PRIORITY, 0, 3, bytes(5)), frame(0x99, 1, 7, b"hi")],
        [START, frame(frames.PRIORITY, 0, 3, b"\0\0\0\3\0"), frame(frames.PRIORITY, 0, 0)],
        [START, frame(frames.DATA, 0, 0, b"x")],
        [START, b"\0\x40\1\0\0\0\0\0\1"],
        [START, frames.window_update(0, 1) * 400],
        [START, headers(1), data(1, message(b"x") + b"\7")],
        [START, headers(1), data(1, b"\0\xff\xff\xff\xff")],
        [START, headers(1, flags=END), headers(1, flags=END)],
        [START, headers(1), bytes((0, 8, 0, 0, 0, 0, 0, 0, 1)) + bytes(2048)],
        [b"GET / HTTP/1.1\r\n\r\n"],
    ]


def programs() -> list[bytes]:
    """Conversations above the frames: see `grpc_target`."""
    begin = bytes((3, 20, 255, 2))
    opened = bytes((0, 0, 1, 1, 0))
    with_gzip = bytes((0, 1, 1, 0, 1, 1, 0))
    steps = {
        "message": bytes((1, 0, 9, 5)) + b"hello",
        "gzip": bytes((1, 0, 0, 5)) + b"hello",
        "bomb": bytes((1, 0, 2, 0)),
        "large": bytes((1, 0, 5, 200)) + bytes(200),
        "raw": bytes((3, 0, 7)) + message(b"hi"),
        "bad": bytes((3, 0, 5)) + b"\x07abcd",
        "end": bytes((4, 0)),
        "reset": bytes((5, 0, 8)),
        "hold": bytes((7, 0, 8)),
        "release": bytes((7, 0, 11)),
        "send": bytes((7, 0, 1)),
        "finish": bytes((7, 0, 2, 5, 2)) + b"no",
        "time": bytes((9, 3)),
        "trailers": bytes((10, 0, 0)),
        "pause": bytes((11, 0)),
        "leave": bytes((11, 1)),
        "window": bytes((6, 0, 9, 1)),
    }
    ways = [
        "message end finish",
        "hold message message raw release end finish",
        "gzip gzip bomb",
        "bad",
        "large large hold large large release end",
        "send send finish window window",
        "pause send finish window",
        "leave time message finish",
        "message trailers finish",
        "raw time time time time",
        "hold message reset",
        "send reset",
    ]
    found = []
    for way in ways:
        body = b"".join(steps[step] for step in way.split())
        for head in (opened, with_gzip):
            found.append(bytes((target.GRPC,)) + begin + head + body)
    return found


def seeds() -> list[bytes]:
    """All that are made here."""
    found = programs()
    for conversation in conversations():
        for mode in (0, 1, 0x04, 0x24):
            found.append(bytes((mode,)) + pieces(*conversation))
        for choice in (0x81, 0x82, 0x84, 0x87, 0x18, 7, 9):
            found.append(b"\0" + pieces(*conversation, choice=choice))
    for choice in (0x20, 0x21, 0x40, 0xA0, 0x60):
        found.append(b"\x0a" + pieces(message(b"x" * 90), b"\x1f\x8b\x08\0", choice=choice))
    return found


Way = tuple[str, int, int]


def ways(run: Callable[[bytes], None], given: bytes) -> set[Way]:
    """The ways through the core that an input goes: from which line to which."""
    found: set[Way] = set()

    def trace(called: FrameType, event: str, _arg: Any) -> Any:
        name = called.f_code.co_filename
        if not name.startswith(CORE):
            return None
        before = called.f_lineno

        def line(here: FrameType, event: str, _arg: Any) -> Any:
            nonlocal before
            if event == "line":
                found.add((name, before, here.f_lineno))
                before = here.f_lineno
            return line

        return line

    sys.settrace(trace)
    try:
        run(given)
    finally:
        sys.settrace(None)
    return found


def smallest(given: list[bytes]) -> list[bytes]:
    """Those that go ways that no smaller ones go, each with all that can be left out left out."""
    gone: set[Way] = set()
    chosen: list[bytes] = []
    for one in sorted(set(given), key=lambda one: (len(one), one)):
        new = ways(target.run, one) - gone
        if new:
            less = _shortened(one, new)
            gone |= ways(target.run, less)
            chosen.append(less)
    return chosen


def _shortened(given: bytes, needed: set[Way]) -> bytes:
    size = len(given) // 2
    while size > 2:
        at = 1
        while at < len(given):
            less = given[:at] + given[at + size :]
            if needed <= ways(target.run, less):
                given = less
            else:
                at += size
        size //= 2
    return given


def main() -> None:
    """Writes them."""
    given = seeds()
    for folder in (CORPUS, *map(Path, sys.argv[1:])):
        given += [path.read_bytes() for path in folder.iterdir()]
    chosen = smallest(given)[:MOST]
    for path in CORPUS.iterdir():
        path.unlink()
    for one in chosen:
        (CORPUS / hashlib.sha256(one).hexdigest()[:16]).write_bytes(one)
    print(f"{len(chosen)} inputs, {sum(map(len, chosen))} bytes")


if __name__ == "__main__":
    main()
