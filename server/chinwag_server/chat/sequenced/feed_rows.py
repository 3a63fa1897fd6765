"""Reading shards' feeds: from a place, over epochs, up to where an owner says that it is whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chinwag_server.chat.sequenced import schema
from chinwag_server.chat.sequenced.feed import Place
from chinwag_server.chat.sequenced.tables import Key, Row, Tables


class FeedRow(NamedTuple):
    """Entries `first_id..last_id` of a channel, committed together. They may come again, in a later
    row, but are never missing before a later one of the channel."""

    number: int
    channel_id: str
    first_id: int
    last_id: int


async def rows_after(
    tables: Tables, shard: int, place: Place, end: Place, limit: int
) -> tuple[Sequence[FeedRow], Place]:
    """The next rows of a shard, all of the place's epoch, and the place behind them. There may be
    none although the place moves.

    Of the end's epoch nothing is read above the end. An earlier one is over, for a later one has
    begun: all that it acked is stored, and is read to where there is nothing more. What lands in it
    after that was not acked, and lies in a row of a later epoch too.

    Args:
        end: As an owner of the shard said it, before this is called.
        limit: Of rows.

    Raises:
        TablesUnavailable: It cannot be read now.
    """
    if place >= end:
        return (), place
    bucket = (place.number + 1) // schema.FEED_BUCKET
    if place.epoch == end.epoch:
        to = min(end.number, (bucket + 1) * schema.FEED_BUCKET - 1)
        rows = await _rows(tables, shard, place, bucket, (to,), limit)
        return rows, Place(place.epoch, rows[-1].number if len(rows) == limit else to)
    if place.epoch:
        rows = await _rows(tables, shard, place, bucket, (), limit)
        if rows:
            return rows, Place(place.epoch, rows[-1].number)
    return (), await _next(tables, shard, (place.epoch, bucket), end)


async def _rows(
    tables: Tables, shard: int, place: Place, bucket: int, to: Key, limit: int
) -> list[FeedRow]:
    where = (shard, place.epoch, bucket)
    found = await tables.read(schema.FEED, where, after=(place.number,), to=to, limit=limit)
    return [_feed_row(row) for row in found]


def _feed_row(row: Row) -> FeedRow:
    channel_id = str(row.cells["channel_id"])
    return FeedRow(int(row.key[0]), channel_id, row.number("first_id"), row.number("last_id"))


async def _next(tables: Tables, shard: int, after: Key, end: Place) -> Place:
    """Where the next partition begins, at the latest where the end's epoch does."""
    rows = await tables.read(schema.FEED_BUCKETS, (shard,), after=after, limit=1)
    if rows:
        epoch, bucket = (int(number) for number in rows[0].key)
        if epoch <= end.epoch:
            return Place(epoch, max(bucket * schema.FEED_BUCKET - 1, 0))
    return Place(end.epoch, 0)
