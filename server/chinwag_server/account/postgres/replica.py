"""A replica, and how old what it shows can be.

Now and then the primary is asked where its log ends, then the replica how far it has come. Once it
has come that far, it shows all that was committed before the question. A row that this process has
changed since is read from the primary: whoever changes something here sees it here.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Collection, Sequence
from typing import Any

from chinwag_server.account.postgres import driver, errors
from chinwag_server.account.postgres.driver import Connection, Row
from chinwag_server.account.postgres.server import Server
from chinwag_server.account.store import StoreUnavailable

log = logging.getLogger(__name__)

QUESTIONS = 4  # in the time that a replica may be behind
READ_S = 1.0
MAX_SAMPLES = 64
MAX_WRITES = 100_000

_FAILURES: tuple[type[Exception], ...] = (StoreUnavailable, *driver.FAILURES)

_HEAD = "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint"
_REACHED = (
    "SELECT CASE WHEN pg_is_in_recovery() "
    "THEN pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint END"
)


class Replica:
    """Reads that may be a little old.

    Args:
        max_lag_s: How old at most.
    """

    def __init__(self, server: Server, primary: Server, max_lag_s: float) -> None:
        self._server = server
        self._primary = primary
        self._max_lag_s = max_lag_s
        # (when the primary was asked, where its log ended), those that the replica has not reached.
        self._samples: deque[tuple[float, int]] = deque(maxlen=MAX_SAMPLES)
        # Everything that was committed before this time is there.
        self._covered = -math.inf
        self._written: dict[str, float] = {}
        self._written_any = -math.inf
        self._watching: asyncio.Task[None] | None = None
        # None: nothing was said of it yet.
        self._is_used: bool | None = None
        # When it was last of use, or opened.
        self._useful = -math.inf

    async def open(self) -> None:
        """Makes the pool, and begins to look how far the replica has come."""
        await self._server.open()
        self._useful = asyncio.get_running_loop().time()
        self._watching = asyncio.ensure_future(self._watch())

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None
        await self._server.close()

    # --- what may be read ---

    def wrote(self, key: str) -> None:
        """Something of a key was changed, or may have been."""
        now = asyncio.get_running_loop().time()
        if len(self._written) >= MAX_WRITES:
            self._written_any = now
            self._written.clear()
        self._written[key] = now

    def shows(self, keys: Collection[str]) -> bool:
        """Whether the replica is recent, and has all that this process did to the keys."""
        now = asyncio.get_running_loop().time()
        written = max((self._written.get(key, -math.inf) for key in keys), default=-math.inf)
        return self._covered > max(now - self._max_lag_s, written, self._written_any)

    async def fetch(self, sql: str, values: Sequence[Any]) -> list[Row] | None:
        """Rows; None: ask the primary."""

        async def job(connection: Connection, again: bool) -> list[Row]:
            return await connection.fetch(sql, *values)

        try:
            return await self._server.run(job, patience_s=READ_S)
        except StoreUnavailable:
            # Until it is seen to be well again.
            self._covered = -math.inf
            return None

    # --- how far it is ---

    async def _watch(self) -> None:
        while True:
            reason = "it is too far behind"
            try:
                await self._look()
            except _FAILURES as error:
                reason = errors.described(error)
            self._tell(reason)
            await asyncio.sleep(self._max_lag_s / QUESTIONS)

    async def _look(self) -> None:
        asked = asyncio.get_running_loop().time()
        self._samples.append((asked, await self._number(self._primary, _HEAD)))
        reached = await self._number(self._server, _REACHED)
        while self._samples and self._samples[0][1] <= reached:
            self._covered = self._samples.popleft()[0]
        for key in [key for key, time in self._written.items() if time < self._covered]:
            del self._written[key]

    @staticmethod
    async def _number(server: Server, sql: str) -> int:
        async def job(connection: Connection, again: bool) -> Any:
            row = await connection.fetchrow(sql)
            return row[0] if row else None

        number = await server.run(job, patience_s=READ_S)
        # A replica that was promoted goes ways of its own.
        return -1 if number is None else int(number)

    def _tell(self, reason: str) -> None:
        """Says when the replica comes into use, and when it has not been of use for a while."""
        now = asyncio.get_running_loop().time()
        if self.shows(()):
            self._useful = now
            if not self._is_used:
                self._is_used = True
                log.info("the replica %s is asked for lists", self._server.name)
        elif now - self._useful > self._max_lag_s and self._is_used is not False:
            self._is_used = False
            log.warning("the replica %s is not asked: %s", self._server.name, reason)
