"""Reading chat from the tables. Nothing here knows who owns a channel: whoever asks says up to
which head it may see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from chinwag.chat.v1 import channel_pb2
from chinwag.mesh.v1 import log_pb2
from chinwag_server.chat.paging import cut_page, size_bytes
from chinwag_server.chat.sequenced import schema
from chinwag_server.chat.sequenced.projection import member_of
from chinwag_server.chat.sequenced.tables import Key, Row, Table, Tables
from chinwag_server.chat.sequenced.tail import Head
from chinwag_server.chat.store import (
    ChannelRecord,
    EntryKind,
    MemberRecord,
    MessagePage,
    Ranges,
    StoredEntry,
    StoredMessage,
    StoredRequest,
)

PAGE = 100
MAX_ROWS = 20_000
AT_ONCE = 16
MAX_ID = (1 << 63) - 1

_BROADCAST = channel_pb2.CHANNEL_KIND_BROADCAST
Found = TypeVar("Found")


class TableReads:
    """What `ChatStore` reads.

    Args:
        generation: Of the store.
    """

    def __init__(self, tables: Tables, generation: int) -> None:
        self._tables = tables
        self._generation = generation

    async def _rows(
        self, table: Table, partition: Key, *, after: Key = (), to: Key = (), most: int = MAX_ROWS
    ) -> AsyncIterator[Row]:
        """All rows of a part of a partition, rising, page by page."""
        while True:
            rows = await self._tables.read(
                table, partition, after=after, to=to, limit=min(PAGE, most)
            )
            for row in rows:
                yield row
            most -= len(rows)
            if len(rows) < PAGE or most <= 0:
                return
            after = rows[-1].key

    # --- channels and members ---

    async def channel(self, channel_id: str) -> ChannelRecord | None:
        """A channel's row, with the head that was stored with it last."""
        rows = await self._tables.read(schema.CHANNELS, (channel_id,), limit=1)
        if not rows or "kind" not in rows[0].cells:
            return None
        head = Head.unpack(rows[0].blob("head"))
        return record_from(channel_id, rows[0], head, self._generation)

    async def members(self, channel_id: str, *, is_broadcast: bool) -> list[MemberRecord]:
        """All rows of a channel, also of those who left."""
        return [
            member_of(channel_id, str(row.key[0]), row)
            for slot in _slots(is_broadcast=is_broadcast)
            async for row in self._rows(schema.MEMBERS, (channel_id, slot))
        ]

    async def member(
        self, channel_id: str, user_id: str, *, is_broadcast: bool
    ) -> MemberRecord | None:
        """One row."""
        slot = schema.slot_of(user_id, is_broadcast=is_broadcast)
        row = await self._one(schema.MEMBERS, (channel_id, slot), (user_id,))
        return member_of(channel_id, user_id, row) if row else None

    async def _one(self, table: Table, partition: Key, key: Key) -> Row | None:
        # The row right before the key's successor, if it is the key's.
        rows = await self._tables.read(table, partition, to=key, limit=1, newest_first=True)
        return rows[0] if rows and rows[0].key == key else None

    async def member_page(
        self, channel_id: str, after_user_id: str, limit: int, *, is_broadcast: bool
    ) -> list[MemberRecord]:
        """Current members by user id."""
        pages = await together(
            [
                lambda slot=slot: self._current(channel_id, slot, after_user_id, limit)  # type: ignore[misc]
                for slot in _slots(is_broadcast=is_broadcast)
            ]
        )
        rows = sorted((row for page in pages for row in page), key=lambda row: row.user_id)
        return rows[:limit]

    async def _current(
        self, channel_id: str, slot: int, after_user_id: str, limit: int
    ) -> list[MemberRecord]:
        found: list[MemberRecord] = []
        after: Key = (after_user_id,) if after_user_id else ()
        async for row in self._rows(schema.MEMBERS, (channel_id, slot), after=after):
            member = member_of(channel_id, str(row.key[0]), row)
            if member.role:
                found.append(member)
                if len(found) == limit:
                    break
        return found

    async def user_rows(self, user_id: str) -> list[MemberRecord]:
        """The user's own rows of all channels in which they have one."""
        return [
            member_of(str(row.key[0]), user_id, row)
            async for row in self._rows(schema.USER_CHANNELS, (user_id,))
        ]

    # --- entries ---

    async def records(
        self, channel_id: str, after_id: int, to_id: int, limit: int
    ) -> list[tuple[int, log_pb2.LogRecord]]:
        """Records with after_id < id <= to_id, rising, without their bodies."""
        found: list[tuple[int, log_pb2.LogRecord]] = []
        while after_id < to_id and len(found) < limit:
            bucket = schema.bucket_of(after_id + 1)
            most = limit - len(found)
            rows = await self._tables.read(
                schema.ENTRIES, (channel_id, bucket), after=(after_id,), to=(to_id,), limit=most
            )
            found += ((int(row.key[0]), _record(row)) for row in rows)
            if len(rows) < most:
                after_id = (bucket + 1) * schema.BUCKET - 1
                if not rows:
                    return found
        return found

    async def records_before(
        self, channel_id: str, from_id: int, before_id: int, limit: int
    ) -> list[tuple[int, log_pb2.LogRecord]]:
        """Records with from_id <= id < before_id, falling, without their bodies."""
        found: list[tuple[int, log_pb2.LogRecord]] = []
        to_id = before_id - 1
        while to_id >= max(from_id, 1) and len(found) < limit:
            bucket = schema.bucket_of(to_id)
            rows = await self._tables.read(
                schema.ENTRIES,
                (channel_id, bucket),
                after=(from_id - 1,),
                to=(to_id,),
                limit=limit - len(found),
                newest_first=True,
            )
            found += ((int(row.key[0]), _record(row)) for row in rows)
            to_id = bucket * schema.BUCKET - 1
        return found

    async def record(self, channel_id: str, entry_id: int) -> log_pb2.LogRecord | None:
        """One record, without its body."""
        found = await self.records(channel_id, entry_id - 1, entry_id, 1)
        return found[0][1] if found else None

    async def payload(self, channel_id: str, entry_id: int, record: log_pb2.LogRecord) -> bytes:
        """The entry of a record.

        Raises:
            RuntimeError: Its body is gone, which only a redaction may do.
        """
        if record.payload or not record.body_ref:
            return record.payload
        rows = await self._tables.read(schema.BODIES, (channel_id, record.body_ref), limit=1)
        if rows:
            return rows[0].blob("payload")
        # It was redacted since the record was read, or it is a defect.
        again = await self.record(channel_id, entry_id)
        if again is None or not again.payload:
            raise RuntimeError(f"{channel_id}: the body {record.body_ref!r} is missing")
        return again.payload

    async def entries(
        self, channel_id: str, after_id: int, to_id: int, limit: int, max_bytes: int
    ) -> list[StoredEntry]:
        """As `ChatStore.entries`."""
        found: list[StoredEntry] = []
        size = 0
        while len(found) < limit:
            most = min(PAGE, limit - len(found))
            records = await self.records(channel_id, after_id, to_id, most)
            for entry_id, record in records:
                payload = await self.payload(channel_id, entry_id, record)
                if found and size + len(payload) > max_bytes:
                    return found
                found.append(StoredEntry(entry_id, payload))
                size += len(payload)
                after_id = entry_id
            if len(records) < most:
                break
        return found

    async def entry(self, channel_id: str, entry_id: int) -> bytes | None:
        """As `ChatStore.entry`."""
        record = await self.record(channel_id, entry_id)
        return await self.payload(channel_id, entry_id, record) if record is not None else None

    async def entries_of_message(self, channel_id: str, message_id: int) -> list[StoredEntry]:
        """As `ChatStore.entries_of_message`."""
        ids = [message_id]
        async for row in self._rows(schema.EDITS, (channel_id, message_id)):
            ids.append(int(row.key[0]))
        found: list[StoredEntry] = []
        for entry_id in ids:
            payload = await self.entry(channel_id, entry_id)
            if payload is not None:
                found.append(StoredEntry(entry_id, payload))
        return found

    # --- messages ---

    async def message(self, channel_id: str, message_id: int) -> StoredMessage | None:
        """As `ChatStore.message`."""
        record = await self.record(channel_id, message_id)
        if record is None or record.kind != EntryKind.MESSAGE_SENT:
            return None
        found = [(message_id, record)]
        states = await self._states(channel_id, found, record.thread_root_id)
        return await self._message(channel_id, message_id, record, states)

    async def _states(
        self, channel_id: str, records: Sequence[tuple[int, log_pb2.LogRecord]], root_id: int
    ) -> dict[int, Row]:
        """What changed messages of a page, by id: one read for each of its buckets."""
        ids = [entry_id for entry_id, record in records if _is_of(record, root_id)]
        if not ids:
            return {}
        first, last = min(ids), max(ids)
        if root_id:  # they may lie far apart
            rows = await together(
                [
                    lambda at=at: self._one(schema.MESSAGES, self._place(channel_id, at), (at,))  # type: ignore[misc]
                    for at in ids
                ]
            )
            return {at: row for at, row in zip(ids, rows, strict=True) if row is not None}
        return {
            int(row.key[0]): row
            for bucket in range(schema.bucket_of(first), schema.bucket_of(last) + 1)
            async for row in self._rows(
                schema.MESSAGES, (channel_id, bucket), after=(first - 1,), to=(last,)
            )
        }

    @staticmethod
    def _place(channel_id: str, entry_id: int) -> Key:
        return (channel_id, schema.bucket_of(entry_id))

    async def _message(
        self,
        channel_id: str,
        message_id: int,
        record: log_pb2.LogRecord,
        states: Mapping[int, Row],
    ) -> StoredMessage:
        payload = await self.payload(channel_id, message_id, record)
        row = states.get(message_id)
        if row is None:
            return StoredMessage(message_id, payload)
        edited = row.number("content_entry_id")
        content = await self.entry(channel_id, edited) if edited else None
        return StoredMessage(message_id, payload, row.blob("state"), content)

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
        """As `ChatStore.messages`."""
        split = anchor_id + (anchor == "after")
        # What the page does not take of a side only says whether there is more.
        below = 1 if anchor == "after" else limit + 1
        above = 1 if anchor == "before" else limit + 1
        # Most often the anchor of an older page is a message that its reader has: read along, it
        # says that there is more.
        also = anchor == "before"
        falling = self._falling(
            channel_id, ranges, thread_root_id, split + also, _page(below + also)
        )
        nearest = await anext(falling, None)
        after: list[StoredMessage] = []
        if nearest is not None and nearest.id >= split:
            after, nearest = [nearest], await anext(falling, None)
        before: list[StoredMessage] = []
        if nearest is not None:
            before = await self._some(_led_by(nearest, falling), below, max_bytes)
        if not after:
            after = await self._some(
                self._rising(channel_id, ranges, thread_root_id, split, _page(above)),
                above,
                max_bytes,
            )
        return cut_page(anchor, before, after, limit, max_bytes)

    async def _some(
        self, messages: AsyncIterator[StoredMessage], limit: int, max_bytes: int
    ) -> list[StoredMessage]:
        found: list[StoredMessage] = []
        size = 0
        async for message in messages:
            found.append(message)
            # One more than what fits, so that the cut is the page's.
            if len(found) == limit or size > max_bytes:
                break
            size += size_bytes(message)
        return found

    async def _rising(
        self, channel_id: str, ranges: Ranges, root_id: int, from_id: int, page: int
    ) -> AsyncIterator[StoredMessage]:
        for first, last in ranges:
            after_id = max(first, from_id, 1) - 1
            while after_id < last:
                ids = await self._reply_ids(channel_id, root_id, after_id, last)
                records = (
                    await self.records(channel_id, after_id, last, page)
                    if ids is None
                    else await self._these(channel_id, ids)
                )
                if not records:
                    break
                states = await self._states(channel_id, records, root_id)
                for entry_id, record in records:
                    if _is_of(record, root_id):
                        yield await self._message(channel_id, entry_id, record, states)
                after_id = records[-1][0]

    async def _falling(
        self, channel_id: str, ranges: Ranges, root_id: int, before_id: int, page: int
    ) -> AsyncIterator[StoredMessage]:
        for first, last in reversed(ranges):
            before = min(last + 1, before_id)
            while before > first:
                ids = await self._reply_ids(channel_id, root_id, first - 1, before - 1, down=True)
                records = (
                    await self.records_before(channel_id, first, before, page)
                    if ids is None
                    else await self._these(channel_id, ids)
                )
                if not records:
                    break
                states = await self._states(channel_id, records, root_id)
                for entry_id, record in records:
                    if _is_of(record, root_id):
                        yield await self._message(channel_id, entry_id, record, states)
                before = records[-1][0]

    async def _reply_ids(
        self, channel_id: str, root_id: int, after_id: int, to_id: int, *, down: bool = False
    ) -> list[int] | None:
        """A page of a thread's ids with after_id < id <= to_id; None: it is no thread."""
        if not root_id:
            return None
        found: list[int] = []
        buckets = range(after_id // schema.WIDE_BUCKET, to_id // schema.WIDE_BUCKET + 1)
        for bucket in reversed(buckets) if down else buckets:
            rows = await self._tables.read(
                schema.REPLIES,
                (channel_id, root_id, bucket),
                after=(after_id,),
                to=(to_id,),
                limit=PAGE - len(found),
                newest_first=down,
            )
            found += (int(row.key[0]) for row in rows)
            if len(found) == PAGE:
                break
        return found

    async def _these(
        self, channel_id: str, ids: Iterable[int]
    ) -> list[tuple[int, log_pb2.LogRecord]]:
        found = [(entry_id, await self.record(channel_id, entry_id)) for entry_id in ids]
        return [(entry_id, record) for entry_id, record in found if record is not None]

    async def messages_of_sender(
        self, sender_id: str, after: tuple[str, int], limit: int
    ) -> list[tuple[str, int]]:
        """As `ChatStore.messages_of_sender`."""
        found: list[tuple[str, int]] = []
        for row in await self.user_rows(sender_id):
            if row.channel_id < after[0]:
                continue
            after_id = after[1] if row.channel_id == after[0] else 0
            while records := await self.records(row.channel_id, after_id, MAX_ID, PAGE):
                for after_id, record in records:
                    if record.sender_id == sender_id and not record.redacted:
                        found.append((row.channel_id, after_id))
                        if len(found) == limit:
                            return found
        return found

    # --- reactions, mentions, requests ---

    async def has_reaction(
        self, channel_id: str, message_id: int, emoji: str, user_id: str
    ) -> bool:
        """As `ChatStore.has_reaction`."""
        row = await self._one(schema.REACTIONS, (channel_id, message_id), (emoji, user_id))
        return row is not None

    async def reaction_users(
        self, channel_id: str, message_id: int, emoji: str, limit: int
    ) -> list[str]:
        """As `ChatStore.reaction_users`."""
        found: list[tuple[int, str]] = []
        rows = self._rows(
            schema.REACTIONS, (channel_id, message_id), after=(emoji, ""), to=(emoji,)
        )
        async for row in rows:
            found.append((row.number("entry_id"), str(row.key[1])))
        return [user_id for _, user_id in sorted(found)][:limit]

    async def mention_count(self, channel_id: str, user_id: str, after_id: int, to_id: int) -> int:
        """As `ChatStore.mention_count`."""
        found: set[int] = set()
        for bucket in range(after_id // schema.WIDE_BUCKET, to_id // schema.WIDE_BUCKET + 1):
            for name in (user_id, ""):
                rows = self._rows(
                    schema.MENTIONS, (channel_id, name, bucket), after=(after_id,), to=(to_id,)
                )
                async for row in rows:
                    found.add(int(row.key[0]))
        return len(found)

    async def find_request(self, scope: str, request_id: str) -> StoredRequest | None:
        """As `ChatStore.find_request`."""
        rows = await self._tables.read(schema.REQUESTS, (scope, request_id), limit=1)
        if not rows:
            return None
        return StoredRequest(rows[0].blob("content_hash"), rows[0].blob("response"))

    async def newest_sent(self, channel_id: str, sender_id: str, week: int) -> bytes:
        """The newest client_message_id of that week that was stored of a sender; b"": none was."""
        rows = await self._tables.read(
            schema.SENDS, (channel_id, week), to=(sender_id,), limit=1, newest_first=True
        )
        if not rows or rows[0].key[0] != sender_id:
            return b""
        found = rows[0].key[1]
        assert isinstance(found, bytes)
        return found

    async def sent_id(self, channel_id: str, sender_id: str, client_message_id: bytes) -> int:
        """The id that the idempotency row of a send names, 0 if there is none. It may be that of an
        entry which never became part of the log."""
        week = schema.week_of(client_message_id)
        row = await self._one(schema.SENDS, (channel_id, week), (sender_id, client_message_id))
        return row.number("message_id") if row else 0


def record_from(channel_id: str, row: Row, head: Head, generation: int) -> ChannelRecord:
    """A channel's row as a record."""
    return ChannelRecord(
        channel_id,
        row.number("kind"),
        row.blob("settings"),
        generation,
        head.id,
        head.count,
        head.time_us,
        head.last_message_id,
        row.number("member_count"),
        bool(row.number("deleted")),
    )


async def together(work: Sequence[Callable[[], Awaitable[Found]]]) -> list[Found]:
    """Runs a bounded number of reads at the same time; the answers in order."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(read: Callable[[], Awaitable[Found]]) -> Found:
        async with room:
            return await read()

    return list(await asyncio.gather(*(one(read) for read in work)))


async def _led_by(
    first: StoredMessage, others: AsyncIterator[StoredMessage]
) -> AsyncIterator[StoredMessage]:
    yield first
    async for message in others:
        yield message


def _page(wanted: int) -> int:
    """Records to read at first for so many messages: some are none."""
    return min(PAGE, wanted + wanted // 4 + 4)


def _slots(*, is_broadcast: bool) -> range:
    return range(schema.MEMBER_SLOTS if is_broadcast else 1)


def _record(row: Row) -> log_pb2.LogRecord:
    return log_pb2.LogRecord.FromString(row.blob("record"))


def _is_of(record: log_pb2.LogRecord, root_id: int) -> bool:
    return record.kind == EntryKind.MESSAGE_SENT and record.thread_root_id == root_id
