"""Writes the corpus that fuzzing starts from: `python -m tests.wire.core.seeds`."""

from __future__ import annotations

import hashlib

from hpack import Encoder

from chinwag_server.wire import frames
from tests.wire.core.fuzz import CORPUS
from tests.wire.core.peer import HEAD, message

START = frames.PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: 100})


def headers(stream_id: int, *more: tuple[str, str], flags: int = frames.END_HEADERS) -> bytes:
    """HEADERS of a call."""
    block = Encoder().encode([*HEAD, *more])
    return frames.head(len(block), frames.HEADERS, flags, stream_id) + block


def data(stream_id: int, body: bytes, flags: int = 0) -> bytes:
    """DATA."""
    return frames.head(len(body), frames.DATA, flags, stream_id) + body


def pieces(*parts: bytes, choice: int = 0) -> bytes:
    """Input as `target.run` takes it apart."""
    out = b""
    for part in parts:
        for at in range(0, len(part), 256):
            piece = part[at : at + 256]
            out += bytes((len(piece) - 1, choice)) + piece
    return out


def seeds() -> list[bytes]:
    """Each kind of frame in its place and out of it, in each mode."""
    end = frames.END_HEADERS | frames.END_STREAM
    block = Encoder().encode(HEAD)
    conversations = [
        [START],
        [START, headers(1, flags=end)],
        [START, headers(1), data(1, message(b"hello"), frames.END_STREAM)],
        [START, headers(1), data(1, message(b"hello")[:3]), data(1, message(b"hello")[3:])],
        [START, headers(1, ("grpc-timeout", "1S"), ("a-bin", "AAE"), ("grpc-encoding", "gzip"))],
        [START, headers(1), frames.rst_stream(1, 8), headers(3), headers(5)],
        [START, headers(1), frames.window_update(1, 500), frames.window_update(0, 500)],
        [START, headers(1), frames.settings({4: 5, 1: 0, 5: 20_000, 3: 1, 2: 0, 6: 9})],
        [START, frames.ping(bytes(8)), frames.ping(b"farewell", ack=True), frames.goaway(0, 0)],
        [
            START,
            frames.head(4, frames.HEADERS, 0, 1) + block[:4],
            frames.head(len(block) - 4, frames.CONTINUATION, end, 1) + block[4:],
        ],
        [START, frames.head(len(block) + 3, frames.HEADERS, end | 8, 1) + b"\2" + block + bytes(2)],
        [
            START,
            frames.head(5, frames.PRIORITY, 0, 3) + bytes(5),
            frames.head(2, 0x99, 1, 7) + b"hi",
        ],
        [START, headers(1), headers(1, flags=end)],
        [b"GET / HTTP/1.1\r\n\r\n"],
    ]
    found = []
    for conversation in conversations:
        for mode in (0, 1, 0x04, 0x15, 0x24, 0x44):
            found.append(bytes((mode,)) + pieces(*conversation))
        found.append(b"\0" + pieces(*conversation, choice=0x81))
        found.append(b"\0" + pieces(*conversation, choice=7))
        found.append(
            b"\x02" + pieces(*(part.replace(START, b"") for part in conversation), choice=9)
        )
    for choice in (0x20, 0x21, 0x40, 0xA0, 0x60):
        found.append(b"\x0a" + pieces(message(b"x" * 90), b"\x1f\x8b\x08\0", choice=choice))
    return found


if __name__ == "__main__":
    CORPUS.mkdir(exist_ok=True)
    for seed in seeds():
        (CORPUS / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
