"""The feed of a mesh: all shards' feeds, read from any node."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from chinwag.chat.v1 import chat_service_pb2
from chinwag_server.chat.feed import expired
from chinwag_server.chat.routed.feed_cursor import Position
from chinwag_server.chat.routed.feed_ends import KnownEnds
from chinwag_server.chat.sequenced.committed import CommittedReads
from chinwag_server.chat.sequenced.feed import Place
from chinwag_server.chat.sequenced.feed_rows import FeedRow, rows_after
from chinwag_server.chat.sequenced.reads import AT_ONCE, together
from chinwag_server.chat.sequenced.tables import Tables, TablesUnavailable
from chinwag_server.chat.store import StoredEntry, StoreUnavailable
from chinwag_server.mesh.shards import SHARDS, shard_of

# What is read of one shard at a time, and what goes into one batch.
STEP_ROWS = 100
STEP_BYTES = 64 << 10
PAGE_ENTRIES = 200
BATCH_BYTES = 512 << 10
# Channels of which a reader remembers how far it is.
MAX_GIVEN = 20_000


class MeshFeed:
    """`chat.feed.FeedLog` over shards.

    Args:
        reads: Of entries, wherever their channels are owned.
    """

    def __init__(self, tables: Tables, reads: CommittedReads, ends: KnownEnds) -> None:
        self._tables = tables
        self._reads = reads
        self._ends = ends

    async def read(
        self, request: chat_service_pb2.StreamEventsRequest, wake: Callable[[], None]
    ) -> AsyncGenerator[chat_service_pb2.StreamEventsResponse | None, None]:
        position = Position(self._reads.generation)
        if request.cursor:
            parsed = Position.parse(request.cursor, self._reads.generation)
            if parsed is None:
                raise expired()
            position = parsed
        elif request.from_now:
            for shard, place in enumerate(await self._ends.now()):
                position.move(shard, place)
            # Whoever is cut off before anything happens is to go on from here.
            yield chat_service_pb2.StreamEventsResponse(cursor=position.cursor())
        unwatch = self._ends.watch(wake)
        try:
            reader = FeedReader(
                self._tables, self._reads, self._ends, position, frozenset(request.channel_ids)
            )
            while True:
                async with aclosing(reader.batches()) as batches:
                    async for batch in batches:
                        yield batch
                yield None
        finally:
            unwatch()


@dataclass(slots=True)
class _Step:
    """What was read of a shard: up to `place` it is whole."""

    place: Place
    entries: list[StoredEntry] = field(default_factory=list)
    size: int = 0


class Ends(Protocol):
    """Where each shard ends, as far as is known; (0, 0): nothing is."""

    def __getitem__(self, shard: int) -> Place: ...


class FeedReader:
    """One reading of the feed.

    Args:
        position: Where it begins; it moves.
        only: The channels that are wanted; empty: all.
    """

    def __init__(
        self,
        tables: Tables,
        reads: CommittedReads,
        ends: Ends,
        position: Position,
        only: Collection[str],
    ) -> None:
        self._tables = tables
        self._reads = reads
        self._ends = ends
        self._position = position
        self._only = only
        self._shards = sorted({shard_of(name) for name in only}) or range(SHARDS)
        # The last entry of each channel that was handed out: of what comes again, here nothing
        # does. A channel is in one shard, and of a shard one step runs at a time.
        self._given: OrderedDict[str, int] = OrderedDict()

    async def batches(self) -> AsyncGenerator[chat_service_pb2.StreamEventsResponse, None]:
        """All that may be read now.

        Raises:
            StoreUnavailable: Something cannot be read now.
        """
        while due := [shard for shard in self._shards if self._position[shard] < self._ends[shard]]:
            batch, size = chat_service_pb2.StreamEventsResponse(), 0
            for start in range(0, len(due), AT_ONCE):
                some = due[start : start + AT_ONCE]
                steps = await together([lambda shard=shard: self._step(shard) for shard in some])  # type: ignore[misc]
                for shard, step in zip(some, steps, strict=True):
                    self._position.move(shard, step.place)
                    for entry in step.entries:
                        batch.entries.add().ParseFromString(entry.payload)
                    size += step.size
                    if size > BATCH_BYTES:
                        batch.cursor = self._position.cursor()
                        yield batch
                        batch, size = chat_service_pb2.StreamEventsResponse(), 0
            if batch.entries:
                batch.cursor = self._position.cursor()
                yield batch

    async def _step(self, shard: int) -> _Step:
        """A shard's next rows, with their entries: about STEP_BYTES."""
        place, end = self._position[shard], self._ends[shard]
        try:
            rows, after = await rows_after(self._tables, shard, place, end, STEP_ROWS)
        except TablesUnavailable as error:
            raise StoreUnavailable(f"the feed cannot be read now: {error}") from error
        step = _Step(place)
        start = 0
        while start < len(rows):
            run = _run(rows, start)
            start += len(run)
            if self._only and run[0].channel_id not in self._only:
                step.place = Place(place.epoch, run[-1].number)
            elif not await self._read(run, step):
                return step
        step.place = after
        return step

    async def _read(self, run: Sequence[FeedRow], step: _Step) -> bool:
        """Reads rows of one channel. False: not all of them, for the step is full."""
        channel_id, last_id = run[0].channel_id, run[-1].last_id
        at = self._given.get(channel_id, run[0].first_id - 1)
        while at < last_id and step.size < STEP_BYTES:
            most = STEP_BYTES - step.size
            page = await self._reads.entries(channel_id, at, last_id, PAGE_ENTRIES, most)
            if [entry.id for entry in page] != list(range(at + 1, at + 1 + len(page))) or not page:
                raise StoreUnavailable(f"{channel_id}: entries after {at} are not where they were")
            step.entries += page
            step.size += sum(len(entry.payload) for entry in page)
            at = page[-1].id
        self._given[channel_id] = at
        self._given.move_to_end(channel_id)
        if len(self._given) > MAX_GIVEN:
            self._given.popitem(last=False)
        for row in run:
            if row.last_id <= at:
                step.place = Place(step.place.epoch, row.number)
        return at >= last_id


def _run(rows: Sequence[FeedRow], start: int) -> Sequence[FeedRow]:
    """Rows from `start` on that are of one channel and follow on each other."""
    end = start + 1
    while (
        end < len(rows)
        and rows[end].channel_id == rows[start].channel_id
        and rows[end].first_id == rows[end - 1].last_id + 1
    ):
        end += 1
    return rows[start:end]
