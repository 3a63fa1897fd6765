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
from typing import Any, TypeVar

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
        self._readers: list[_Reader] = []

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
        self._pool = ThreadPoolExecutor(
            READ_THREADS, "chat-store-reader", self._start_reading
        )
        self._writer = Writer(
            connection, self.numbers, self._stamp, self._finished, self._failed
        )
        self._writer.start()

    async def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        await writer.stop()
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
        if self._writer is None:
            error = StoreUnavailable("the store is closed")
            asyncio.get_running_loop().call_soon(_call, done, 0, error)
            return
        size = backlog_bytes_of(writes)
        self._backlog_bytes += size
        self._writer.put(Submission(writes, done, size))

    async def run_in_writer(self, job: Callable[[sqlite3.Connection], Result]) -> Result:
        """Runs a job on the writing connection, between two commits, in a transaction.

        Raises:
            StoreUnavailable: It cannot be written.
        """
        if self._writer is None:
            raise StoreUnavailable("the store is closed")
        result: Result = await self._writer.run(job)
        return result

    def _finished(self, batch: Sequence[Submission], stamp: int) -> None:
        self._stamp = stamp
        for submission in batch:
            self._backlog_bytes -= submission.size_bytes
            _call(submission.done, stamp, None)

    def _failed(
        self, writer: Writer, failures: Sequence[tuple[Submission, Exception]]
    ) -> None: ...

    # --- point reads, on the loop ---

    @property
    def _log(self) -> LogReads:
        assert self._inline is not None, "the store is not open"
        return self._inline.log
