"""Reading and changing one user's partition."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from chinwag.account.v1 import events_pb2
from chinwag_server.account import events
from chinwag_server.account.records import ChoreRecord, UserRecord, Write
from chinwag_server.account.store import AccountStore, Conflict
from chinwag_server.clock import Clock
from chinwag_server.rpc.errors import Refusal

MAX_ATTEMPTS = 20
# From when on a chore may be done by the repair: whoever noted it does it at once.
CHORE_PATIENCE_US = 30_000_000

Result = TypeVar("Result")


class Draft:
    """What a change will make of a user's partition.

    Attributes:
        user: The row as it will be; of a user who is not there, an empty one.
        is_new: There is no such user yet.
        now_us: The time of the change.
    """

    def __init__(self, user: UserRecord, *, is_new: bool, now_us: int, max_events: int) -> None:
        self.user = user
        self.is_new = is_new
        self.now_us = now_us
        self.writes: list[Write] = []
        self.has_events = False
        self.is_changed = False
        self._max_events = max_events

    def set(self, **fields: Any) -> None:
        """Changes fields of the user's row."""
        self.user = dataclasses.replace(self.user, **fields)
        self.is_changed = True

    def write(self, *writes: Write) -> None:
        """Adds writes to the same partition."""
        self.writes += writes

    def event(self, *happened: events_pb2.AccountEvent) -> None:
        """Adds to the user's log; users in events stand by their ids alone."""
        if happened:
            self.user, writes = events.append(
                self.user, self.now_us, happened, keep=self._max_events
            )
            self.writes += writes
            self.has_events = True

    def chore(self, kind: str, target: str = "") -> ChoreRecord:
        """Notes what has to follow elsewhere."""
        chore = ChoreRecord(
            self.user.user_id,
            kind,
            target,
            self.user.version + 1,
            self.now_us + CHORE_PATIENCE_US,
        )
        self.write(chore)
        return chore


# Reads, refuses, and notes in the draft what is to be done.
Decide = Callable[[Draft], Awaitable[Result]]


class Users:
    """All changes of users go through here, so that those who follow them hear of each.

    Args:
        max_events: Events kept in a user's log.

    Attributes:
        on_change: Called with a user's id after a commit to their partition.
        on_event: Called with a user's id after their log has grown.
    """

    def __init__(self, store: AccountStore, clock: Clock, *, max_events: int = 10_000) -> None:
        self.store = store
        self.clock = clock
        self.on_change: list[Callable[[str], None]] = []
        self.on_event: list[Callable[[str], None]] = []
        self._max_events = max_events
        self._locks: dict[str, tuple[asyncio.Lock, list[None]]] = {}

    async def live(self, user_id: str) -> UserRecord:
        """A user whose account is not deleted.

        Raises:
            Refusal: USER_NOT_FOUND.
        """
        record = await self.store.user(user_id)
        if record is None or record.deleted:
            raise no_such_user()
        return record

    async def change(self, user_id: str, decide: Decide[Result]) -> Result:
        """Decides on what is stored and commits it, as if nobody else did so meanwhile. A draft
        without a change is not committed.

        Args:
            decide: May be called again, when somebody else came between. It may read what it
                wants; only what is in this user's partition is safe from change.

        Raises:
            Refusal: What `decide` raises, OVERLOADED.
        """
        async with self._lock(user_id):
            for _ in range(MAX_ATTEMPTS):
                stored = await self.store.user(user_id)
                draft = Draft(
                    stored or UserRecord(user_id),
                    is_new=stored is None,
                    now_us=self.clock.time_us(),
                    max_events=self._max_events,
                )
                result = await decide(draft)
                if not draft.writes and not draft.is_changed:
                    return result
                with contextlib.suppress(Conflict):
                    # A call that is given up now has its commit told of all the same.
                    await asyncio.shield(self._commit(draft))
                    return result
        raise Refusal("OVERLOADED", "the account changes too fast: try again", retry_after=0.2)

    async def change_live(self, user_id: str, decide: Decide[Result]) -> Result:
        """`change` of a user whose account is there and not deleted.

        Raises:
            Refusal: USER_NOT_FOUND, and as `change`.
        """

        async def decide_live(draft: Draft) -> Result:
            if draft.is_new or draft.user.deleted:
                raise no_such_user()
            return await decide(draft)

        return await self.change(user_id, decide_live)

    async def _commit(self, draft: Draft) -> None:
        try:
            await self.store.commit(draft.user, draft.writes)
        finally:
            # Also of a commit that failed: a database that did not answer may have done it.
            for told in self.on_change:
                told(draft.user.user_id)
        if draft.has_events:
            for told in self.on_event:
                told(draft.user.user_id)

    @contextlib.asynccontextmanager
    async def _lock(self, user_id: str) -> AsyncIterator[None]:
        # Within a process the lock saves the repeats; between processes the version decides.
        lock, holders = self._locks.setdefault(user_id, (asyncio.Lock(), []))
        holders.append(None)
        try:
            async with lock:
                yield
        finally:
            holders.pop()
            if not holders:
                del self._locks[user_id]


def no_such_user() -> Refusal:
    """USER_NOT_FOUND."""
    return Refusal("USER_NOT_FOUND", "there is no such user")
