"""Where a feed is in each shard, and that as the text of a cursor.

At most 11 bytes a shard: about 6,000 characters in all, and never more than 15,100.
"""

from __future__ import annotations

import base64
import binascii
import zlib

from chinwag_server.chat.sequenced.feed import MAX_NUMBER, Place
from chinwag_server.chat.sequenced.projection import REGISTER_BITS
from chinwag_server.mesh.shards import SHARDS

FORMAT = 1
# Registers have no room for later epochs either.
MAX_EPOCH = (1 << (63 - REGISTER_BITS)) - 1
CHECK_BYTES = 4


class Position:
    """A place in each shard; at first the beginning.

    Args:
        generation: Of the store.
    """

    def __init__(self, generation: int) -> None:
        self._generation = generation
        self._places = [Place(0, 0)] * SHARDS
        # Kept as they are, since of a cursor most of them are the last one's.
        self._base = 0
        self._parts = [_part(Place(0, 0), 0)] * SHARDS

    def __getitem__(self, shard: int) -> Place:
        return self._places[shard]

    def move(self, shard: int, place: Place) -> None:
        """All before this place was handed out."""
        self._places[shard] = place
        if place.epoch < self._base:
            self._base = 0
            self._parts = [_part(some, 0) for some in self._places]
        else:
            self._parts[shard] = _part(place, self._base)

    def cursor(self) -> str:
        """The text that stands for it."""
        # Epochs are alike: what is above the lowest one is short.
        base = min(place.epoch for place in self._places)
        if base != self._base:
            self._base = base
            self._parts = [_part(place, base) for place in self._places]
        head = bytes([FORMAT]) + _varint(self._generation) + _varint(base)
        data = head + b"".join(self._parts)
        return base64.urlsafe_b64encode(data + _check(data)).decode().rstrip("=")

    @staticmethod
    def parse(cursor: str, generation: int) -> Position | None:
        """What `cursor` made; None: it is not of this store, or of nobody."""
        if "=" in cursor:
            return None
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        except (ValueError, binascii.Error):
            return None
        data, check = raw[:-CHECK_BYTES], raw[-CHECK_BYTES:]
        if not data or check != _check(data) or data[0] != FORMAT:
            return None
        numbers = _varints(data[1:])
        if len(numbers) != 2 + 2 * SHARDS or numbers[0] != generation:
            return None
        base, found = numbers[1], Position(generation)
        for shard in range(SHARDS):
            epoch, number = base + numbers[2 + 2 * shard], numbers[3 + 2 * shard]
            if epoch > MAX_EPOCH or number > MAX_NUMBER:
                return None
            found.move(shard, Place(epoch, number))
        return found


def _check(data: bytes) -> bytes:
    """Against what was cut or mistyped: whoever may read the feed may read all of it."""
    return zlib.crc32(data).to_bytes(CHECK_BYTES, "big")


def _part(place: Place, base: int) -> bytes:
    return _varint(place.epoch - base) + _varint(place.number)


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first, as Protobuf has it."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _varints(data: bytes) -> list[int]:
    found: list[int] = []
    number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
        else:
            found.append(number)
            number = shift = 0
    return found if not shift else []
