"""The chat store in memory: for tests of the rules, and the plain statement of what a store does.

Nothing is durable. Reads scan, so that each is obviously what the port says.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace

from chinwag.chat.v1 import channel_pb2
from chinwag_server.chat.memory_tables import ChannelTable, Tables
from chinwag_server.chat.paging import cut_page
from chinwag_server.chat.store import (
    ChannelRecord,
    Done,
    EntryKind,
    FeedRange,
    MemberRecord,
    MessagePage,
    Ranges,
    StoredEntry,
    StoredMessage,
    StoredRequest,
    StoredSend,
    StoreUnavailable,
    Write,
    WriteRefused,
    backlog_bytes_of,
)

log = logging.getLogger(__name__)


class MemoryChatStore:
    """`ChatStore` in memory.

    Args:
        generation: What `generation` gives.
        delay: Seconds from a submission to its `done`; 0: the next turn of the loop.

    Attributes:
        failing: While true, all writes fail with StoreUnavailable.
        tables: What is stored, for tests to look at.
    """

    def __init__(self, *, generation: int = 1, delay: float = 0.0) -> None:
        self.failing = False
        self.delay = delay
        self.tables = Tables()
        self._generation = generation
        self._stamp = 0
        self._backlog_bytes = 0
        self._queue: deque[tuple[Sequence[Write], Done, int]] = deque()
        self._scheduled = False
        self._closed = False

    @property
    def generation(self) -> int:
        return self._generation

    @property
    def stamp(self) -> int:
        return self._stamp

    @property
    def backlog_bytes(self) -> int:
        return self._backlog_bytes

    async def open(self) -> None:
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        barrier = asyncio.get_running_loop().create_future()
        self._push((), lambda _stamp, _error: barrier.set_result(None))
        await barrier

    # --- writes ---

    def submit(self, writes: Sequence[Write], done: Done) -> None:
        if self._closed:
            error = StoreUnavailable("the store is closed")
            asyncio.get_running_loop().call_soon(self._call, done, 0, error)
            return
        self._push(writes, done)

    def _push(self, writes: Sequence[Write], done: Done) -> None:
        size = backlog_bytes_of(writes)
        self._backlog_bytes += size
        self._queue.append((writes, done, size))
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(self.delay, self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        for _ in range(len(self._queue)):
            if not self._queue:  # a failure took the rest along
                break
            writes, done, size = self._queue.popleft()
            self._backlog_bytes -= size
            error = self._commit(writes)
            self._call(done, 0 if error else self._stamp, error)
            while error is not None and self._queue:
                _, done, size = self._queue.popleft()
                self._backlog_bytes -= size
                self._call(done, 0, StoreUnavailable("a submission before this one failed"))
        if self._queue and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(self.delay, self._flush)

    def _commit(self, writes: Sequence[Write]) -> Exception | None:
        if self.failing:
            return StoreUnavailable("the store was told to fail")
        try:
            self.tables.refuse(writes)
        except WriteRefused as error:
            return error
        self._stamp += 1
        self.tables.apply(writes, self._stamp)
        return None

    @staticmethod
    def _call(done: Done, stamp: int, error: Exception | None) -> None:
        try:
            done(stamp, error)
        except Exception:
            log.exception("a done callback failed")

    # --- channels and members ---

    def _record(self, table: ChannelTable) -> ChannelRecord:
        return replace(table.record, generation=self._generation)

    def _rows(self, user_id: str) -> Iterable[tuple[ChannelTable, MemberRecord, int]]:
        for table in self.tables.channels.values():
            row = table.members.get(user_id)
            if row is not None:
                yield table, replace(row.record), row.stamp

    async def channel(self, channel_id: str) -> ChannelRecord | None:
        table = self.tables.channels.get(channel_id)
        return self._record(table) if table else None

    async def members(self, channel_id: str) -> list[MemberRecord]:
        table = self.tables.channels.get(channel_id)
        rows = table.members if table else {}
        return [replace(rows[user_id].record) for user_id in sorted(rows)]

    async def member(self, channel_id: str, user_id: str) -> MemberRecord | None:
        table = self.tables.channels.get(channel_id)
        row = table.members.get(user_id) if table else None
        return replace(row.record) if row else None

    async def member_page(
        self, channel_id: str, after_user_id: str, limit: int
    ) -> list[MemberRecord]:
        rows = await self.members(channel_id)
        return [row for row in rows if row.role and row.user_id > after_user_id][:limit]

    async def user_channels(
        self, user_id: str, since_stamp: int = 0
    ) -> list[tuple[ChannelRecord, MemberRecord]]:
        found = []
        for table, member, stamp in self._rows(user_id):
            newest = max(table.entry_stamp, stamp)
            if table.record.kind != channel_pb2.CHANNEL_KIND_BROADCAST:
                newest = max(newest, table.receipt_stamp)
            if newest > since_stamp:
                found.append((self._record(table), member))
        return found

    async def user_channel_page(
        self,
        user_id: str,
        kinds: Sequence[int],
        include_archived: bool,
        after: tuple[bool, int, str] | None,
        limit: int,
    ) -> list[tuple[ChannelRecord, MemberRecord]]:
        found = sorted(
            (
                (not member.pinned, -table.record.head_time_us, table.record.channel_id),
                self._record(table),
                member,
            )
            for table, member, _ in self._rows(user_id)
            if member.role
            and (not kinds or table.record.kind in kinds)
            and (include_archived or not member.archived)
        )
        start = (not after[0], -after[1], after[2]) if after else None
        return [
            (record, member)
            for position, record, member in found
            if start is None or position > start
        ][:limit]

    async def count_user_channels(self, user_id: str) -> int:
        return sum(
            bool(member.role) and not table.record.deleted
            for table, member, _ in self._rows(user_id)
        )

    # --- entries and messages ---

    async def entries(
        self, channel_id: str, after_id: int, to_id: int, limit: int, max_bytes: int
    ) -> list[StoredEntry]:
        found: list[StoredEntry] = []
        size = 0
        table = self.tables.channels.get(channel_id)
        for entry in table.entries[max(after_id, 0) : max(to_id, 0)] if table else ():
            size += len(entry.payload)
            if len(found) >= limit or (found and size > max_bytes):
                break
            found.append(StoredEntry(entry.id, entry.payload))
        return found

    async def entry(self, channel_id: str, entry_id: int) -> bytes | None:
        table = self.tables.channels.get(channel_id)
        if table is None or not 0 < entry_id <= len(table.entries):
            return None
        return table.entries[entry_id - 1].payload

    async def entries_of_message(self, channel_id: str, message_id: int) -> list[StoredEntry]:
        table = self.tables.channels.get(channel_id)
        return [
            StoredEntry(entry.id, entry.payload)
            for entry in (table.entries if table else ())
            if entry.message_id == message_id
            and entry.kind in (EntryKind.MESSAGE_SENT, EntryKind.MESSAGE_EDITED)
        ]

    async def timeline_count(self, channel_id: str, entry_id: int) -> int:
        table = self.tables.channels.get(channel_id)
        if table is None or not 0 < entry_id <= len(table.entries):
            return 0
        return table.entries[entry_id - 1].timeline_count

    async def message(self, channel_id: str, message_id: int) -> StoredMessage | None:
        table = self.tables.channels.get(channel_id)
        if table is None or not 0 < message_id <= len(table.entries):
            return None
        entry = table.entries[message_id - 1]
        if entry.kind != EntryKind.MESSAGE_SENT:
            return None
        put = table.messages.get(message_id)
        if put is None:
            return StoredMessage(message_id, entry.payload)
        edited = table.entries[put.content_entry_id - 1].payload if put.content_entry_id else None
        return StoredMessage(message_id, entry.payload, put.state, edited)

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
        table = self.tables.channels.get(channel_id)
        found = [
            message
            for entry in (table.entries if table else ())
            if entry.thread_root_id == thread_root_id
            and any(first <= entry.id <= last for first, last in ranges)
            and (message := await self.message(channel_id, entry.id)) is not None
        ]
        # "before" has the anchor itself on the far side, "after" on the near one.
        split = anchor_id + (anchor == "after")
        before = [message for message in reversed(found) if message.id < split]
        after = [message for message in found if message.id >= split]
        return cut_page(anchor, before, after, limit, max_bytes)

    async def last_messages(self, wanted: Sequence[tuple[str, int]]) -> dict[str, StoredMessage]:
        found = {}
        for channel_id, message_id in wanted:
            message = await self.message(channel_id, message_id)
            if message is not None:
                found[channel_id] = message
        return found

    async def messages_of_sender(
        self, sender_id: str, after: tuple[str, int], limit: int
    ) -> list[tuple[str, int]]:
        found = sorted(
            (entry.channel_id, entry.id)
            for table, _, _ in self._rows(sender_id)
            for entry in table.entries
            if entry.kind == EntryKind.MESSAGE_SENT
            and entry.sender_id == sender_id
            and entry.id not in table.redacted
        )
        return [position for position in found if position > after][:limit]

    # --- reactions and mentions ---

    async def has_reaction(
        self, channel_id: str, message_id: int, emoji: str, user_id: str
    ) -> bool:
        table = self.tables.channels.get(channel_id)
        return table is not None and (message_id, emoji, user_id) in table.reactions

    async def reaction_users(
        self, channel_id: str, message_id: int, emoji: str, limit: int
    ) -> list[str]:
        table = self.tables.channels.get(channel_id)
        reactions = table.reactions if table else {}
        found = sorted(
            (entry_id, key[2])
            for key, entry_id in reactions.items()
            if key[:2] == (message_id, emoji)
        )
        return [user_id for _, user_id in found][:limit]

    async def mention_count(self, channel_id: str, user_id: str, after_id: int, to_id: int) -> int:
        table = self.tables.channels.get(channel_id)
        return sum(
            after_id < entry_id <= to_id and not users.isdisjoint((user_id, ""))
            for entry_id, users in (table.mentions if table else {}).items()
        )

    # --- idempotency and the feed ---

    async def find_sends(self, keys: Sequence[tuple[str, str, bytes]]) -> list[StoredSend | None]:
        return [
            StoredSend(entry.id, entry.content_hash)
            if (entry := self.tables.sends.get(key)) is not None
            else None
            for key in keys
        ]

    async def find_request(self, scope: str, request_id: str) -> StoredRequest | None:
        put = self.tables.requests.get((scope, request_id))
        return StoredRequest(put.content_hash, put.response) if put else None

    async def feed(self, after_stamp: int, limit: int) -> list[FeedRange]:
        found: list[FeedRange] = []
        for item in self.tables.feed:
            if item.stamp > after_stamp:
                if len(found) >= limit and item.stamp != found[-1].stamp:
                    break
                found.append(item)
        return found

    async def expire_requests(self, before_us: int, limit: int) -> int:
        sends, requests = self.tables.sends, self.tables.requests
        before_id = (before_us // 1000).to_bytes(6, "big")
        old_sends = [
            key
            for key, entry in sends.items()
            if entry.time_us < before_us and entry.client_message_id < before_id
        ][:limit]
        old_requests = [key for key, put in requests.items() if put.time_us < before_us]
        old_requests = old_requests[: limit - len(old_sends)]
        for send in old_sends:
            del sends[send]
        for request in old_requests:
            del requests[request]
        return len(old_sends) + len(old_requests)
