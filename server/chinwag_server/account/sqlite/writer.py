"""The one thread that writes: jobs that wait while a commit runs share the next one.

Unlike chat's writer, a job that fails takes nobody with it: partitions do not build on each other.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from chinwag_server.account.store import Conflict, StoreUnavailable

log = logging.getLogger(__name__)

MAX_BATCH = 128

Result = TypeVar("Result")


@dataclass(slots=True)
class _Job:
    run: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class Writer:
    """Runs jobs in order, each all or nothing, many a transaction.

    Args:
        connection: Used by this thread alone, from `start` to the end of `stop`.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="account-store-writer", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = True
        self._healthy = True

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._thread.start()

    async def run(self, job: Callable[[sqlite3.Connection], Result]) -> Result:
        """Runs a job; when this returns, what it wrote is durable.

        Raises:
            StoreUnavailable: It cannot be written, or the store is closed.
            Conflict: From the job; nothing of it is stored.
        """
        if self._closed:
            raise StoreUnavailable("the account store is closed")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.put(_Job(job, future))
        # A caller that is cancelled does not stop the job: it must not take the future with it.
        return await asyncio.shield(future)

    async def stop(self) -> None:
        """Finishes what was queued and ends the thread."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # --- on the writer's thread ---

    def _main(self) -> None:
        while (job := self._queue.get()) is not None:
            batch = [job]
            last = False
            while len(batch) < MAX_BATCH and not last:
                try:
                    more = self._queue.get_nowait()
                except Empty:
                    break
                if more is None:
                    last = True
                else:
                    batch.append(more)
            self._commit(batch)
            if not self._tell(batch) or last:
                return

    def _commit(self, batch: list[_Job]) -> None:
        connection = self._connection
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
            for job in batch:
                self._run(job)
            connection.execute("COMMIT")
        except Exception as error:
            self._roll_back()
            if self._healthy:
                self._healthy = False
                log.error("the account store cannot write: %s", error)
            failure = StoreUnavailable(f"the account store cannot write: {error}")
            for job in batch:
                job.error = failure
            return
        if not self._healthy:
            self._healthy = True
            log.warning("the account store writes again")

    def _run(self, job: _Job) -> None:
        connection = self._connection
        connection.execute("SAVEPOINT job")
        try:
            job.result = job.run(connection)
        except Conflict as error:
            connection.execute("ROLLBACK TO job")
            job.error = error
        connection.execute("RELEASE job")

    def _roll_back(self) -> None:
        # SQLite has rolled back by itself after some errors, a full disk among them.
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            log.exception("the account store could not roll back; it tries again")

    def _tell(self, batch: list[_Job]) -> bool:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(_settle, batch)
        except RuntimeError:
            log.error("the event loop ended before the account store was closed")
            return False
        return True


def _settle(batch: list[_Job]) -> None:
    for job in batch:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
