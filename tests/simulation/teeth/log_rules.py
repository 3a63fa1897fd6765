"""The rules of writing and of taking over, taken out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from unittest import mock

from chinwag.mesh.v1 import log_pb2
from chinwag_server.chat.sequenced import schema, sequencer, tail
from chinwag_server.chat.sequenced.reads import TableReads
from chinwag_server.chat.sequenced.sequencer import Sequencer, ShardEpoch
from chinwag_server.chat.sequenced.store import SequencedStore
from chinwag_server.chat.sequenced.tables import Delete, Put, TablesUnavailable
from chinwag_server.chat.sequenced.tail import Found, Head, spans
from chinwag_server.chat.store import StoredSend, StoreUnavailable
from tests.simulation.teeth.tooth import method, nothing, tooth
from tests.simulation.world import Node

# --- timestamps ---


@tooth()
def timestamps_by_epoch() -> Sequence[Any]:
    """Writes carry a timestamp that grows with the epoch (here it falls: of equal ones the greater
    bytes win, and those begin with the epoch)."""

    def falling(self: ShardEpoch) -> int:
        return 4_000_001 - 4 * self.epoch.number

    return [method(ShardEpoch, "entry_timestamp", property(falling))]


@tooth()
def tombstone_below_writes() -> Sequence[Any]:
    """The deletion of phantoms lies one below the epoch's own writes."""

    async def delete_after(self: Sequencer, last: int) -> None:
        for bucket, first, end in spans(last + 1, last + tail.WINDOW):
            place = (self.channel_id, bucket)
            timestamp = self.shard.entry_timestamp
            gone = Delete(schema.ENTRIES, place, (first,), (end,), timestamp)
            await self.shard.insist(lambda gone=gone: self._tables.write([gone]))  # type: ignore[misc]

    return [method(Sequencer, "_delete_after", delete_after)]


# --- taking over ---


def _reading(goes_on: Callable[[int, int, int, int], bool]) -> Any:
    """`read_after` with another end: asked with the last id and its epoch, and the next ones."""

    async def read(tables: Any, channel_id: str, head: Head) -> list[Found]:
        kept: list[Found] = []
        last, epoch = head.id, head.epoch
        while True:
            bucket = schema.bucket_of(last + 1)
            place = (channel_id, bucket)
            rows = await tables.read(schema.ENTRIES, place, after=(last,), limit=tail.PAGE)
            for row in rows:
                record = log_pb2.LogRecord.FromString(row.blob("record"))
                if not goes_on(last, epoch, row.key[0], record.epoch):
                    return kept
                last, epoch = row.key[0], record.epoch
                kept.append((last, record))
            if len(rows) < tail.PAGE and schema.bucket_of(last + 1) == bucket:
                return kept

    return read


_read_falling = _reading(lambda last, _epoch, entry_id, _its_epoch: entry_id == last + 1)
_read_over_holes = _reading(lambda _last, epoch, _entry_id, its_epoch: its_epoch >= epoch)


@tooth("phantoms")
def no_hole_and_one_mutation() -> Sequence[Any]:
    """The kept run ends at a hole. (An owner leaves none, for one commit is under way at a time,
    and what it writes to a bucket is one mutation: that is taken out too.)"""
    whole = Sequencer._write_all

    async def write_all(self: Sequencer, some: Any) -> None:
        entries = [part for part in some if part[0].table is schema.ENTRIES]
        others = [part for part in some if part[0].table is not schema.ENTRIES]
        await whole(self, [*([row] for part in entries for row in part), *others])

    return [
        method(sequencer, "read_after", _read_over_holes),
        method(Sequencer, "_write_all", write_all),
    ]


@tooth("alone")
def epoch_never_falls_and_delete() -> Sequence[Any]:
    """The kept run ends where the epoch falls, and what follows it is deleted: these two cover for
    each other."""
    return [
        method(sequencer, "read_after", _read_falling),
        method(Sequencer, "_delete_after", nothing),
    ]


@tooth("alone")
def window_is_a_span() -> Sequence[Any]:
    """As many ids are deleted behind the end as may be in flight. (With the epochs looked at, that
    would be noticed as little as no deletion at all.)"""

    async def delete_one(self: Sequencer, last: int) -> None:
        place = (self.channel_id, schema.bucket_of(last + 1))
        timestamp = self.shard.entry_timestamp - 1
        gone = Delete(schema.ENTRIES, place, (last + 1,), (last + 1,), timestamp)
        await self.shard.insist(lambda: self._tables.write([gone]))

    return [
        method(sequencer, "read_after", _read_falling),
        method(Sequencer, "_delete_after", delete_one),
    ]


@tooth("torn")
def tail_rewritten() -> Sequence[Any]:
    """Kept entries are written again, so that they are at QUORUM."""
    return [method(Sequencer, "_rewrite", nothing)]


@tooth("torn_rows")
def rows_rewritten() -> Sequence[Any]:
    """And with them their idempotency rows."""

    async def rewrite(self: Sequencer, kept: Sequence[Found]) -> None:
        for entry_id, record in kept:
            row = Put(
                schema.ENTRIES,
                (self.channel_id, schema.bucket_of(entry_id)),
                (entry_id,),
                {"record": record.SerializeToString()},
                self.shard.entry_timestamp,
            )
            await self._write_all([[row]])

    return [method(Sequencer, "_rewrite", rewrite)]


@tooth("long_ends")
def epoch_kept_in_rewritten() -> Sequence[Any]:
    """A kept entry keeps the epoch of the owner that gave its id."""
    whole = Sequencer._rewrite

    async def rewrite(self: Sequencer, kept: Sequence[Found]) -> None:
        mine = []
        for entry_id, record in kept:
            copy = log_pb2.LogRecord()
            copy.CopyFrom(record)
            copy.epoch = self.shard.epoch.number
            mine.append((entry_id, copy))
        await whole(self, mine)

    return [method(Sequencer, "_rewrite", rewrite)]


@tooth("cut_short")
def projections_redone() -> Sequence[Any]:
    """What follows from kept entries is written again."""
    whole = Sequencer._take_over

    async def take_over(self: Sequencer, making: bool) -> None:
        with mock.patch.object(self, "_follow", nothing):
            await whole(self, making)

    return [method(Sequencer, "_take_over", take_over)]


@tooth()
def touched_list() -> Sequence[Any]:
    """Channels that were given ids are taken over unasked."""
    return [method(SequencedStore, "take_over_touched", nothing)]


# --- acks ---


@tooth("stalled")
def lease_checked_after_writes() -> Sequence[Any]:
    """The lease is checked once more before an ack. (Every write looks at the lease before its
    first try; what follows from entries is written after them, so that this look and the one after
    the writes cover for each other: both are taken out.)"""

    async def insist(self: ShardEpoch, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except TablesUnavailable:
            await whole(self, work)

    whole = ShardEpoch.insist
    return [
        method(ShardEpoch, "check_again", lambda _self: None),
        method(ShardEpoch, "insist", insist),
    ]


def _let_go(work: Any) -> None:
    """Work that nobody waits for."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


@tooth()
def ack_follows_the_log() -> Sequence[Any]:
    """An ack waits for the entry at QUORUM."""
    whole = Sequencer._write_all

    async def write_all(self: Sequencer, some: Any) -> None:
        _let_go(whole(self, some))

    return [method(Sequencer, "_write_all", write_all)]


@tooth("late")
def ack_waits_for_the_row() -> Sequence[Any]:
    """And for the idempotency row."""
    whole = Sequencer._write_all

    async def write_all(self: Sequencer, some: Any) -> None:
        for part in some:
            if part[0].table is schema.SENDS:
                _let_go(whole(self, [part]))
        if rows := [part for part in some if part[0].table is not schema.SENDS]:
            await whole(self, rows)

    return [method(Sequencer, "_write_all", write_all)]


@tooth("phantoms")
def hit_validated() -> Sequence[Any]:
    """An idempotency row counts only if the log says the same."""

    async def find_send(
        self: SequencedStore, channel_id: str, sender_id: str, key: bytes
    ) -> StoredSend | None:
        await self._owned(channel_id)
        message_id = await self._reading(lambda: self._reads.sent_id(channel_id, sender_id, key))
        if not message_id:
            return None
        record = await self._reading(lambda: self._reads.record(channel_id, message_id))
        return StoredSend(message_id, record.content_hash if record else b"")

    return [method(SequencedStore, "_find_send", find_send)]


@tooth()
def look_up_after_take_over() -> Sequence[Any]:
    """Repeats are looked up once the end of the log is decided."""
    whole = SequencedStore._find_send

    async def find_send(self: SequencedStore, *key: Any) -> StoredSend | None:
        if self._epoch_of(key[0]) is None or key[0] not in self._open:
            return None
        return await whole(self, *key)

    return [method(SequencedStore, "_find_send", find_send)]


@tooth("crowded")
def unresolved_is_not_forgotten() -> Sequence[Any]:
    """A channel with anything unresolved stays in memory."""

    def forget_some(self: SequencedStore, _newest: Sequencer) -> None:
        while len(self._open) > 1:
            self._open.popitem(last=False)

    return [method(SequencedStore, "_forget_some", forget_some)]


@tooth("torn")
def readers_stop_at_the_head() -> Sequence[Any]:
    """Nothing above the announced head is shown."""

    async def on_read(self: Node, channel_id: str, after_id: int) -> list[tuple[int, bytes]]:
        await self.room.channels.get(channel_id)
        reads = TableReads(self.tables, 0)
        try:
            entries = await reads.entries(channel_id, after_id, after_id + 50, 50, 1 << 20)
        except TablesUnavailable as error:
            raise StoreUnavailable(str(error)) from error
        return [(entry.id, entry.payload) for entry in entries]

    return [method(Node, "on_read", on_read)]
