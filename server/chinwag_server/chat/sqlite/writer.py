"""The one thread that writes: submissions that wait while a commit runs are the next one."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from chinwag_server.chat.sqlite.channels import ChannelNumbers
from chinwag_server.chat.sqlite.checkpoints import Checkpoints
from chinwag_server.chat.sqlite.schema import PAGE_SIZE
from chinwag_server.chat.sqlite.transaction import Transaction
from chinwag_server.chat.store import Done, StoreUnavailable, Write, WriteRefused

log = logging.getLogger(__name__)

# A commit is bounded so that its first submission does not wait for its last.
MAX_BATCH = 256
MAX_BATCH_BYTES = 8 << 20


@dataclass(slots=True, frozen=True)
class Submission:
    """What `ChatStore.submit` was given, and its size in the backlog."""

    writes: Sequence[Write]
    done: Done
    size_bytes: int


@dataclass(slots=True, frozen=True)
class _Job:
    """Work on the writer's connection in a transaction of its own."""

    run: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]


class _Stop:
    """Ends the thread once everything before it is done."""


class Writer:
    """Commits submissions in order, many a transaction.

    Args:
        connection: Used by this thread alone while it runs.
        stamp: Of the newest commit.
        finished: Called on the loop with the submissions of a commit and its stamp.
        failed: Called on the loop with submissions that failed, each with its error. Nothing
            is written from the failure until it returns; before that it fails all that
            `drain` gives.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        numbers: ChannelNumbers,
        stamp: int,
        finished: Callable[[Sequence[Submission], int], None],
        failed: Callable[[Sequence[tuple[Submission, Exception]]], None],
    ) -> None:
        self._connection = connection
        self._numbers = numbers
        self._stamp = stamp
        self._finished = finished
        self._failed = failed
        self._queue: SimpleQueue[Submission | _Job | _Stop] = SimpleQueue()
        self._held: _Job | _Stop | None = None
        self._lifted = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Future[None] | None = None
        self._thread = threading.Thread(target=self._main, name="chat-store-writer", daemon=True)
        self._checkpoints = Checkpoints(connection)
        self._healthy = True

    # --- on the event loop ---

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = self._loop.create_future()
        self._thread.start()

    def put(self, submission: Submission) -> None:
        """Queues a submission; never waits."""
        self._queue.put(submission)

    async def run(self, job: Callable[[sqlite3.Connection], Any]) -> Any:
        """Runs a job between two commits, after all that was queued before.

        Raises:
            StoreUnavailable: The store cannot write.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.put(_Job(job, future))
        return await future

    async def stop(self) -> None:
        """Finishes what was queued and ends the thread; the connection is the caller's again."""
        assert self._stopped is not None
        self._queue.put(_Stop())
        await self._stopped
        self._thread.join()

    def drain(self) -> list[Submission]:
        """What is queued now; only while the writer waits for `failed` to return."""
        drained: list[Submission] = []
        kept: list[_Stop] = []
        while True:
            try:
                item = self._queue.get_nowait()
            except Empty:
                break
            if isinstance(item, Submission):
                drained.append(item)
            elif isinstance(item, _Job):
                _settle(item.future, None, StoreUnavailable("a write before this one failed"))
            else:
                kept.append(item)
        for stop in kept:
            self._queue.put(stop)
        return drained

    def _fail(self, failures: Sequence[tuple[Submission, Exception]]) -> None:
        try:
            self._failed(failures)
        finally:
            self._lifted.set()

    # --- on the writer's thread ---

    def _main(self) -> None:
        try:
            while True:
                item = self._next()
                if isinstance(item, Submission):
                    self._write(self._gather(item))
                elif isinstance(item, _Job):
                    self._work(item)
                elif item is not None:
                    break
                self._checkpoints.run_due()
            self._checkpoints.finish()
        except _LoopGone:
            log.error("the event loop ended before the store was closed")
            return
        assert self._loop is not None
        assert self._stopped is not None
        self._loop.call_soon_threadsafe(self._stopped.set_result, None)

    def _next(self) -> Submission | _Job | _Stop | None:
        if self._held is not None:
            item, self._held = self._held, None
            return item
        try:
            return self._queue.get(timeout=self._checkpoints.due_in_s())
        except Empty:
            return None

    def _gather(self, first: Submission) -> list[Submission]:
        batch, size = [first], first.size_bytes
        while len(batch) < MAX_BATCH and size < MAX_BATCH_BYTES:
            try:
                item = self._queue.get_nowait()
            except Empty:
                break
            if not isinstance(item, Submission):
                self._held = item
                break
            batch.append(item)
            size += item.size_bytes
        return batch

    def _write(self, batch: list[Submission]) -> None:
        error = self._commit(batch)
        if error is None:
            self._call(self._finished, batch, self._stamp)
            return
        rest = batch
        if isinstance(error, WriteRefused) and len(batch) > 1:
            # One of them is at fault: the others need not suffer for it. Those before it are
            # stored one by one, and it is found.
            rest = []
            for place, submission in enumerate(batch):
                error = self._commit([submission])
                if error is not None:
                    rest = batch[place:]
                    break
                self._call(self._finished, [submission], self._stamp)
        if error is None:
            return
        failures: list[tuple[Submission, Exception]] = [(rest[0], error)]
        after = StoreUnavailable(f"a submission before this one failed: {error}")
        failures += [(submission, after) for submission in rest[1:]]
        # The fence: what is queued was decided on top of what failed. The loop fails all of it
        # before anything else is written.
        self._lifted.clear()
        self._call(self._fail, failures)
        self._lifted.wait()

    def _commit(self, batch: Sequence[Submission]) -> Exception | None:
        """Stores submissions in one transaction, or nothing and gives the error."""
        connection = self._connection
        transaction = Transaction(connection, self._numbers, self._stamp + 1)
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
            for submission in batch:
                transaction.add(submission.writes)
            transaction.execute()
            connection.execute("COMMIT")
        except Exception as error:
            self._roll_back()
            return self._explain(error)
        self._stamp += 1
        self._numbers.add(transaction.created)
        pages = transaction.rows + sum(s.size_bytes for s in batch) // PAGE_SIZE
        self._checkpoints.committed(pages, scrub=transaction.redacts)
        if not self._healthy:
            self._healthy = True
            log.warning("the chat store writes again")
        return None

    def _work(self, job: _Job) -> None:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = job.run(connection)
            if connection.in_transaction:
                connection.execute("COMMIT")
        except Exception as error:
            self._roll_back()
            self._call(_settle, job.future, None, self._explain(error))
        else:
            self._call(_settle, job.future, result, None)

    def _roll_back(self) -> None:
        # SQLite has rolled back by itself after some errors, a full disk among them.
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            log.exception("the chat store could not roll back; it tries again before each write")

    def _explain(self, error: Exception) -> Exception:
        if isinstance(error, WriteRefused):
            return error
        if isinstance(error, sqlite3.IntegrityError):
            return WriteRefused(f"it contradicts what is stored: {error}")
        if isinstance(error, sqlite3.OperationalError | sqlite3.InternalError | MemoryError) or (
            type(error) is sqlite3.DatabaseError
        ):
            if self._healthy:
                self._healthy = False
                log.error("the chat store cannot write: %s", error)
            return StoreUnavailable(f"the chat store cannot write: {error}")
        log.error("a submission that cannot be stored", exc_info=error)
        return WriteRefused(f"it cannot be stored: {error!r}")

    def _call(self, function: Callable[..., None], *args: object) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError as error:
            raise _LoopGone from error


class _LoopGone(Exception):
    """Nobody is left to be told."""


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
