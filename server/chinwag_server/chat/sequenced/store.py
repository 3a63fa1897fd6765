"""`ChatStore` over a leaderless database, for the channels of the shards that this process owns."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import islice
from typing import Any

from chinwag_server.chat.sequenced import schema
from chinwag_server.chat.sequenced.committed import CommittedReads
from chinwag_server.chat.sequenced.epoch import Epoch, EpochOver, GiveUp
from chinwag_server.chat.sequenced.feed import FeedEnds
from chinwag_server.chat.sequenced.page_cache import PageCache
from chinwag_server.chat.sequenced.projection import Rows, answer_row, batches
from chinwag_server.chat.sequenced.reads import record_from, together
from chinwag_server.chat.sequenced.sequencer import LATELY_US, Part, Sequencer, ShardEpoch
from chinwag_server.chat.sequenced.tables import Delete, Put, Tables, TablesUnavailable
from chinwag_server.chat.store import (
    AppendEntry,
    ChannelRecord,
    Done,
    FeedRange,
    MemberRecord,
    MessagePage,
    PutChannel,
    PutMember,
    PutRequest,
    Ranges,
    StoredRequest,
    StoredSend,
    StoreUnavailable,
    Write,
    backlog_bytes_of,
)
from chinwag_server.clock import Clock

MAX_ROWS = 100_000

BeforeAck = Callable[[str, Sequence[AppendEntry]], Awaitable[None]]
Tell = Callable[[str, int], Awaitable[None]]


class SequencedStore(CommittedReads):
    """The log of the channels that this process owns.

    It differs from a database of one writer in this: a submission is whole for each channel, and
    in the order of each channel alone; and after StoreUnavailable it is not known whether it
    took effect, so that callers retry under the same id.

    Args:
        epoch_of: The epoch of a channel's shard, None if another process owns it.
        give_up: Ends an epoch that failed a check.
        generation: Of the store.
        before_ack: Called with the entries of a commit before they are acked.
        max_open: Channels that are kept open while nothing happens in them.
        feed: Told how far the feeds that this process writes may be read; None: it writes none.
    """

    def __init__(
        self,
        tables: Tables,
        epoch_of: Callable[[str], Epoch | None],
        give_up: GiveUp,
        *,
        generation: int,
        clock: Clock,
        before_ack: BeforeAck | None = None,
        max_open: int = 100_000,
        feed: FeedEnds | None = None,
    ) -> None:
        super().__init__(tables, generation)
        self._pages = PageCache()
        self._ends = feed
        self._tables = tables
        self._epoch_of = epoch_of
        self._give_up = give_up
        self._leaving: set[Epoch] = set()
        self._clock = clock
        self._before_ack = before_ack
        self._max_open = max_open
        self._shards: dict[int, ShardEpoch] = {}
        self._open: OrderedDict[str, Sequencer] = OrderedDict()
        self._background: set[asyncio.Task[None]] = set()
        self._backlog_bytes = 0
        self._stamp = 0
        self._closed = False

    @property
    def stamp(self) -> int:
        return self._stamp

    @property
    def backlog_bytes(self) -> int:
        return self._backlog_bytes

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        self._closed = True
        await together([lambda s=s: _settled(s) for s in self._open.values()])  # type: ignore[misc]

    # --- owning ---

    def owns(self, channel_id: str) -> bool:
        """Whether this process owns the channel and takes new work for it."""
        epoch = self._epoch_of(channel_id)
        return epoch is not None and epoch not in self._leaving and epoch.alive()

    def _sequencer(self, channel_id: str) -> Sequencer:
        """The channel's sequencer under the epoch that lasts.

        Raises:
            StoreUnavailable: This process does not own the channel's shard.
        """
        epoch = self._epoch_of(channel_id)
        if epoch is None or epoch in self._leaving or not epoch.alive():
            raise StoreUnavailable("this node does not own the channel: ask its owner")
        shard = self._shard(epoch)
        sequencer = self._open.get(channel_id)
        if sequencer is None or sequencer.over or sequencer.shard is not shard:
            sequencer = Sequencer(channel_id, shard, self._tables, self._before_ack)
            self._open[channel_id] = sequencer
            self._forget_some(sequencer)
        else:
            self._open.move_to_end(channel_id)
        return sequencer

    def _shard(self, epoch: Epoch) -> ShardEpoch:
        shard = self._shards.get(epoch.shard)
        if shard is None or shard.epoch is not epoch:
            shard = ShardEpoch(epoch, self._tables, self._give_up, self._ends)
            self._shards[epoch.shard] = shard
        return shard

    async def take_over_touched(
        self, epoch: Epoch, tell: Tell | None = None, *, at_once: int = 4
    ) -> list[str]:
        """Takes over the channels that were given ids since the shard's last clean hand-over: an
        entry that was acked and told to nobody is found by nobody else. A few at a time; the
        others are taken over when they are used. Gives those whose log goes on.

        Args:
            tell: Called with each of those and its head, before it leaves the list: if this
                process ends before it has told, the next owner finds the channel there again.

        Raises:
            StoreUnavailable: The epoch ended, or it cannot be read now.
        """
        shard = self._shard(epoch)
        rows = await self._reading(
            lambda: self._tables.read(schema.TOUCHED, (epoch.shard,), limit=MAX_ROWS)
        )
        room = asyncio.Semaphore(at_once)
        found: list[str] = []

        async def take_over(channel_id: str) -> None:
            async with room:
                # Also of a channel that is not there: it may have been about to be made, and
                # if that landed later, nobody would tell its members.
                sequencer = await self._owned(channel_id, making=True)
                if sequencer.exists:
                    found.append(channel_id)
                    if tell is not None:
                        await tell(channel_id, sequencer.head.id)
                    if sequencer.head.time_us >= self._clock.time_us() - LATELY_US:
                        # Who has told may be gone before all have heard: then the next owner tells
                        # them again.
                        shard.changed(channel_id, sequencer.head.time_us)
                        return
                # Below what this epoch writes itself.
                gone = Delete(
                    schema.TOUCHED,
                    (epoch.shard,),
                    (channel_id,),
                    (channel_id,),
                    shard.entry_timestamp - 1,
                )
                await shard.insist(lambda: self._tables.write([gone]))

        try:
            await asyncio.gather(*(take_over(str(row.key[0])) for row in rows))
        except EpochOver as error:
            raise StoreUnavailable("the shard changes its owner") from error
        shard.caught_up = True
        return found

    async def hand_over(self, epoch: Epoch) -> None:
        """Finishes what is under way in a shard and takes nothing more, so that the next owner has
        nothing to find, but what this one had not found yet.

        Raises:
            StoreUnavailable: The epoch ended before.
        """
        self._leaving.add(epoch)
        shard = self._shard(epoch)
        mine = [s for s in self._open.values() if s.shard is shard]
        try:
            await together([s.settle for s in mine])
            if not shard.caught_up:
                return  # what an earlier owner noted is still to be found there
            lately = shard.changed_lately(self._clock.time_us())
            if rows := [shard.touched_row(channel_id, above=1) for channel_id in lately]:
                # What was told a moment ago is told again by the next owner.
                await shard.insist(lambda: self._tables.write(rows))
            timestamp = shard.entry_timestamp
            gone = Delete(schema.TOUCHED, (epoch.shard,), (), (), timestamp)
            await shard.insist(lambda: self._tables.write([gone]))
        except EpochOver as error:
            raise StoreUnavailable("the epoch ended first") from error

    def forget(self, epoch: Epoch) -> None:
        """The epoch is over: its channels are nobody's here."""
        self._leaving.discard(epoch)
        if (shard := self._shards.get(epoch.shard)) is not None and shard.epoch is epoch:
            del self._shards[epoch.shard]
        if self._ends is not None:
            self._ends.drop(epoch.shard, epoch.number)
        for channel_id, sequencer in list(self._open.items()):
            if sequencer.shard.epoch is epoch:
                del self._open[channel_id]

    def _forget_some(self, newest: Sequencer) -> None:
        """Of a channel in which something is under way there is one sequencer alone: a second one
        would give its ids again."""
        surplus = len(self._open) - self._max_open
        if surplus <= 0:
            return
        idle = (name for name, some in self._open.items() if some.idle and some is not newest)
        for channel_id in list(islice(idle, surplus)):
            del self._open[channel_id]

    async def _owned(self, channel_id: str, *, making: bool = False) -> Sequencer:
        sequencer = self._sequencer(channel_id)
        try:
            await sequencer.take_over(making=making)
        except (EpochOver, TablesUnavailable) as error:
            raise StoreUnavailable(f"the channel cannot be read now: {error}") from error
        return sequencer

    # --- writing ---

    def submit(self, writes: Sequence[Write], done: Done) -> None:
        if self._closed:
            self._later(done, StoreUnavailable("the store is closed"))
            return
        parts, answers = _by_channel(writes)
        left = len(parts) + bool(answers)
        failed: Exception | None = None

        def part_done(error: Exception | None) -> None:
            nonlocal left, failed
            left -= 1
            failed = failed or error
            if not left:
                self._stamp = max(self._clock.time_us(), self._stamp + 1)
                done(0 if failed else self._stamp, failed)

        if not left:
            left = 1
            asyncio.get_running_loop().call_soon(part_done, None)
        if answers:
            self._spawn(self._put_answers(answers, part_done))
        for channel_id, some in parts.items():
            try:
                sequencer = self._sequencer(channel_id)
            except StoreUnavailable as error:
                asyncio.get_running_loop().call_soon(part_done, error)
            else:
                self._hand_to(sequencer, some, part_done)

    def _hand_to(
        self, sequencer: Sequencer, some: Sequence[Write], done: Callable[[Exception | None], None]
    ) -> None:
        size = backlog_bytes_of(some)
        self._backlog_bytes += size
        _note_sends(sequencer, some)

        def part_done(error: Exception | None) -> None:
            self._backlog_bytes -= size
            _note_sends(sequencer, some)
            done(error)

        sequencer.submit(Part(some, part_done, size))

    async def _put_answers(
        self, rows: Sequence[Put | Delete], done: Callable[[Exception | None], None]
    ) -> None:
        """Stores answers that nothing else follows from: no order matters to them."""
        try:
            for some in batches(rows):
                await self._tables.write(some)
        except TablesUnavailable as error:
            done(StoreUnavailable(f"the store cannot write now: {error}"))
        else:
            done(None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    @staticmethod
    def _later(done: Done, error: Exception) -> None:
        asyncio.get_running_loop().call_soon(done, 0, error)

    # --- reading ---

    async def channel(self, channel_id: str) -> ChannelRecord | None:
        sequencer = await self._owned(channel_id)
        if not sequencer.exists:
            return None
        return record_from(channel_id, sequencer.row, sequencer.head, self._generation)

    async def members(self, channel_id: str) -> list[MemberRecord]:
        sequencer = await self._owned(channel_id)
        broadcast = sequencer.is_broadcast
        rows = await self._reading(lambda: self._reads.members(channel_id, is_broadcast=broadcast))
        for row in rows:
            sequencer.projector.knows(row)
        return rows

    async def member(self, channel_id: str, user_id: str) -> MemberRecord | None:
        broadcast = (await self._owned(channel_id)).is_broadcast
        return await self._reading(
            lambda: self._reads.member(channel_id, user_id, is_broadcast=broadcast)
        )

    async def member_page(
        self, channel_id: str, after_user_id: str, limit: int
    ) -> list[MemberRecord]:
        broadcast = (await self._owned(channel_id)).is_broadcast
        return await self._reading(
            lambda: self._reads.member_page(
                channel_id, after_user_id, limit, is_broadcast=broadcast
            )
        )

    async def find_request(self, scope: str, request_id: str) -> StoredRequest | None:
        channel_id, _, _ = scope.partition(":")
        if channel_id:
            # The take-over finishes a call that was left half done: only after that does a missing
            # answer mean that nothing was done.
            await self._owned(channel_id)
        return await super().find_request(scope, request_id)

    async def find_sends(self, keys: Sequence[tuple[str, str, bytes]]) -> list[StoredSend | None]:
        return await together([lambda key=key: self._find_send(*key) for key in keys])  # type: ignore[misc]

    async def _find_send(
        self, channel_id: str, sender_id: str, client_message_id: bytes
    ) -> StoredSend | None:
        """A hit counts only if the log says the same, under a lease that lives after that."""
        sequencer = await self._owned(channel_id)
        if await self._is_new(sequencer, sender_id, client_message_id):
            return None
        message_id = await self._reading(
            lambda: self._reads.sent_id(channel_id, sender_id, client_message_id)
        )
        if not 0 < message_id <= sequencer.head.id:
            return None
        record = await self._reading(lambda: self._reads.record(channel_id, message_id))
        if (
            record is None
            or record.sender_id != sender_id
            or record.client_message_id != client_message_id
        ):
            return None
        try:
            sequencer.shard.check_again()
        except EpochOver as error:
            raise StoreUnavailable("the channel changes its owner: retry") from error
        return StoredSend(message_id, record.content_hash)

    async def _is_new(self, sequencer: Sequencer, sender_id: str, client_message_id: bytes) -> bool:
        """Whether a send is newer than all that are stored of its sender."""
        week = schema.week_of(client_message_id)
        is_new = sequencer.newest.is_new(sender_id, week, client_message_id)
        if is_new is None:
            newest = await self._reading(
                lambda: self._reads.newest_sent(sequencer.channel_id, sender_id, week)
            )
            sequencer.newest.learned(sender_id, week, newest)
            is_new = sequencer.newest.is_new(sender_id, week, client_message_id)
        return bool(is_new)

    async def user_channels(
        self, user_id: str, since_stamp: int = 0
    ) -> list[tuple[ChannelRecord, MemberRecord]]:
        rows = await self._reading(lambda: self._reads.user_rows(user_id))
        records = await together([lambda row=row: self._record(row.channel_id) for row in rows])  # type: ignore[misc]
        return [
            (record, row) for record, row in zip(records, rows, strict=True) if record is not None
        ]

    async def _record(self, channel_id: str) -> ChannelRecord | None:
        epoch = self._epoch_of(channel_id)
        if epoch is not None and epoch.alive():
            return await self.channel(channel_id)
        return await self._reading(lambda: self._reads.channel(channel_id))

    def _head_id(self, channel_id: str, otherwise: int) -> int:
        # One that has not taken the channel over yet knows no head.
        sequencer = self._open.get(channel_id)
        return sequencer.head.id if sequencer is not None and sequencer.exists else otherwise

    async def messages(
        self,
        channel_id: str,
        ranges: Ranges,
        *,
        thread_root_id: int,
        anchor: str,
        anchor_id: int,
        limit: int,
        max_bytes: int,
    ) -> MessagePage:
        read = functools.partial(
            super().messages,
            channel_id,
            ranges,
            thread_root_id=thread_root_id,
            anchor=anchor,
            anchor_id=anchor_id,
            limit=limit,
            max_bytes=max_bytes,
        )
        sequencer = self._open.get(channel_id)
        if anchor != "before" or sequencer is None:
            return await read()
        # What lies behind the anchor counts only in whether there is something.
        shown = tuple((first, min(last, anchor_id - 1)) for first, last in ranges)
        more = bool(ranges) and ranges[-1][1] >= anchor_id
        key = (
            channel_id,
            sequencer.shard.epoch.number,
            sequencer.changes,
            shown,
            more,
            thread_root_id,
            anchor_id,
            limit,
            max_bytes,
        )

        def holds(page: MessagePage) -> bool:
            return sequencer.changes == key[2] and page.has_more_after == more

        return await self._pages.get(key, read, holds)

    async def feed(self, after_stamp: int, limit: int) -> list[FeedRange]:
        # There is no order over channels to ask for: `chat.routed.feed` reads by shards.
        raise NotImplementedError

    async def expire_requests(self, before_us: int, limit: int) -> int:
        return 0  # the tables forget by themselves


def _note_sends(sequencer: Sequencer, some: Sequence[Write]) -> None:
    for write in some:
        if type(write) is AppendEntry and write.client_message_id:
            week = schema.week_of(write.client_message_id)
            sequencer.newest.stored(write.sender_id, week, write.client_message_id)


async def _settled(sequencer: Sequencer) -> None:
    # If the epoch ends before, whoever takes the channel over finds what is there.
    with contextlib.suppress(EpochOver):
        await sequencer.settle()


def _by_channel(writes: Sequence[Write]) -> tuple[dict[str, list[Write]], Rows]:
    """A submission's writes by channel. Answers to requests go with the channel that they are
    about; where there is none, they are given as rows."""
    found: dict[str, list[Write]] = {}
    answers: list[PutRequest] = []
    for write in writes:
        if isinstance(write, PutRequest):
            answers.append(write)
        elif isinstance(write, PutChannel | PutMember):
            found.setdefault(write.record.channel_id, []).append(write)
        else:
            found.setdefault(write.channel_id, []).append(write)
    if not found:
        return {}, [answer_row(answer) for answer in answers]
    next(iter(found.values())).extend(answers)
    return found, []
