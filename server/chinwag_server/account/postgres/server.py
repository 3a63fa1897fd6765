"""One PostgreSQL server: a bounded pool, deadlines, another try where that may help."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from chinwag_server.account.postgres import address, driver, errors
from chinwag_server.account.postgres.driver import Connection
from chinwag_server.account.store import StoreError, StoreUnavailable

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.05
MAX_PAUSE_S = 1.0
RELEASE_S = 2.0
_FAILURES: tuple[type[Exception], ...] = (*driver.FAILURES, errors.Astray)

Result = TypeVar("Result")
# Gets a connection and whether an earlier try may have done the work.
Job = Callable[[Connection, bool], Awaitable[Result]]


@dataclass(slots=True, frozen=True)
class PostgresSettings:
    """Bounds of a store's use of PostgreSQL.

    Attributes:
        connections: To each server.
        waiting: Calls that may wait for a connection; more are refused.
        connect_s: How long connecting may take.
        statement_s: How long a statement may take.
        patience_s: How long a call goes on trying, all in all.
        replica_lag_s: A replica that is further behind is not asked.
    """

    connections: int = 10
    waiting: int = 5000
    connect_s: float = 3.0
    statement_s: float = 5.0
    patience_s: float = 10.0
    replica_lag_s: float = 2.0


class Server:
    """Runs jobs on a server.

    Args:
        attributes: `target_session_attrs` of libpq: which of the URL's hosts will do.
        check: Called with every new connection; raises `errors.Astray` if it leads astray.
    """

    def __init__(
        self,
        url: str,
        settings: PostgresSettings,
        *,
        attributes: str,
        check: driver.Init,
    ) -> None:
        self.name = address.shown(url)
        self._url = url
        self._settings = settings
        self._attributes = attributes
        self._check = check
        self._pool: driver.Pool | None = None
        self._waiting = 0
        self._healthy = True

    async def open(self) -> None:
        """Makes the pool; nothing is connected yet.

        Raises:
            StoreError: The URL cannot be used.
        """
        settings = self._settings
        try:
            self._pool = await driver.open_pool(
                self._url,
                size=settings.connections,
                timeout=settings.connect_s,
                settings=session_settings(settings),
                attributes=self._attributes,
                init=self._check,
            )
        except driver.BAD_URL as error:
            raise StoreError(f"the URL of {self.name} cannot be used: {error}") from error

    async def close(self) -> None:
        """Lets running jobs end, for a while."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        try:
            async with asyncio.timeout(self._settings.patience_s):
                await pool.close()
        except driver.FAILURES as error:
            pool.terminate()
            log.warning("%s was left without a farewell: %s", self.name, errors.described(error))

    async def run(self, job: Job[Result], *, patience_s: float | None = None) -> Result:
        """Runs a job; again if the connection is lost, so it is written to be run twice.

        Raises:
            StoreUnavailable: The server does not do it.
        """
        if asyncio.current_task() is None:
            # Deadlines need a task; what runs eagerly (`rpc.eager`) has one after its first wait.
            await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        until = loop.time() + (self._settings.patience_s if patience_s is None else patience_s)
        pause_s, again = FIRST_PAUSE_S, False
        while True:
            try:
                connection = await self._acquire(until)
                again, before = True, again
                result = await self._run_once(connection, job, before, until)
            except _FAILURES as error:
                if errors.is_defect(error):
                    raise
                await self._look_for_another(error)
                if not errors.is_passing(error) or loop.time() + pause_s > until:
                    raise self._unavailable(error) from error
            else:
                self._well()
                return result
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    async def _acquire(self, until: float) -> Connection:
        if self._pool is None:
            raise StoreUnavailable("the account store is closed")
        if self._waiting >= self._settings.waiting:
            raise StoreUnavailable(
                f"{self._waiting} calls wait for the account store, as many as may: it is too slow"
            )
        self._waiting += 1
        try:
            left_s = until - asyncio.get_running_loop().time()
            return await self._pool.acquire(timeout=max(left_s, 0.001))
        finally:
            self._waiting -= 1

    async def _run_once(
        self, connection: Connection, job: Job[Result], again: bool, until: float
    ) -> Result:
        pool = self._pool
        assert pool is not None
        try:
            async with asyncio.timeout_at(until):
                return await job(connection, again)
        except BaseException:
            # Whatever state it is in: nobody waits for a rollback.
            connection.terminate()
            raise
        finally:
            await pool.release(connection, timeout=RELEASE_S)

    async def _look_for_another(self, error: Exception) -> None:
        # The server was made a replica under our feet: the URL may name the new primary too.
        if errors.is_read_only(error) and self._pool is not None:
            await self._pool.expire_connections()

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        if self._healthy:
            self._healthy = False
            log.error(
                "%s does not answer as it should: %s; %s",
                self.name,
                errors.described(error),
                errors.advice(error),
            )
        return StoreUnavailable(f"the account store is not available: {errors.outline(error)}")

    def _well(self) -> None:
        if not self._healthy:
            self._healthy = True
            log.warning("%s works again", self.name)


def session_settings(settings: PostgresSettings) -> dict[str, str]:
    """What holds for every connection of ours."""
    statement_ms = str(int(settings.statement_s * 1000))
    return {
        "application_name": "chinwag",
        "statement_timeout": statement_ms,
        "lock_timeout": statement_ms,
        # A node that is cut off must not hold a user's row for ever.
        "idle_in_transaction_session_timeout": statement_ms,
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
        # Plans are made for the one partition at hand: a plan for any would lock all of them.
        "plan_cache_mode": "force_custom_plan",
        # Compiling a statement over many partitions takes longer than running it.
        "jit": "off",
    }
