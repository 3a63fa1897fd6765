"""100,000 channels get a new owner: what it reads and writes of the database.

The store that a node has, on tables in memory: counted is what it asks of them, which is the same
on Cassandra. `mesh_faults` shows the rate at a real one.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.measures.common import Bench
from bench.report import Row as Figure
from chinwag.chat.v1 import channel_pb2, entry_pb2
from chinwag_server.chat.entries import timestamp
from chinwag_server.chat.routed.across import SHARDS_AT_ONCE
from chinwag_server.chat.sequenced.epoch import Epoch
from chinwag_server.chat.sequenced.memory import MemoryTables
from chinwag_server.chat.sequenced.store import SequencedStore
from chinwag_server.chat.sequenced.tables import Delete, Key, Put, Row, Table
from chinwag_server.chat.store import (
    AppendEntry,
    ChannelRecord,
    EntryKind,
    MemberRecord,
    PutChannel,
    PutMember,
    Write,
)
from chinwag_server.clock import SystemClock
from chinwag_server.mesh.shards import SHARDS, shard_of

CHANNELS = 100_000
TOUCHED = 200
LISTED_AT_ONCE = 4  # of a shard: the default of `take_over_touched`
REACH_READS, REACH_WRITES = 2.0, 3.0
SAMPLE = 200
SLOW_S = 0.005  # as a Cassandra that has something else to do
GENERATION = 1


@dataclass(frozen=True)
class Stay:
    """An epoch that lasts."""

    shard: int
    number: int

    def alive(self) -> bool:
        return True


class CountedTables(MemoryTables):
    """Counts what is asked of it; a batch is one write.

    Attributes:
        done: By kind.
        slow_s: How long each takes.
        most: That were under way at one time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.done: Counter[str] = Counter()
        self.slow_s = 0.0
        self.most = 0
        self._under_way = 0

    async def write(self, writes: Sequence[Put | Delete]) -> None:
        await self._one("write")
        await super().write(writes)

    async def read(
        self,
        table: Table,
        partition: Key,
        *,
        after: Key = (),
        to: Key = (),
        limit: int,
        newest_first: bool = False,
    ) -> list[Row]:
        await self._one("read")
        self.done[f"read {table.name}"] += 1
        return await super().read(
            table, partition, after=after, to=to, limit=limit, newest_first=newest_first
        )

    async def _one(self, kind: str) -> None:
        self.done[kind] += 1
        if self.slow_s:
            self._under_way += 1
            self.most = max(self.most, self._under_way)
            await asyncio.sleep(self.slow_s)
            self._under_way -= 1


class Node:
    """The store of a node that owns all shards."""

    def __init__(self, tables: CountedTables, epoch: int) -> None:
        self.tables = tables
        self.epochs = [Stay(shard, epoch) for shard in range(SHARDS)]
        self.store = SequencedStore(
            tables,
            lambda channel_id: self.epochs[shard_of(channel_id)],
            _given_up,
            generation=GENERATION,
            clock=SystemClock(),
            max_open=1000,
        )

    async def take_over(self) -> None:
        """Goes through the lists of all shards, so many at once as a node does."""
        room = asyncio.Semaphore(SHARDS_AT_ONCE)

        async def one(epoch: Epoch) -> None:
            async with room:
                await self.store.take_over_touched(epoch)

        await asyncio.gather(*map(one, self.epochs))

    async def commit(self, writes: Sequence[Write]) -> None:
        """Submits and waits."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def committed(_stamp: int, error: Exception | None) -> None:
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        self.store.submit(writes, committed)
        await done


def measure(_bench: Bench) -> list[Figure]:
    """Rows: what a take-over asks of the database, and the first use of an idle channel."""
    return asyncio.run(_measure())


async def _measure() -> list[Figure]:
    tables = CountedTables()
    first = Node(tables, 7)
    await first.take_over()
    names = [f"channel-{number:06}" for number in range(CHANNELS)]
    for name in names:
        await first.commit(_created(name))
    for epoch in first.epochs:
        await first.store.hand_over(epoch)
    # This one is not asked to hand over: what it was busy with is on the lists.
    second = Node(tables, 8)
    await second.take_over()
    for name in names[:TOUCHED]:
        await second.commit([_message(name)])

    third = Node(tables, 9)
    tables.done.clear()
    tables.slow_s = SLOW_S
    begun = time.perf_counter()
    await third.take_over()
    took_s = time.perf_counter() - begun
    tables.slow_s = 0.0
    over = Counter(tables.done)
    idle = []
    for name in names[-SAMPLE:]:
        tables.done.clear()
        await third.store.channel(name)
        idle.append((tables.done["read"], tables.done["write"]))
    return [*_listed_rows(over, tables.most, took_s), *_idle_rows(idle)]


def _listed_rows(done: Counter[str], most: int, took_s: float) -> list[Figure]:
    lists = done["read touched"]
    operations = done["read"] - lists + done["write"]
    name = f"{CHANNELS:,} channels taken over, {TOUCHED} on the touched list"
    return [
        Figure(
            f"{name}: most operations under way at once",
            most,
            "",
            SHARDS_AT_ONCE * LISTED_AT_ONCE,
            detail=f"{done['read'] + done['write']:,} in {took_s:.1f} s, at {SLOW_S * 1000:.0f} ms "
            f"each: {lists:,} reads of lists, the rest for the listed, none for the others",
        ),
        Figure(
            f"{name}: operations a listed one",
            operations / TOUCHED,
            "",
            detail=f"{(done['read'] - lists) / TOUCHED:.0f} reads, {done['write'] / TOUCHED:.0f} "
            "writes",
        ),
    ]


def _idle_rows(idle: Sequence[tuple[int, int]]) -> list[Figure]:
    reads, writes = (max(counts) for counts in zip(*idle, strict=True))
    return [
        Figure(f"first use of an idle channel, most of {len(idle)}: {what}", most, "", reach)
        for what, most, reach in (("reads", reads, REACH_READS), ("writes", writes, REACH_WRITES))
    ]


def _created(name: str) -> list[Write]:
    return [
        _entry(name, 1, EntryKind.CHANNEL_CREATED),
        PutMember(MemberRecord(name, f"ann of {name}", role=1, join_id=1, ranges=((1, 0),))),
        PutChannel(ChannelRecord(name, channel_pb2.CHANNEL_KIND_GROUP, b"", member_count=1)),
    ]


def _message(name: str) -> AppendEntry:
    return _entry(name, 2, EntryKind.MESSAGE_SENT)


def _entry(name: str, number: int, kind: EntryKind) -> AppendEntry:
    now_us = time.time_ns() // 1000
    entry = entry_pb2.Entry(channel_id=name, id=number, create_time=timestamp(now_us), actor_id="a")
    if kind is EntryKind.CHANNEL_CREATED:
        entry.channel_created.SetInParent()
    else:
        entry.message_sent.content.text = "x" * 100
    sent = kind is EntryKind.MESSAGE_SENT
    return AppendEntry(
        name,
        number,
        kind,
        entry.SerializeToString(),
        timeline_count=number - 1,
        time_us=now_us,
        message_id=number if sent else 0,
        sender_id="a" if sent else "",
        client_message_id=now_us.to_bytes(16, "big") if sent else b"",
        content_hash=bytes(16) if sent else b"",
    )


def _given_up(epoch: Epoch, why: str) -> None:
    raise RuntimeError(f"the epoch of shard {epoch.shard} was given up: {why}")
