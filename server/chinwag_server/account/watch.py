"""Following a user's log of events: first what is missing, then what happens.

A subscription reads the log and nothing else: a commit only wakes it. So there is one way for an
event to reach a stream, and no order to lose between a catch-up and what is live.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable

from chinwag.account.v1 import events_pb2
from chinwag_server.account import events
from chinwag_server.account.store import AccountStore, Conflict, StoreUnavailable
from chinwag_server.clock import Clock

log = logging.getLogger(__name__)

PAGE = 100
RETRY_S = 1.0
ACK_DELAY_S = 1.0
ACK_ATTEMPTS = 5

Tell = Callable[[events_pb2.AccountEvent], None]


class Subscription:
    """One stream's place in a user's log.

    Args:
        position: The newest event that the stream has; None: it starts with a reset.
        tell: Given each event, in order; never waits.
        window: At most so many events are told and not released; 0: no bound.
        reached: Called once, when everything that was missing has been told, with the cursor.

    Attributes:
        position: The newest event that was told.
    """

    def __init__(
        self,
        watchers: Watchers,
        user_id: str,
        find_position: Callable[[], int | None] | None,
        device_id: str,
        tell: Tell,
        *,
        window: int,
        reached: Callable[[str], None] | None,
    ) -> None:
        self.position = 0
        self._watchers = watchers
        self._user_id = user_id
        self._device_id = device_id
        self._find_position = find_position
        self._tell = tell
        self._window = window
        self._reached = reached
        self._released = 0
        self._lost = False
        self._started = False
        self._stale = False
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """The log may have grown, or there is room again."""
        self._stale = True
        if self._task is None and not self._closed:
            self._task = asyncio.ensure_future(self._run())

    def release(self, event_id: int) -> None:
        """The stream has room for those after an event that was told."""
        if self._released < event_id <= self.position:
            self._released = event_id
            self.wake()

    def close(self) -> None:
        """Tells nothing more."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        self._watchers.forget(self._user_id, self)

    async def _run(self) -> None:
        try:
            while not self._closed:
                try:
                    if not await self._step():
                        return
                except StoreUnavailable as error:
                    log.warning("account events wait for the store: %s", error)
                    await asyncio.sleep(RETRY_S)
        except asyncio.CancelledError:
            if not self._closed:
                raise
        except Exception:
            log.exception("a watch of account events failed")
        finally:
            self._task = None

    async def _step(self) -> bool:
        """Tells what comes next; whether there may be more."""
        if not self._started:
            await self._start()
        self._stale = False
        store = self._watchers.store
        if self._lost:
            self._begin_anew(await events.reset(store, self._user_id, self._watchers.now_us()))
            return True
        limit = PAGE
        if self._window:
            limit = min(PAGE, self._window - (self.position - self._released))
            if limit <= 0:
                if self._reached is not None:
                    user = await store.user(self._user_id)
                    if user is not None and user.event_id == self.position:
                        self._say_reached()
                return False
        try:
            found = await events.read(store, self._user_id, self.position, limit)
        except events.EventsLost:
            self._lost = True
            return True
        if self._closed:
            return False
        for event in found:
            self.position = event.id
            self._tell(event)
        if not found:
            self._say_reached()
        return bool(found) or self._stale

    def _say_reached(self) -> None:
        if self._reached is not None and not self._closed:
            reached, self._reached = self._reached, None
            generation = self._watchers.store.generation
            reached(events.cursor(generation, self._user_id, self.position))

    async def _start(self) -> None:
        position = None
        if self._find_position is not None:
            position = self._find_position()
        elif self._device_id:
            position = await self._watchers.acked(self._user_id, self._device_id)
        self._lost = position is None
        self.position = self._released = position or 0
        self._started = True

    def _begin_anew(self, event: events_pb2.AccountEvent) -> None:
        self._lost = False
        # A reset stands for all before it, and takes one place of the window.
        self._released = max(event.id - 1, 0)
        self.position = event.id
        if not self._closed:
            self._tell(event)


class Watchers:
    """All subscriptions of a node, by user, and the devices' acks.

    Acks are stored a moment later, many as one: one that is lost costs a repeat.
    """

    def __init__(self, store: AccountStore, clock: Clock) -> None:
        self.store = store
        self.now_us = clock.time_us
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._acks: dict[tuple[str, str], int] = {}
        self._saving: asyncio.Task[None] | None = None
        self._closing = False

    def __len__(self) -> int:
        return sum(map(len, self._subscriptions.values()))

    def subscribe(
        self,
        user_id: str,
        device_id: str,
        cursor: str,
        tell: Tell,
        *,
        window: int = 0,
        reached: Callable[[str], None] | None = None,
    ) -> Subscription:
        """Follows a user's log from a cursor on; from the device's newest ack if it is empty."""

        def from_cursor() -> int | None:
            try:
                return events.read_cursor(self.store.generation, user_id, cursor)
            except events.ForeignCursor:
                return None

        subscription = Subscription(
            self,
            user_id,
            from_cursor if cursor else None,
            device_id,
            tell,
            window=window,
            reached=reached,
        )
        self._subscriptions.setdefault(user_id, set()).add(subscription)
        subscription.wake()
        return subscription

    def watch(
        self, user_id: str, device_id: str, cursor: str, tell: Callable[[bytes], None]
    ) -> Callable[[], None]:
        """`subscribe` for ChatService.Connect: tells serialised events; the answer ends it."""
        subscription = self.subscribe(
            user_id, device_id, cursor, lambda event: tell(event.SerializeToString())
        )
        return subscription.close

    def wake(self, user_id: str) -> None:
        """A user's log has grown."""
        for subscription in tuple(self._subscriptions.get(user_id, ())):
            subscription.wake()

    def catch_up(self, user_id: str, event_id: int) -> None:
        """A user's log ends with an event: wakes those who have not come that far."""
        for subscription in tuple(self._subscriptions.get(user_id, ())):
            if subscription.position < event_id:
                subscription.wake()

    def forget(self, user_id: str, subscription: Subscription) -> None:
        """Called by a subscription that has ended."""
        mine = self._subscriptions.get(user_id)
        if mine is not None:
            mine.discard(subscription)
            if not mine:
                del self._subscriptions[user_id]

    # --- acks ---

    async def acked(self, user_id: str, device_id: str) -> int | None:
        """The newest event that a device has acked; None: it has not."""
        if (waiting := self._acks.get((user_id, device_id))) is not None:
            return waiting
        session = await self.store.session(user_id, device_id)
        return session.acked_event_id if session and session.acked_event_id else None

    def ack(self, user_id: str, device_id: str, event_id: int) -> None:
        """A device has handled the events up to one; stored soon."""
        key = (user_id, device_id)
        if event_id <= self._acks.get(key, 0):
            return
        self._acks[key] = event_id
        if self._saving is None and not self._closing:
            self._saving = asyncio.ensure_future(self._save_later())

    async def stop(self) -> None:
        """Ends the subscriptions and stores the acks."""
        self._closing = True
        for mine in tuple(self._subscriptions.values()):
            for subscription in tuple(mine):
                subscription.close()
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.gather(self._saving, return_exceptions=True)
        await self._save()

    async def _save_later(self) -> None:
        try:
            while self._acks:
                await asyncio.sleep(ACK_DELAY_S)
                await self._save()
        finally:
            self._saving = None

    async def _save(self) -> None:
        acks = dict(self._acks)
        saved = await asyncio.gather(
            *(self._save_one(*key, event_id) for key, event_id in acks.items()),
            return_exceptions=True,
        )
        for (key, event_id), outcome in zip(acks.items(), saved, strict=True):
            if isinstance(outcome, BaseException):
                log.warning("an ack of account events was not stored: %s", outcome)
            if self._acks.get(key) == event_id:
                del self._acks[key]

    async def _save_one(self, user_id: str, device_id: str, event_id: int) -> None:
        for _ in range(ACK_ATTEMPTS):
            user = await self.store.user(user_id)
            session = await self.store.session(user_id, device_id)
            if user is None or session is None or session.acked_event_id >= event_id:
                return
            session = dataclasses.replace(session, acked_event_id=event_id)
            try:
                await self.store.commit(user, [session])
                return
            except Conflict:
                continue
