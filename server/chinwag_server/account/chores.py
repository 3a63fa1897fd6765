"""Chores: what has to follow a commit elsewhere. Noted in the commit, done at once, and done
later if that failed or the process died; so each is written to be done twice without harm."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from chinwag_server.account.records import ChoreRecord
from chinwag_server.account.store import AccountStore
from chinwag_server.clock import Clock
from chinwag_server.observe.logs import describe

log = logging.getLogger(__name__)

Handler = Callable[[ChoreRecord], Awaitable[None]]

REPAIR_AT_ONCE = 100
PUT_OFF_US = 60_000_000


class Chores:
    """Does chores by their kind."""

    def __init__(self, store: AccountStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._handlers: dict[str, Handler] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def handle(self, kind: str, handler: Handler) -> None:
        """Says who does the chores of a kind."""
        self._handlers[kind] = handler

    async def run(self, chore: ChoreRecord) -> None:
        """Does a chore now, also if the caller gives up waiting; what fails is left to the
        repair."""
        await asyncio.shield(self.start(chore))

    def start(self, chore: ChoreRecord) -> asyncio.Task[None]:
        """Does a chore in the background."""
        return self.spawn(self._do(chore))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs background work that `stop` waits for."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _do(self, chore: ChoreRecord) -> None:
        try:
            await self._handlers[chore.kind](chore)
            await self._store.finish_chore(chore)
        except Exception as error:
            log.warning(
                "%s is put off: %s", chore.kind, describe(error), extra={"user_id": chore.user_id}
            )

    async def repair(self) -> None:
        """Does what is due and was not done."""
        now_us = self._clock.time_us()
        for chore in await self._store.chores(now_us, REPAIR_AT_ONCE):
            if chore.kind in self._handlers:
                # Should it fail again, the others have their turn first.
                await self._store.put_off_chore(chore, now_us + PUT_OFF_US)
                await self._do(chore)

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Lets running work end; what does not in time is left to the next start."""
        tasks = list(self._tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
