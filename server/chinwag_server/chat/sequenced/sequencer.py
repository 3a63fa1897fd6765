"""One channel's log under one epoch: taking it over, and writing it so that nothing acked is lost.

The rules are those of docs/sequencer.md, which says why each is there. In short: ids are given by
one owner at a time; what it writes carries a timestamp that grows with its epoch, so that a late
write of an older owner never wins; it acks when an entry, its idempotency row and what follows
from it are at QUORUM and its lease is still certainly alive; and who comes next decides first what
of the unfinished end is the log's.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from chinwag.chat.v1 import channel_pb2
from chinwag.mesh.v1 import log_pb2
from chinwag_server.chat.sequenced import schema
from chinwag_server.chat.sequenced.epoch import Epoch, EpochOver, GiveUp
from chinwag_server.chat.sequenced.feed import FeedEnds, ShardFeed
from chinwag_server.chat.sequenced.newest import NewestSends
from chinwag_server.chat.sequenced.projection import (
    REGISTER_BITS,
    Projector,
    Rows,
    batches,
    channel_cells,
    newest,
)
from chinwag_server.chat.sequenced.record import append_of, record_of, writes_of
from chinwag_server.chat.sequenced.tables import Delete, Put, Row, Tables, TablesUnavailable, Value
from chinwag_server.chat.sequenced.tail import WINDOW, Found, Head, read_after, spans
from chinwag_server.chat.store import (
    AppendEntry,
    EntryKind,
    PutChannel,
    PutMessage,
    Redact,
    StoreUnavailable,
    Write,
    WriteRefused,
)

log = logging.getLogger(__name__)

# Bytes of one commit of a channel, all entries together.
MAX_COMMIT_BYTES = 1 << 20
RETRY_S = (0.05, 1.0)
HINT_EVERY = 200

_SENT = EntryKind.MESSAGE_SENT


@dataclass(slots=True)
class Part:
    """The writes of a submission that are about one channel.

    Attributes:
        done: Called with what became of it: None once it is committed.
        size_bytes: About what it weighs.
    """

    writes: Sequence[Write]
    done: Callable[[Exception | None], None]
    size_bytes: int


# The id of an entry, or of the head before what has none; its record; what was submitted with it.
Step = tuple[int, log_pb2.LogRecord | None, list[Write]]


class _Refused(Exception):
    """A part contradicts the log: the one at a place of a commit, of which nothing was written."""

    def __init__(self, place: int, text: str) -> None:
        super().__init__(text)
        self.place = place


# What was told longer ago than this reached who is there, or they were told that they missed
# something: heads are repeated for ten seconds, and clocks differ by a few.
LATELY_US = 30_000_000


class ShardEpoch:
    """What the channels of a shard share while one epoch lasts.

    Args:
        ends: Of the feeds that are written; None: none are.

    Attributes:
        caught_up: Whether all channels that the owners before had noted were taken over.
        feed: Where commits are noted too.
    """

    def __init__(
        self, epoch: Epoch, tables: Tables, give_up: GiveUp, ends: FeedEnds | None = None
    ) -> None:
        self.epoch = epoch
        self.caught_up = False
        self.feed = None if ends is None else ShardFeed(epoch, ends, self._insist, self.give_up)
        self._tables = tables
        self._give_up = give_up
        self._registers = 0
        self._touched: dict[str, asyncio.Future[None]] = {}
        self._changed: OrderedDict[str, int] = OrderedDict()

    def changed(self, channel_id: str, time_us: int) -> None:
        """A channel has a new head, of a time."""
        self._changed[channel_id] = time_us
        self._changed.move_to_end(channel_id)
        while next(iter(self._changed.values())) < time_us - LATELY_US:
            self._changed.popitem(last=False)

    def changed_lately(self, now_us: int) -> list[str]:
        """The channels of which the newest entry may not have reached everybody yet."""
        return [name for name, us in self._changed.items() if us >= now_us - LATELY_US]

    def touched_row(self, channel_id: str, *, above: int = 0) -> Put:
        """The row that notes a channel for the next owner."""
        cells: dict[str, Value] = {"epoch": self.epoch.number}
        timestamp = self.entry_timestamp + above
        return Put(schema.TOUCHED, (self.epoch.shard,), (channel_id,), cells, timestamp)

    @property
    def entry_timestamp(self) -> int:
        """Of entries; the deletion of phantoms is one below, a redaction one above."""
        return 4 * self.epoch.number + 1

    def check(self) -> None:
        """An owner that failed one check gives the epoch up.

        Raises:
            EpochOver: It did.
        """
        if not self.epoch.alive():
            self.give_up("its lease may have ended")
            raise EpochOver

    def check_again(self) -> None:
        """The check after what may have taken long: a pause after this one is harmless, since any
        later owner reads after the lease ended, and so finds what was written.

        Raises:
            EpochOver: As `check`.
        """
        self.check()

    def give_up(self, why: str) -> None:
        """Ends the epoch."""
        self._give_up(self.epoch, why)

    def next_register(self) -> int:
        """The timestamp of a register that no entry tells of."""
        self._registers += 1
        if self._registers >> REGISTER_BITS:
            self.give_up("its registers have no numbers left")
            raise EpochOver
        return (self.epoch.number << REGISTER_BITS) + self._registers

    async def insist(self, work: Callable[[], Awaitable[None]]) -> None:
        """Repeats a write, with the same bytes, until it has succeeded.

        Raises:
            EpochOver: It did not while the epoch lasted.
        """
        wait_s, longest_s = RETRY_S
        while True:
            self.check()
            try:
                await work()
                return
            except TablesUnavailable as error:
                log.warning("a write will be repeated: %s", error)
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(2 * wait_s, longest_s)

    async def _insist(self, rows: Rows) -> None:
        await self.insist(lambda: self._tables.write(rows))

    async def touch(self, channel_id: str) -> None:
        """Notes that a channel is given ids, before the first: the next owner looks at once for
        entries that were acked and told to nobody."""
        noted = self._touched.get(channel_id)
        if noted is None:
            noted = asyncio.ensure_future(self._touch(channel_id))
            self._touched[channel_id] = noted
        await asyncio.shield(noted)

    async def _touch(self, channel_id: str) -> None:
        row = self.touched_row(channel_id)
        await self.insist(lambda: self._tables.write([row]))


class Sequencer:
    """One channel under one epoch.

    Args:
        before_ack: Called with the entries of a commit before they are acked: the inboxes.

    Attributes:
        newest: Which sends cannot be repeats.
        changes: Rises whenever a message changes, before it is written and after that.
    """

    def __init__(
        self,
        channel_id: str,
        shard: ShardEpoch,
        tables: Tables,
        before_ack: Callable[[str, Sequence[AppendEntry]], Awaitable[None]] | None = None,
    ) -> None:
        self.channel_id = channel_id
        self.shard = shard
        self.head = Head()
        self.row = Row(())
        self.over = False
        self.changes = 0
        self.newest = NewestSends()
        self._tables = tables
        self._before_ack = before_ack
        self._projector = Projector(channel_id, 0, shard.next_register)
        self._queue: deque[Part] = deque()
        self._running: asyncio.Task[None] | None = None
        self._taking: asyncio.Task[None] | None = None
        self._taken = False
        self._hinted = 0

    @property
    def exists(self) -> bool:
        """Whether the channel was made; false while it was not taken over."""
        return self._taken and "kind" in self.row.cells

    @property
    def is_broadcast(self) -> bool:
        """Whether it is a broadcast channel; false while it was not taken over."""
        return self._projector.kind == channel_pb2.CHANNEL_KIND_BROADCAST

    @property
    def projector(self) -> Projector:
        """What is known of the channel's rows."""
        return self._projector

    @property
    def idle(self) -> bool:
        """Whether nothing is under way or waits, no taking over either."""
        return self._running is None and (self._taking is None or self._taking.done())

    # --- taking over ---

    async def take_over(self, *, making: bool = False) -> None:
        """Decides what of the log's end is the log's, and makes it durable; before anything else
        in an epoch, and once. Of a channel that is not there nothing is decided but with
        `making`: it is about to be made, or an earlier owner was about to make it.

        Raises:
            EpochOver: The epoch ended.
            TablesUnavailable: The end could not be read.
        """
        while not self._taken:
            taking = self._taking
            if taking is None:
                taking = self._taking = asyncio.ensure_future(self._take_over(making))
            try:
                # Whoever waits may be cancelled; what was begun is finished.
                await asyncio.shield(taking)
            finally:
                if taking.done() and self._taking is taking:
                    self._taking = None
            if not making:
                return

    async def _take_over(self, making: bool) -> None:
        self.shard.check()
        rows = await self._tables.read(schema.CHANNELS, (self.channel_id,), limit=1)
        row = rows[0] if rows else Row(())
        hint = Head.unpack(row.blob("head"))
        kept = await read_after(self._tables, self.channel_id, hint)
        if not rows and not kept and not making:
            return
        self._projector.kind = row.number("kind")
        await self._rewrite(kept)
        await self._delete_after(kept[-1][0] if kept else hint.id)
        self.shard.check_again()
        head = hint
        self.row = row
        number, beside = await self._feed_row(kept[0][0], kept[-1][0]) if kept else (0, [])
        steps: list[Step] = []
        for entry_id, record in kept:
            head = head.after(entry_id, record)
            steps.append((entry_id, record, writes_of(self.channel_id, record.projections)))
        await self._follow(steps, beside)
        self._feed_done(number)
        if kept and self._before_ack is not None:
            entries = [append_of(self.channel_id, at, record) for at, record in kept]
            await self._before_ack(self.channel_id, entries)
        self.head = head
        self._hinted = hint.id
        if kept:
            self.shard.changed(self.channel_id, head.time_us)
            await self._hint()
        # Only now may anybody be told of the head.
        self.shard.check_again()
        self._taken = True

    async def _delete_after(self, last: int) -> None:
        """Deletes what may be in flight behind the end, also what has yet to land."""
        timestamp = self.shard.entry_timestamp - 1
        for bucket, first, end in spans(last + 1, last + WINDOW):
            place = (self.channel_id, bucket)
            gone = Delete(schema.ENTRIES, place, (first,), (end,), timestamp)
            await self.shard.insist(lambda gone=gone: self._tables.write([gone]))  # type: ignore[misc]

    async def _rewrite(self, kept: Sequence[Found]) -> None:
        """Makes sure of entries that may have reached one replica only. Each keeps its record's
        epoch: or else a take-over that stops half-way would make it fall inside the log."""
        for bucket, first, end in spans(kept[0][0], kept[-1][0]) if kept else ():
            some = [(entry_id, record) for entry_id, record in kept if first <= entry_id <= end]
            for start in range(0, len(some), WINDOW):
                await self._write_entries(bucket, some[start : start + WINDOW])

    # --- writing ---

    def submit(self, part: Part) -> None:
        """Queues writes; they take effect in this order."""
        if self.over:
            part.done(StoreUnavailable("the channel has another owner"))
            return
        self._queue.append(part)
        if self._running is None:
            self._running = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        taken: list[Part] = []
        try:
            await self._insist_on_taking_over()
            while self._queue:
                taken = self._take()
                await self._commit(taken)
                finished, taken = taken, []
                for part in finished:
                    self._tell(part, None)
        except _Refused as refused:
            self._end(taken, WriteRefused(str(refused)), refused.place)
        except EpochOver:
            self._end(taken, StoreUnavailable("the channel changes its owner: retry"))
        except Exception as error:
            # What was written is not known, so nobody may go on from here in this epoch.
            log.exception("channel %s: its writer failed", self.channel_id)
            self.shard.give_up("a write failed in a way that is not understood")
            self._end(taken, StoreUnavailable(f"the store failed: {error}"))
        finally:
            self._running = None

    async def _insist_on_taking_over(self) -> None:
        async def take_over() -> None:
            await self.take_over(making=True)

        if not self._taken:
            await self.shard.insist(take_over)

    def _end(self, taken: Sequence[Part], error: Exception, fault: int = -1) -> None:
        """Nothing is written here any more: what of the commit under way holds, whoever takes the
        channel over decides."""
        self.over = True
        parts = [*taken, *self._queue]
        self._queue.clear()
        for place, part in enumerate(parts):
            mine = fault in (-1, place)
            self._tell(part, error if mine else StoreUnavailable("a write beside it failed"))

    def _tell(self, part: Part, error: Exception | None) -> None:
        try:
            part.done(error)
        except Exception:
            log.exception("channel %s: a callback failed", self.channel_id)

    def _take(self) -> list[Part]:
        """The next commit: within the window, the bytes and one bucket, so that what it writes to
        the log is one mutation."""
        taken: list[Part] = []
        entries = size = 0
        bucket = -1
        while self._queue:
            part = self._queue[0]
            ids = [write.id for write in part.writes if type(write) is AppendEntry]
            if taken:
                full = entries + len(ids) > WINDOW or size + part.size_bytes > MAX_COMMIT_BYTES
                if full or (ids and bucket >= 0 and schema.bucket_of(ids[-1]) != bucket):
                    break
            entries += len(ids)
            size += part.size_bytes
            if ids and bucket < 0:
                bucket = schema.bucket_of(ids[0])
            taken.append(self._queue.popleft())
        return taken

    async def _commit(self, parts: Sequence[Part]) -> None:
        self.shard.check()
        epoch = self.shard.epoch.number
        head = self.head
        steps: list[Step] = []
        appends: list[AppendEntry] = []
        number, beside = 0, list[Put | Delete]()
        made = self.exists
        for place, part in enumerate(parts):
            before, groups = _by_entry(part.writes)
            made = made or any(type(write) is PutChannel for write in part.writes)
            if part.writes and not made:
                raise _Refused(place, f"there is no channel {self.channel_id!r} to write to")
            if before:
                steps.append((head.id, None, before))
            for append, follow in groups:
                if append.id != head.id + 1:
                    raise _Refused(
                        place, f"{self.channel_id!r}: entry {append.id} after head {head.id}"
                    )
                made_of, rest = record_of(append, epoch, follow)
                head = head.after(append.id, made_of)
                steps.append((append.id, made_of, rest))
                appends.append(append)
            for write in part.writes:
                if type(write) is Redact and write.id > head.id:
                    raise _Refused(place, f"there is no entry {write.id} to redact")
        if appends:
            await self.shard.touch(self.channel_id)
            records = [(at, record) for at, record, _ in steps if record is not None]
            for bucket, first, end in spans(appends[0].id, appends[-1].id):
                some = [(at, record) for at, record in records if first <= at <= end]
                await self._write_entries(bucket, some)
            # The ack follows the head, and the head the log at QUORUM under a lease that lived.
            self.shard.check_again()
            number, beside = await self._feed_row(appends[0].id, appends[-1].id)
        await self._follow(steps, beside)
        if appends and self._before_ack is not None:
            await self._before_ack(self.channel_id, appends)
        self.shard.check_again()
        self.head = head
        if appends:
            self.shard.changed(self.channel_id, head.time_us)
        self._feed_done(number)
        if head.id - self._hinted >= HINT_EVERY:
            # Not before: where the next owner begins, everything has been done.
            await self._hint()

    async def _feed_row(self, first_id: int, last_id: int) -> tuple[int, Rows]:
        """The row that tells of entries in the shard's feed, and its number. No sooner than the
        entries are the log's for good."""
        if self.shard.feed is None:
            return 0, []
        number, row = await self.shard.feed.row(self.channel_id, first_id, last_id)
        return number, [row]

    def _feed_done(self, number: int) -> None:
        if number and self.shard.feed is not None:
            self.shard.feed.done(number)

    async def _write_entries(self, bucket: int, some: Sequence[Found]) -> None:
        """Entries of one bucket, with their idempotency rows, at QUORUM."""
        timestamp = self.shard.entry_timestamp
        rows: list[Put | Delete] = []
        sends: dict[int, list[Put | Delete]] = {}
        for entry_id, whole in some:
            record = await self._without_body(entry_id, whole)
            cells: dict[str, Value] = {"record": record.SerializeToString()}
            rows.append(
                Put(schema.ENTRIES, (self.channel_id, bucket), (entry_id,), cells, timestamp)
            )
            if record.client_message_id:
                week = schema.week_of(record.client_message_id)
                key = (record.sender_id, record.client_message_id)
                sends.setdefault(week, []).append(
                    Put(
                        schema.SENDS,
                        (self.channel_id, week),
                        key,
                        {"message_id": entry_id},
                        timestamp,
                    )
                )
        await self._write_all([rows, *sends.values()])

    async def _without_body(self, entry_id: int, record: log_pb2.LogRecord) -> log_pb2.LogRecord:
        """The record as it lies in its bucket; a long payload is written to a partition of its
        own first."""
        if len(record.payload) <= schema.BODY_BYTES:
            return record
        # By epoch, so that a phantom of this id keeps its own.
        ref = b"%d.%d" % (record.epoch, entry_id)
        cells: dict[str, Value] = {"payload": record.payload}
        body = Put(schema.BODIES, (self.channel_id, ref), (), cells, self.shard.entry_timestamp)
        await self.shard.insist(lambda: self._tables.write([body]))
        short = log_pb2.LogRecord()
        short.CopyFrom(record)
        short.payload = b""
        short.body_ref = ref
        return short

    async def _write_all(self, some: Sequence[Rows]) -> None:
        """Batches of different partitions, at the same time; all are finished when it returns."""
        await self.shard.insist(lambda: self._tables.write_each(some))

    async def _follow(self, steps: Sequence[Step], beside: Sequence[Put | Delete] = ()) -> None:
        """Writes what follows from entries, at the same time for all of them, and with it what is
        to be written `beside` them. What was submitted without an entry goes one by one: nobody
        could finish it if this process ended."""
        changes = any(
            isinstance(write, PutMessage | Redact) for _, _, follow in steps for write in follow
        )
        self.changes += changes
        gathered: Rows = [*beside]
        redactions: list[Redact] = []
        for at_id, record, follow in steps:
            rows = self._rows_after(at_id, record, follow)
            redactions += (write for write in follow if isinstance(write, Redact))
            if record is not None:
                gathered += rows
                continue
            await self._write_gathered(gathered)
            gathered = []
            for some in batches(rows):
                await self.shard.insist(lambda some=some: self._tables.write(some))  # type: ignore[misc]
        await self._write_gathered(gathered)
        for redaction in redactions:
            await self._redact(redaction)
        self.changes += changes

    def _rows_after(
        self, at_id: int, record: log_pb2.LogRecord | None, follow: Sequence[Write]
    ) -> Rows:
        """The rows of one step."""
        others: list[Write] = []
        for write in follow:
            if not isinstance(write, Redact):
                others.append(write)
            if isinstance(write, PutChannel):
                self.row = Row((), channel_cells(write.record))
        rows = self._projector.rows(at_id, others)
        if record is not None:
            if record.moves_sender_marks:
                rows += self._projector.own_mark(record.sender_id, at_id, record.timeline_count)
            if record.kind == _SENT and record.thread_root_id:
                rows.append(self._projector.reply(record.thread_root_id, at_id))
            if record.kind == EntryKind.MESSAGE_EDITED:
                rows.append(self._projector.edit(record.message_id, at_id))
        return rows

    async def _write_gathered(self, rows: Rows) -> None:
        if rows:
            await self._write_all(batches(newest(rows)))

    async def _redact(self, write: Redact) -> None:
        bucket = schema.bucket_of(write.id)
        record = await self._read_insisting(bucket, write.id)
        # The name of its body stays: whoever repeats this deletes the body again.
        record.payload = write.payload
        record.redacted = True
        timestamp = self.shard.entry_timestamp + 1
        cells: dict[str, Value] = {"record": record.SerializeToString()}
        entry = Put(schema.ENTRIES, (self.channel_id, bucket), (write.id,), cells, timestamp)
        await self.shard.insist(lambda: self._tables.write([entry]))
        if record.body_ref:
            body = Delete(schema.BODIES, (self.channel_id, record.body_ref), (), (), timestamp)
            await self.shard.insist(lambda: self._tables.write([body]))

    async def _read_insisting(self, bucket: int, entry_id: int) -> log_pb2.LogRecord:
        found: list[log_pb2.LogRecord] = []

        async def read() -> None:
            rows = await self._tables.read(
                schema.ENTRIES,
                (self.channel_id, bucket),
                after=(entry_id - 1,),
                to=(entry_id,),
                limit=1,
            )
            found.append(log_pb2.LogRecord.FromString(rows[0].blob("record")))

        await self.shard.insist(read)
        return found[0]

    async def _hint(self) -> None:
        """Stores the head with the channel: where the next owner begins to read."""
        head = self.head
        cells: dict[str, Value] = {"head": head.pack()}
        row = Put(schema.CHANNELS, (self.channel_id,), (), cells, head.id)
        await self.shard.insist(lambda: self._tables.write([row]))
        self._hinted = head.id

    async def settle(self) -> None:
        """Waits until everything submitted is done, and stores the head: before the channel is
        forgotten or handed over.

        Raises:
            EpochOver: The epoch ended first.
        """
        while self._running is not None:
            await asyncio.wait([self._running])
        if self.over:
            raise EpochOver
        if self.exists and self._hinted != self.head.id:
            await self._hint()


def _by_entry(
    writes: Sequence[Write],
) -> tuple[list[Write], list[tuple[AppendEntry, list[Write]]]]:
    """The writes of a part by the entry that they follow from; what stands before the first
    entry follows from it too. Without an entry: all, and no groups."""
    before: list[Write] = []
    groups: list[tuple[AppendEntry, list[Write]]] = []
    for write in writes:
        if type(write) is AppendEntry:
            groups.append((write, before if not groups else []))
            if len(groups) == 1:
                before = []
        elif groups:
            groups[-1][1].append(write)
        else:
            before.append(write)
    return before, groups
