"""What a device missed: from its cursors to now, without a hole and without a race.

Connect and Sync share this. While a device catches up, entries that are committed meanwhile are
not passed on but only *noted* (`Progress.note`); a channel is settled once it was read up to the
last noted entry, and from then on its entries pass through.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from chinwag.chat.v1 import channel_pb2, entry_pb2
from chinwag_server.chat import frames, ranges
from chinwag_server.chat.channel import ChannelLog, snapshot_of
from chinwag_server.chat.marks import receipt_of
from chinwag_server.chat.store import (
    ChannelRecord,
    ChatStore,
    MemberRecord,
    StoredEntry,
    StoreUnavailable,
)
from chinwag_server.chat.views import Views

_Reset = entry_pb2.ChannelReset
PAGE_ENTRIES = 500
PAGE_BYTES = 256 << 10
# Between two looks at a head that lags behind what was told, and how long that may go on: an owner
# that does not know yet that it is none answers for no longer than its lease lasts.
BEHIND_S = 0.05
MAX_BEHIND_S = 20.0


@dataclass(slots=True)
class Progress:
    """How far a device's catch-up is.

    Attributes:
        noted: The newest entry that was committed since the catch-up began, by channel.
        settled: Channels whose entries pass through, with how far they were read: what comes late
            from another node is not told twice.
        late: Registers that changed since, as pieces: they follow when all is settled, since the
            catch-up may have read the older value.
    """

    noted: dict[str, int] = field(default_factory=dict)
    settled: dict[str, int] = field(default_factory=dict)
    late: list[bytes] = field(default_factory=list)

    def note(self, channel_id: str, entry_id: int) -> bool:
        """Whether an entry passes through; if not, it is noted."""
        read_id = self.settled.get(channel_id)
        if read_id is not None:
            return entry_id > read_id
        self.noted[channel_id] = entry_id
        return False


@dataclass(slots=True)
class Piece:
    """Part of what was missed: `data` is a piece of a frame with `events` events.

    Registers count as no events: they are told whole each time, so a page that they filled would
    be followed by the same page.
    """

    data: bytes
    events: int

    def take(self) -> bytes:
        """Its bytes, once: the generators that it came through keep the piece until they go on,
        which for a device that does not read is long."""
        data, self.data = self.data, b""
        return data


@dataclass(slots=True, frozen=True)
class Stamp:
    """A resume stamp: the store's generation and the number of a commit; below 0: no moment can be
    named. Such a one cannot be used, and still says that its device was told of all channels."""

    generation: int
    number: int

    def __str__(self) -> str:
        return f"{self.generation:x}." + (f"{self.number:x}" if self.number >= 0 else "")

    @staticmethod
    def parse(text: str) -> Stamp | None:
        """The stamp, or None if it is not one of ours: it then costs time, never events."""
        generation, dot, number = text.partition(".")
        try:
            return Stamp(int(generation, 16), int(number, 16)) if dot else None
        except ValueError:
            return None


@dataclass(slots=True)
class _Row:
    """A channel of a user, the member read after the channel; as they are now."""

    record: ChannelRecord
    member: MemberRecord


@dataclass(slots=True)
class Wanted:
    """What a device says it has.

    Attributes:
        cursors: Its positions, by channel.
        stamp: Of its newest answer, None if it has none that can be used.
        limit: At most so many missing entries of a channel, 0: no limit.
        receipts: Whether it wants other members' marks.
        page_entries: Entries in a piece, at most.
        page_bytes: About how large the next piece should be, given the most that it may be.
        cursors_only: Whether channels without a cursor are left out.
        was_told: Whether it was told once of all channels that its user had then.
    """

    cursors: Mapping[str, channel_pb2.Cursor]
    stamp: Stamp | None = None
    limit: int = 0
    receipts: bool = False
    page_entries: int = PAGE_ENTRIES
    page_bytes: Callable[[int], int] = lambda most: most
    cursors_only: bool = False
    was_told: bool = False


class CommittedStore(Protocol):
    """The reads of a `ChatStore` that a catch-up needs."""

    @property
    def generation(self) -> int: ...

    async def channel(self, channel_id: str) -> ChannelRecord | None: ...

    async def member(self, channel_id: str, user_id: str) -> MemberRecord | None: ...

    async def members(self, channel_id: str) -> list[MemberRecord]: ...

    async def entries(
        self, channel_id: str, after_id: int, to_id: int, limit: int, max_bytes: int
    ) -> list[StoredEntry]: ...


class Changes(Protocol):
    """Says what changed since a stamp."""

    def usable(self, number: int) -> bool:
        """Whether a stamp of this generation can be one of ours."""

    def now(self) -> int:
        """What has certainly reached this node's streams; below 0: it cannot be said now."""

    async def moment(self) -> int:
        """The present moment, for whoever reads after it; below 0: it cannot be said now."""

    async def rows(
        self, user_id: str, since: int, known: Container[str]
    ) -> list[tuple[ChannelRecord, MemberRecord]]:
        """The user's channels that changed since a stamp, 0: all. Those that the device has a
        position in (`known`) are compared anyway."""

    async def channel_of(self, user_id: str, channel_id: str) -> ChannelRecord | None:
        """A channel's row, for a device of a user that goes on from its head."""


class StoreChanges:
    """Where all is committed by one store, which numbers its commits."""

    def __init__(self, store: ChatStore) -> None:
        self._store = store

    def usable(self, number: int) -> bool:
        return 0 <= number <= self._store.stamp

    def now(self) -> int:
        return self._store.stamp

    async def moment(self) -> int:
        return self._store.stamp

    async def rows(
        self, user_id: str, since: int, known: Container[str]
    ) -> list[tuple[ChannelRecord, MemberRecord]]:
        return await self._store.user_channels(user_id, since)

    async def channel_of(self, user_id: str, channel_id: str) -> ChannelRecord | None:
        return await self._store.channel(channel_id)


class CatchUp:
    """Reads what a device missed.

    Args:
        loaded: A channel that is in memory, if its marks there are the newest.
    """

    def __init__(
        self,
        store: CommittedStore,
        views: Views,
        changes: Changes,
        loaded: Callable[[str], ChannelLog | None],
    ) -> None:
        self._store = store
        self._views = views
        self._changes = changes
        self._loaded = loaded

    def usable(self, text: str) -> Stamp | None:
        """A stamp that this store can use."""
        stamp = Stamp.parse(text) if text else None
        if stamp is None or stamp.generation != self._store.generation:
            return None
        return stamp if self._changes.usable(stamp.number) else None

    def now(self) -> Stamp:
        """The stamp of everything that has reached this node's streams."""
        return Stamp(self._store.generation, self._changes.now())

    async def moment(self) -> Stamp:
        """The present moment's: whoever reads afterwards misses nothing of what was before it."""
        return Stamp(self._store.generation, await self._changes.moment())

    async def pieces(
        self, user_id: str, wanted: Wanted, progress: Progress
    ) -> AsyncGenerator[Piece, None]:
        """All that is missing, channel by channel. The consumer must have taken a piece before
        it asks for the next one. When the iterator ends, every channel of the user is settled
        and nothing was noted since."""
        since = wanted.stamp.number if wanted.stamp else 0
        rows = []
        if not wanted.cursors_only:
            rows = await self._changes.rows(user_id, since, wanted.cursors)
        seen: set[str] = set()
        for record, member in rows:
            seen.add(record.channel_id)
            if record.kind == channel_pb2.CHANNEL_KIND_BROADCAST and (
                record.channel_id not in wanted.cursors
            ):
                continue
            async for piece in self._channel(_Row(record, member), wanted, progress):
                yield piece
        # Without a stamp every channel of the user was among the rows: what is left is unknown
        # to them. With one, an unchanged channel still may have a cursor that lags.
        for channel_id, cursor in wanted.cursors.items():
            if channel_id not in seen:
                seen.add(channel_id)
                row = await self._row(user_id, channel_id)
                if row is None:
                    yield _reset(channel_id, _Reset.REASON_NOT_VISIBLE, 0, 0)
                elif _is_behind(cursor, row.record):
                    async for piece in self._channel(row, wanted, progress):
                        yield piece
                elif wanted.cursors_only or row.record.kind == channel_pb2.CHANNEL_KIND_BROADCAST:
                    # Nothing is missing, but a channel that is looked at has to be settled: what
                    # follows passes through.
                    async for piece in self._entries(row, cursor.id, progress, wanted):
                        yield piece
        if wanted.cursors_only:
            return
        # Channels that the user came into while this ran.
        while missing := [
            channel_id for channel_id in progress.noted if channel_id not in progress.settled
        ]:
            for channel_id in missing:
                row = await self._row(user_id, channel_id)
                if row is None:
                    progress.settled[channel_id] = 0
                    continue
                async for piece in self._channel(row, wanted, progress):
                    yield piece

    async def _row(self, user_id: str, channel_id: str) -> _Row | None:
        # The channel first: if the user is removed between the two reads, the member's row is the
        # newer one, and its ranges end where they should. The other way round an open range would
        # reach up to a head that they may not see.
        record = await self._changes.channel_of(user_id, channel_id)
        if record is None:
            return None
        member = await self._store.member(channel_id, user_id)
        return _Row(record, member) if member is not None else None

    async def _channel(
        self, row: _Row, wanted: Wanted, progress: Progress
    ) -> AsyncGenerator[Piece, None]:
        record, member = row.record, row.member
        channel_id = record.channel_id
        cursor = wanted.cursors.get(channel_id)
        stays = ranges.visible(member.ranges, record.head_id)
        end = stays[-1][1] if stays else 0
        is_there = bool(member.role) and not record.deleted
        if cursor is None or (is_there and _never_opened(cursor, record)):
            if not is_there:
                progress.settled[channel_id] = 0
                return
            position = self._start(record, member, wanted, was_told=wanted.was_told or bool(cursor))
            yield await self._opened(record, member, position)
        else:
            position = cursor.id
            reason = self._void(cursor, record, end, wanted.limit)
            if reason:
                position = end
                yield _reset(channel_id, reason, record.generation, end)
        async for piece in self._entries(row, position, progress, wanted):
            yield piece
        record, member = row.record, row.member
        if cursor is not None:
            state = await self._views.state(member, record.head_id, record.head_count)
            yield Piece(frames.event(entry_pb2.Event(state=state)), 0)
        if wanted.receipts and member.role and not record.deleted:
            for piece in await self._receipts(record, member):
                yield piece

    @staticmethod
    def _void(
        cursor: channel_pb2.Cursor, record: ChannelRecord, end: int, limit: int
    ) -> _Reset.Reason.ValueType:
        """Why a position cannot be gone on from; REASON_UNSPECIFIED if it can."""
        if cursor.generation != record.generation:
            return _Reset.REASON_GENERATION
        if cursor.id > record.head_id:
            return _Reset.REASON_BEYOND_HEAD
        if limit and end - cursor.id > limit:
            return _Reset.REASON_TOO_FAR_BEHIND
        return _Reset.REASON_UNSPECIFIED

    @staticmethod
    def _start(
        record: ChannelRecord, member: MemberRecord, wanted: Wanted, *, was_told: bool
    ) -> int:
        """Where a channel without a cursor begins. A device with a stamp, of use or not, was told
        of all channels that its user had then: this one it came into since, and it has missed all
        that followed. For a new device it begins at the head."""
        start = max(member.join_id - 1, 0)
        missed = record.head_id - start
        if not was_told or (wanted.limit and missed > wanted.limit):
            return record.head_id
        return start

    async def _opened(self, record: ChannelRecord, member: MemberRecord, start_id: int) -> Piece:
        opened = entry_pb2.ChannelOpened(
            channel=snapshot_of(record, record.generation),
            start_id=start_id,
            state=await self._views.state(member, record.head_id, record.head_count),
        )
        return Piece(frames.event(entry_pb2.Event(opened=opened)), 1)

    async def _entries(
        self, row: _Row, position: int, progress: Progress, wanted: Wanted
    ) -> AsyncGenerator[Piece, None]:
        """Reads on until nothing was noted beyond, then settles the channel."""
        channel_id = row.record.channel_id
        behind_s = 0.0
        while True:
            record, head_id = row.record, row.record.head_id
            stays = ranges.visible(row.member.ranges, head_id)
            readable, hidden = ranges.after(stays, position)
            if record.deleted and readable:
                # What a deleted channel held is not shown, but that it was deleted is.
                last = readable[-1][1]
                if last > position + 1:
                    hidden = [(position + 1, last - 1)]
                readable = [(last, last)]
            if not readable:
                if progress.noted.get(channel_id, 0) <= head_id:
                    # No await between this check and the note: nothing slips through.
                    progress.settled[channel_id] = max(position, head_id)
                    return
                # Up to what was noted the row may say too much: the user may have gone and come
                # back since.
                newer = await self._row(row.member.user_id, channel_id)
                if newer is None:
                    progress.settled[channel_id] = max(position, head_id)
                    return
                if newer.record.head_id <= head_id:
                    if behind_s > MAX_BEHIND_S:
                        raise StoreUnavailable(f"{channel_id}: nobody knows of what was told")
                    behind_s += BEHIND_S
                    await asyncio.sleep(BEHIND_S)
                row.record, row.member = newer.record, newer.member
                continue
            for start, end in readable:
                if hidden and hidden[0][0] < start:
                    gap_from, gap_to = hidden.pop(0)
                    yield _gap(channel_id, gap_from, gap_to)
                    position = gap_to
                while position < end:
                    size = wanted.page_bytes(PAGE_BYTES)
                    page = await self._store.entries(
                        channel_id, position, end, wanted.page_entries, size
                    )
                    if not page:
                        # Entries up to the committed head are there; an empty answer is a
                        # defect of the store, and a silent gap must not come of it.
                        raise RuntimeError(f"{channel_id}: no entries after {position} of {end}")
                    position = page[-1].id
                    piece = Piece(
                        b"".join([frames.entry(entry.payload) for entry in page]), len(page)
                    )
                    del page  # the next one is read when there is room: that may take long
                    yield piece

    async def _receipts(self, record: ChannelRecord, member: MemberRecord) -> Iterable[Piece]:
        if record.kind == channel_pb2.CHANNEL_KIND_BROADCAST:
            return ()
        log = self._loaded(record.channel_id)
        rows = (
            list(log.members.values())
            if log is not None
            else await self._store.members(record.channel_id)
        )
        data = b"".join(
            frames.receipt(receipt_of(row))
            for row in rows
            if row.role and row.user_id != member.user_id
        )
        return (Piece(data, 0),) if data else ()


def _never_opened(cursor: channel_pb2.Cursor, record: ChannelRecord) -> bool:
    """Whether a device got an entry of a channel that it was never told of. Entries of
    a broadcast channel come to those alone who ask for it."""
    return not cursor.generation and record.kind != channel_pb2.CHANNEL_KIND_BROADCAST


def _is_behind(cursor: channel_pb2.Cursor, record: ChannelRecord) -> bool:
    return cursor.generation != record.generation or cursor.id != record.head_id


def _gap(channel_id: str, from_id: int, to_id: int) -> Piece:
    gap = entry_pb2.Gap(channel_id=channel_id, from_id=from_id, to_id=to_id)
    return Piece(frames.event(entry_pb2.Event(gap=gap)), 1)


def _reset(
    channel_id: str, reason: _Reset.Reason.ValueType, generation: int, start_id: int
) -> Piece:
    reset = _Reset(channel_id=channel_id, reason=reason, generation=generation, start_id=start_id)
    return Piece(frames.event(entry_pb2.Event(reset=reset)), 1)
