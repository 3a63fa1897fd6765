"""The driver on an event loop: it answers on threads of its own, a burst of answers wakes us once.

The driver has no types: what is `Any` here is its statements and sessions.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cassandra import AuthenticationFailed, UnresolvableContactPoints
from cassandra.cluster import NoHostAvailable, ResultSet

from chinwag_server.chat.cassandra import driver
from chinwag_server.chat.cassandra.address import Address
from chinwag_server.chat.sequenced.tables import TablesUnavailable
from chinwag_server.chat.store import StoreError, StoreRefused

T = TypeVar("T")

IN_FLIGHT = 256
WAITING = 4096
# The driver ends every request at its deadline; so much later we do, should it forget one.
GRACE_S = 1.0


@dataclass(slots=True, frozen=True)
class Answer:
    """A page of what a statement gave.

    Attributes:
        more: Where the next page begins; None: there is none.
    """

    columns: Sequence[str]
    rows: Sequence[tuple[Any, ...]]
    more: bytes | None


class Bridge:
    """One session, at most `in_flight` requests at once and `waiting` in line.

    Attributes:
        sent: Requests that were given to the driver since it was made.
    """

    def __init__(
        self, address: Address, *, in_flight: int = IN_FLIGHT, waiting: int = WAITING
    ) -> None:
        self.sent = 0
        self._address = address
        self._free = in_flight
        self._most_waiting = waiting
        self._turns: deque[asyncio.Future[None]] = deque()
        self._flying: set[asyncio.Future[Answer]] = set()
        self._arrived: deque[tuple[asyncio.Future[Answer], Answer | Exception]] = deque()
        self._armed = False
        self._cluster: Any = None
        self._session: Any = None
        self._loop: asyncio.AbstractEventLoop

    async def open(self) -> None:
        """Connects.

        Raises:
            StoreError: No node answers, or none lets us in: the text says what to do.
        """
        self._loop = asyncio.get_running_loop()
        self._cluster, self._session = await asyncio.to_thread(connect, self._address)

    async def close(self) -> None:
        """Disconnects; what is under way or waits fails."""
        if self._session is None:
            return
        self._session = None
        await asyncio.to_thread(self._cluster.shutdown)
        closed = TablesUnavailable("the connection to Cassandra is closed")
        waiters: list[asyncio.Future[Any]] = [*self._flying, *self._turns]
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(closed)
        self._flying.clear()
        self._turns.clear()

    async def run(self, job: Callable[[Any], T], deadline: float) -> T:
        """Runs a job that blocks on the session, in a thread.

        Args:
            deadline: By the loop's clock. The thread ends when the driver does.

        Raises:
            TablesUnavailable: The driver failed, or time ran out.
        """
        if self._session is None:
            raise TablesUnavailable("the connection to Cassandra is closed")
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.to_thread(job, self._session)
        except StoreError:
            raise
        except TimeoutError:
            raise TablesUnavailable("Cassandra did not answer in time") from None
        except Exception as error:  # The driver's errors have no common class
            raise unavailable(error) from error

    async def execute(
        self,
        statement: Any,
        deadline: float,
        *,
        more: bytes | None = None,
    ) -> Answer:
        """Runs a bound statement or a batch, perhaps more than once.

        Args:
            deadline: By the loop's clock.
            more: The page to get, as the page before it says.

        Raises:
            TablesUnavailable: The cluster failed or did not answer by the deadline, or too many
                requests wait. What became of a write is not known.
        """
        await self._turn(deadline)
        session = self._session
        left = deadline - self._loop.time()
        if session is None or left <= 0:
            self._next_turn()
            why = "time ran out before it was sent" if session else "the connection is closed"
            raise TablesUnavailable(f"Cassandra: {why}")
        waiter: asyncio.Future[Answer] = self._loop.create_future()
        self._flying.add(waiter)
        self.sent += 1
        try:
            response = session.execute_async(statement, timeout=left, paging_state=more)
        except Exception as error:  # As in `run`
            self._land(waiter)
            raise unavailable(error) from error
        response.add_callbacks(
            self._succeeded, self._failed, callback_args=(waiter, response), errback_args=(waiter,)
        )
        try:
            async with asyncio.timeout_at(deadline + GRACE_S):
                return await waiter
        except TimeoutError:
            self._land(waiter)
            raise TablesUnavailable("Cassandra's driver lost a request") from None

    # --- turns ---

    async def _turn(self, deadline: float) -> None:
        if self._free:
            self._free -= 1
            return
        if len(self._turns) >= self._most_waiting:
            raise TablesUnavailable(
                f"Cassandra is too slow: {self._most_waiting} requests wait for it already"
            )
        turn: asyncio.Future[None] = self._loop.create_future()
        self._turns.append(turn)
        try:
            async with asyncio.timeout_at(deadline):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # It came as we gave up.
                self._next_turn()
            if isinstance(error, TimeoutError):
                raise TablesUnavailable(
                    "Cassandra is too slow: time ran out while others were before it"
                ) from None
            raise

    def _next_turn(self) -> None:
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _land(self, waiter: asyncio.Future[Answer]) -> bool:
        """Ends a request; whether it had not ended before. Of two nodes that were asked both may
        answer, and a request whose caller went away keeps its place until the driver is done."""
        if waiter not in self._flying:
            return False
        self._flying.remove(waiter)
        self._next_turn()
        return True

    # --- on threads of the driver ---

    def _succeeded(self, rows: Any, waiter: asyncio.Future[Answer], response: Any) -> None:
        result = ResultSet(response, rows)
        more = result.paging_state if response.has_more_pages else None
        self._arrive(waiter, Answer(result.column_names or (), rows or (), more))

    def _failed(self, error: Exception, waiter: asyncio.Future[Answer]) -> None:
        self._arrive(waiter, error)

    def _arrive(self, waiter: asyncio.Future[Answer], outcome: Answer | Exception) -> None:
        self._arrived.append((waiter, outcome))
        if not self._armed:
            self._armed = True
            # The loop may have ended while the driver shuts down.
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._drain)

    # --- on the loop ---

    def _drain(self) -> None:
        # First: what comes from here on wakes us again.
        self._armed = False
        while self._arrived:
            waiter, outcome = self._arrived.popleft()
            if not self._land(waiter) or waiter.done():
                continue
            if isinstance(outcome, Answer):
                waiter.set_result(outcome)
            else:
                waiter.set_exception(unavailable(outcome))


def connect(address: Address) -> tuple[Any, Any]:
    """A cluster and a session on it; blocks.

    Raises:
        StoreError: No node answers, or none lets us in: the text says what to do.
    """
    try:
        cluster = driver.make(address)
    except UnresolvableContactPoints as error:
        raise StoreError(f"{address}: no host of that name: correct the URL") from error
    try:
        return cluster, cluster.connect()
    except Exception as error:  # The driver's errors have no common class
        found = {host.datacenter for host in cluster.metadata.all_hosts()} - {None}
        cluster.shutdown()
        kind = StoreRefused if _refusals(error) else StoreError
        raise kind(f"{address} cannot be opened: {_why(error, address, found)}") from error


def unavailable(error: Exception) -> TablesUnavailable:
    """A failure of the driver as the port has it."""
    return TablesUnavailable(f"Cassandra: {type(error).__name__}: {error}")


def _causes(error: Exception) -> list[Exception]:
    """Of the single nodes."""
    errors = error.errors if isinstance(error, NoHostAvailable) else {}
    return list(errors.values()) if isinstance(errors, Mapping) else []


def _refusals(error: Exception) -> list[Exception]:
    """Those of nodes that do not let us in."""
    return [cause for cause in _causes(error) if isinstance(cause, AuthenticationFailed)]


def _why(error: Exception, address: Address, datacenters: set[str]) -> str:
    if refused := _refusals(error):
        return f"it does not let us in, correct user and password in the URL: {refused[0]}"
    if datacenters and address.datacenter not in datacenters:
        return (
            f"no node is in data centre {address.datacenter}, there is "
            f"{', '.join(sorted(datacenters))}: give its name as dc=..."
        )
    if causes := _causes(error):
        return "no node can be reached: " + "; ".join(str(cause) for cause in causes)
    return f"{type(error).__name__}: {error}"
