"""The adapter: submissions go to the writer, reads to connections of their own.

Point reads run on the event loop: they take some ten microseconds, a change of threads takes
more. Reads that can be long run in two threads with a connection each.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from chinwag_server.chat.sqlite.channels import ChannelNumbers
from chinwag_server.chat.sqlite.connection import open_reader, open_writer
from chinwag_server.chat.sqlite.expiry import expire
from chinwag_server.chat.sqlite.member_reads import MemberReads
from chinwag_server.chat.sqlite.reads import LogReads
from chinwag_server.chat.sqlite.schema import FILE_NAME, migrate
from chinwag_server.chat.sqlite.writer import Submission, Writer
from chinwag_server.chat.store import (
    ChannelRecord,
    Done,
    FeedRange,
    MemberRecord,
    MessagePage,
    Ranges,
    StoredEntry,
    StoredMessage,
    StoredRequest,
    StoredSend,
    StoreError,
    StoreUnavailable,
    Write,
    backlog_bytes_of,
)
from chinwag_server.datadir import DataDir, fsync_dir

log = logging.getLogger(__name__)

READ_THREADS = 2
# Results that are being read or wait for the loop. Threads read faster than the loop makes answers
# of it: without a bound, a client that asks for many pages at once has dozens lie in between.
READS_AT_ONCE = 2 * READ_THREADS

Result = TypeVar("Result")


class _Reader:
    """A connection and what is read through it."""

    def __init__(self, store: SqliteChatStore) -> None:
        self.connection = open_reader(store.path)
        self.log = LogReads(self.connection, store.numbers)
        self.members = MemberReads(self.connection, store.numbers, store.generation)


class SqliteChatStore:
    """`ChatStore` in DIR/chat.db.

    Args:
        data_dir: Open, so that no other process writes; stays the caller's to close.
    """

    def __init__(self, data_dir: DataDir) -> None:
        self.path = data_dir.path / FILE_NAME
        self.numbers = ChannelNumbers()
        self._data_dir = data_dir
        self._generation = 0
        self._stamp = 0
        self._backlog_bytes = 0
        self._connection: sqlite3.Connection | None = None
        self._writer: Writer | None = None
        self._inline: _Reader | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._local = threading.local()
        self._reading = asyncio.Semaphore(READS_AT_ONCE)
        self._readers: list[_Reader] = []
        self._closed = True

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
        if not self._data_dir.is_open:
            raise StoreError(f"{self._data_dir.path} is not locked: open the data directory first")
        connection = open_writer(self.path)
        try:
            migrate(connection, self.path)
            self._generation, self._stamp = connection.execute(
                "SELECT generation, stamp FROM store"
            ).fetchone()
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"{self.path} cannot be opened: {error}") from error
            raise
        fsync_dir(self.path.parent)
        self._connection = connection
        self._inline = self._new_reader()
        self._pool = ThreadPoolExecutor(READ_THREADS, "chat-store-reader", self._start_reading)
        self._writer = Writer(connection, self.numbers, self._stamp, self._finished, self._failed)
        self._writer.start()
        self._closed = False

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        assert self._writer is not None
        await self._writer.stop()
        assert self._pool is not None
        await asyncio.to_thread(self._pool.shutdown)
        for reader in self._readers:
            reader.connection.close()
        self._readers.clear()
        # The last one to close takes the write-ahead log away.
        assert self._connection is not None
        self._connection.close()

    # --- writes ---

    def submit(self, writes: Sequence[Write], done: Done) -> None:
        if self._closed:
            error = StoreUnavailable("the store is closed")
            asyncio.get_running_loop().call_soon(_call, done, 0, error)
            return
        assert self._writer is not None
        size = backlog_bytes_of(writes)
        self._backlog_bytes += size
        self._writer.put(Submission(writes, done, size))

    async def run_in_writer(self, job: Callable[[sqlite3.Connection], Result]) -> Result:
        """Runs a job on the writing connection, between two commits, in a transaction.

        Raises:
            StoreUnavailable: It cannot be written.
        """
        if self._closed:
            raise StoreUnavailable("the store is closed")
        assert self._writer is not None
        result: Result = await self._writer.run(job)
        return result

    async def expire_requests(self, before_us: int, limit: int) -> int:
        return await self.run_in_writer(lambda connection: expire(connection, before_us, limit))

    def _finished(self, batch: Sequence[Submission], stamp: int) -> None:
        self._stamp = stamp
        for submission in batch:
            self._backlog_bytes -= submission.size_bytes
            _call(submission.done, stamp, None)

    def _failed(self, failures: Sequence[tuple[Submission, Exception]]) -> None:
        assert self._writer is not None
        while failures:
            for submission, error in failures:
                self._backlog_bytes -= submission.size_bytes
                _call(submission.done, 0, error)
            # What was submitted since, by those callbacks too, stands on what failed.
            after = StoreUnavailable("a submission before this one failed")
            failures = [(submission, after) for submission in self._writer.drain()]

    # --- point reads, on the loop ---

    @property
    def _log(self) -> LogReads:
        assert self._inline is not None, "the store is not open"
        return self._inline.log

    @property
    def _members(self) -> MemberReads:
        assert self._inline is not None, "the store is not open"
        return self._inline.members

    async def channel(self, channel_id: str) -> ChannelRecord | None:
        return self._members.channel(channel_id)

    async def member(self, channel_id: str, user_id: str) -> MemberRecord | None:
        return self._members.member(channel_id, user_id)

    async def entry(self, channel_id: str, entry_id: int) -> bytes | None:
        return self._log.entry(channel_id, entry_id)

    async def timeline_count(self, channel_id: str, entry_id: int) -> int:
        return self._log.timeline_count(channel_id, entry_id)

    async def message(self, channel_id: str, message_id: int) -> StoredMessage | None:
        return self._log.message(channel_id, message_id)

    async def has_reaction(
        self, channel_id: str, message_id: int, emoji: str, user_id: str
    ) -> bool:
        return self._log.has_reaction(channel_id, message_id, emoji, user_id)

    async def reaction_users(
        self, channel_id: str, message_id: int, emoji: str, limit: int
    ) -> list[str]:
        return self._log.reaction_users(channel_id, message_id, emoji, limit)

    async def mention_count(self, channel_id: str, user_id: str, after_id: int, to_id: int) -> int:
        return self._log.mention_count(channel_id, user_id, after_id, to_id)

    async def find_sends(self, keys: Sequence[tuple[str, str, bytes]]) -> list[StoredSend | None]:
        return self._log.find_sends(keys)

    async def find_request(self, scope: str, request_id: str) -> StoredRequest | None:
        return self._log.find_request(scope, request_id)

    # --- reads that can be long, in threads ---

    def _new_reader(self) -> _Reader:
        reader = _Reader(self)
        self._readers.append(reader)
        return reader

    def _start_reading(self) -> None:
        self._local.reader = self._new_reader()

    async def _read(self, read: Callable[[_Reader], Result]) -> Result:
        assert self._pool is not None, "the store is not open"
        async with self._reading:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, lambda: read(self._local.reader)
            )

    async def members(self, channel_id: str) -> list[MemberRecord]:
        return await self._read(lambda r: r.members.members(channel_id))

    async def member_page(
        self, channel_id: str, after_user_id: str, limit: int
    ) -> list[MemberRecord]:
        return await self._read(lambda r: r.members.member_page(channel_id, after_user_id, limit))

    async def user_channels(
        self, user_id: str, since_stamp: int = 0
    ) -> list[tuple[ChannelRecord, MemberRecord]]:
        return await self._read(lambda r: r.members.user_channels(user_id, since_stamp))

    async def user_channel_page(
        self,
        user_id: str,
        kinds: Sequence[int],
        include_archived: bool,
        after: tuple[bool, int, str] | None,
        limit: int,
    ) -> list[tuple[ChannelRecord, MemberRecord]]:
        return await self._read(
            lambda r: r.members.user_channel_page(user_id, kinds, include_archived, after, limit)
        )

    async def count_user_channels(self, user_id: str) -> int:
        return await self._read(lambda r: r.members.count_user_channels(user_id))

    async def entries(
        self, channel_id: str, after_id: int, to_id: int, limit: int, max_bytes: int
    ) -> list[StoredEntry]:
        return await self._read(
            lambda r: r.log.entries(channel_id, after_id, to_id, limit, max_bytes)
        )

    async def entries_of_message(self, channel_id: str, message_id: int) -> list[StoredEntry]:
        return await self._read(lambda r: r.log.entries_of_message(channel_id, message_id))

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
        return await self._read(
            lambda r: r.log.messages(
                channel_id, ranges, thread_root_id, anchor, anchor_id, limit, max_bytes
            )
        )

    async def last_messages(self, wanted: Sequence[tuple[str, int]]) -> dict[str, StoredMessage]:
        return await self._read(lambda r: r.log.last_messages(wanted))

    async def messages_of_sender(
        self, sender_id: str, after: tuple[str, int], limit: int
    ) -> list[tuple[str, int]]:
        return await self._read(lambda r: r.log.messages_of_sender(sender_id, after, limit))

    async def feed(self, after_stamp: int, limit: int) -> list[FeedRange]:
        # Not beyond what is finished: a cursor above `stamp` would be taken for a foreign one.
        to_stamp = self._stamp
        return await self._read(lambda r: r.log.feed(after_stamp, to_stamp, limit))


def _call(done: Done, stamp: int, error: Exception | None) -> None:
    try:
        done(stamp, error)
    except Exception:
        # The others of the commit have to hear of it all the same.
        log.exception("a done callback failed")
