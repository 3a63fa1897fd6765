"""The feed of a shard as its owner writes it: which entries were committed, in an order.

Beside a commit one row goes into the feed of the channel's shard and of the owner's epoch, under
the next number. It is at QUORUM before the commit is acked, and it is written only once the entries
are the log's for good: so a row never names an entry that is not. What an owner that ended had not
acked is in the rows of a later epoch: whoever takes a channel over writes one for what it keeps.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from chinwag_server.chat.sequenced import schema
from chinwag_server.chat.sequenced.epoch import Epoch, EpochOver
from chinwag_server.chat.sequenced.projection import Rows
from chinwag_server.chat.sequenced.tables import Put, Value

# Rows of one shard and epoch: a cursor has room for no more.
MAX_NUMBER = (1 << 35) - 1


class Place(NamedTuple):
    """A place in a shard's feed: behind the row with this number, 0 the start of the epoch."""

    epoch: int
    number: int


class FeedEnds:
    """How far the feeds of the shards that this process owns may be read: up to there all rows of
    the epoch are stored. That stays true for ever, whoever owns the shard later.

    Attributes:
        version: Rises with every change.
    """

    def __init__(self) -> None:
        self.version = 0
        # By shard: when it changed last and to what, the oldest change first.
        self._ends: OrderedDict[int, tuple[int, Place]] = OrderedDict()
        self._waiting: set[asyncio.Future[None]] = set()

    def set(self, shard: int, place: Place) -> None:
        """A shard may be read up to there."""
        self.version += 1
        self._ends[shard] = (self.version, place)
        self._ends.move_to_end(shard)
        if self._waiting:
            for future in self._waiting:
                if not future.done():
                    future.set_result(None)

    def drop(self, shard: int, epoch: int) -> None:
        """The epoch is over here."""
        end = self._ends.get(shard)
        if end is not None and end[1].epoch == epoch:
            del self._ends[shard]

    def after(self, version: int) -> list[tuple[int, Place]]:
        """What changed after a version, by shard."""
        found: list[tuple[int, Place]] = []
        for shard, (changed, place) in reversed(self._ends.items()):
            if changed <= version:
                break
            found.append((shard, place))
        return found

    async def change(self, version: int, timeout_s: float) -> None:
        """Waits until something changed after a version, or until the time is over."""
        if self.version > version:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await asyncio.wait([future], timeout=timeout_s)
        finally:
            self._waiting.discard(future)


class ShardFeed:
    """The feed of one shard and epoch.

    Args:
        write: Repeats a write until it has succeeded, or raises EpochOver.
        give_up: Ends the epoch.
    """

    def __init__(
        self,
        epoch: Epoch,
        ends: FeedEnds,
        write: Callable[[Rows], Awaitable[None]],
        give_up: Callable[[str], None],
    ) -> None:
        self._epoch = epoch
        self._ends = ends
        self._write = write
        self._give_up = give_up
        self._given = 0
        self._end = 0
        self._pending: dict[int, None] = {}  # numbers that were given, rising
        self._opened: dict[int, asyncio.Future[None]] = {}
        # A later epoch is there, even with nothing in it: what those before it acked can be read.
        ends.set(epoch.shard, Place(epoch.number, 0))

    async def row(self, channel_id: str, first_id: int, last_id: int) -> tuple[int, Put]:
        """The row of entries that are the log's, and its number: `done` is called with it once
        the row is stored and readers may see the entries.

        Raises:
            EpochOver: The epoch ended, or has no numbers left.
        """
        if self._given == MAX_NUMBER:
            self._give_up("its feed has no numbers left")
            raise EpochOver
        self._given += 1
        number = self._given
        self._pending[number] = None
        bucket = number // schema.FEED_BUCKET
        await self._open(bucket)
        place = (self._epoch.shard, self._epoch.number, bucket)
        cells: dict[str, Value] = {
            "channel_id": channel_id,
            "first_id": first_id,
            "last_id": last_id,
        }
        # Nobody else writes to this partition: any timestamp does.
        return number, Put(schema.FEED, place, (number,), cells, self._epoch.number)

    def done(self, number: int) -> None:
        """A row is stored, and its commit is done."""
        del self._pending[number]
        end = next(iter(self._pending), self._given + 1) - 1
        if end > self._end:
            self._end = end
            self._ends.set(self._epoch.shard, Place(self._epoch.number, end))

    async def _open(self, bucket: int) -> None:
        """Notes a partition before its first row: a reader finds those of earlier epochs so."""
        opened = self._opened.get(bucket)
        if opened is None:
            place = (self._epoch.number, bucket)
            row = Put(
                schema.FEED_BUCKETS, (self._epoch.shard,), place, {"kind": 1}, self._epoch.number
            )
            opened = asyncio.ensure_future(self._write([row]))
            self._opened[bucket] = opened
        if not opened.done():
            await asyncio.shield(opened)
        opened.result()
