"""What waits to leave on an opened link, and the frames that it becomes.

A repeated field of Protobuf concatenates: the serialised frames of single questions and news,
joined, are one frame that holds all of them.
"""

from __future__ import annotations

from collections import deque

from chinwag_server.mesh.asking import Asked
from chinwag_server.mesh.links import MESSAGE_BYTES

# Of a frame; what is larger goes alone.
_FRAME_BYTES = 1 << 20
_FRAME_ITEMS = 1000
# What a frame has around a message: tags, lengths, `heard`.
OVERHEAD_BYTES = 64


class Outbox:
    """In order, bounded in bytes.

    Args:
        most_bytes: That wait.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._pieces: deque[tuple[bytes, Asked | None]] = deque()

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def refusal(self, size: int) -> str:
        """Why a piece of so many bytes cannot be put now; "": it can."""
        if size > MESSAGE_BYTES + OVERHEAD_BYTES:
            return f"a message has at most {MESSAGE_BYTES} bytes, this one {size}"
        if self._bytes + size > self._most_bytes:
            return f"{self._bytes} bytes wait already, of {self._most_bytes}: come again later"
        return ""

    def put(self, piece: bytes, asked: Asked | None = None) -> None:
        """Adds a serialised frame of one question or piece of news."""
        self._bytes += len(piece)
        self._pieces.append((piece, asked))

    def take(self) -> bytes:
        """The next frame, without what nobody waits for any more; b"": nothing is left."""
        frame: list[bytes] = []
        room = _FRAME_BYTES
        pieces = self._pieces
        while pieces and len(frame) < _FRAME_ITEMS and (not frame or len(pieces[0][0]) <= room):
            piece, asked = pieces.popleft()
            self._bytes -= len(piece)
            if asked is not None:
                if asked.answer.done():
                    continue
                asked.sent = True
            room -= len(piece)
            frame.append(piece)
        return b"".join(frame)
