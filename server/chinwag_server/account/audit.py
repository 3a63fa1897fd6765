"""Holds what a node believes of users against a store that other nodes change too.

Now and then, and at once when news may have been missed, the store is asked in batches for the
users of whom something is remembered or who have a stream open here. A version that is another than
the remembered one voids what is remembered; a session, an account or a key that is over ends its
streams; a log that has grown wakes its readers. So what another node has changed holds here within
`AuditSettings.hold_s`, also when the bus is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from chinwag.common.v1 import close_pb2
from chinwag_server.account.records import UserRecord
from chinwag_server.account.sessions import OnEnd
from chinwag_server.account.shared_epochs import SharedEpochs
from chinwag_server.account.store import AccountStore, StoreUnavailable
from chinwag_server.account.watch import Watchers
from chinwag_server.clock import Clock
from chinwag_server.observe.logs import describe
from chinwag_server.rpc.caller import Caller

log = logging.getLogger(__name__)

Item = TypeVar("Item")
# Gives those who have a stream open.
Connected = Callable[[], Iterable[Caller]]


@dataclass(slots=True, frozen=True)
class AuditSettings:
    """How long a node may be wrong about users.

    Attributes:
        every_s: From the end of one audit to the next.
        hold_s: What was not seen to hold for so long is asked anew.
        outage_s: The same while the store does not answer: what nobody can change goes on to hold.
        answer_s: How long a batch may take; after that, the store counts as away.
        batch: Users, and sessions, in one question.
    """

    every_s: float = 4.0
    hold_s: float = 10.0
    outage_s: float = 60.0
    answer_s: float = 2.0
    batch: int = 500


@dataclass(slots=True)
class _Here:
    """Who has a stream open here."""

    devices: dict[str, set[str]] = field(default_factory=dict)  # by user
    api_keys: set[str] = field(default_factory=set)


class Audit:
    """The audits of one node.

    Args:
        end: Ends a user's streams: told as `Sessions.on_end`.
        revoke: Ends an API key's streams.

    Attributes:
        connected: Each gives those who have a stream open here: a caller with an API key alone
            is one of the key's own.
    """

    def __init__(
        self,
        store: AccountStore,
        epochs: SharedEpochs,
        watchers: Watchers,
        clock: Clock,
        *,
        end: OnEnd,
        revoke: Callable[[str], None],
        settings: AuditSettings,
    ) -> None:
        self.connected: list[Connected] = []
        self._store = store
        self._epochs = epochs
        self._watchers = watchers
        self._clock = clock
        self._end = end
        self._revoke = revoke
        self._settings = settings
        self._wanted = asyncio.Event()
        self._away = False

    def soon(self) -> None:
        """Asks for an audit now: something may have been missed."""
        self._wanted.set()

    async def run(self) -> None:
        """Audits for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), self._settings.every_s)
            self._wanted.clear()
            try:
                await self.look()
            except Exception as error:
                log.error("an audit of accounts failed: %s", describe(error))

    async def look(self) -> None:
        """One audit."""
        try:
            await self._look()
        except (StoreUnavailable, TimeoutError) as error:
            if not self._away:
                log.warning("accounts are not compared with the store: %s", describe(error))
            self._away = True
            self._epochs.hold_s = self._settings.outage_s
        else:
            if self._away:
                log.info("accounts are compared with the store again")
            self._away = False
            self._epochs.hold_s = self._settings.hold_s

    async def _look(self) -> None:
        connected = self._find_connected()
        used = set(self._epochs.take_used())
        wanted = used | connected.devices.keys()
        if self._away and not wanted:
            wanted = {""}  # nobody: whether the store is there again
        for user_ids in _batches(wanted, self._settings.batch):
            asked = self._clock.monotonic()
            users = await self._ask(user_ids)
            for user_id in user_ids:
                user = users.get(user_id)
                self._epochs.audit(user_id, user.version if user else 0, asked)
            await self._check_sessions(
                {id_: connected.devices[id_] for id_ in user_ids if id_ in connected.devices},
                users,
            )
        for api_key_id in connected.api_keys:
            async with asyncio.timeout(self._settings.answer_s):
                key = await self._store.api_key(api_key_id)
            if key is None or key.revoked_time_us:
                self._revoke(api_key_id)

    def _find_connected(self) -> _Here:
        found = _Here()
        for callers in self.connected:
            for caller in callers():
                if caller.user_id:
                    found.devices.setdefault(caller.user_id, set()).add(caller.device_id)
                if caller.api_key_id:
                    found.api_keys.add(caller.api_key_id)
        return found

    async def _ask(self, user_ids: Sequence[str]) -> dict[str, UserRecord]:
        async with asyncio.timeout(self._settings.answer_s):
            return await self._store.users(user_ids)

    async def _check_sessions(
        self, devices: dict[str, set[str]], users: dict[str, UserRecord]
    ) -> None:
        """Ends the streams of those who may have none, and wakes those who have missed events."""
        now_us = self._clock.time_us()
        sessions = []
        for user_id, mine in devices.items():
            user = users.get(user_id)
            if user is None or user.deleted:
                self._end(user_id, None, close_pb2.CLOSE_REASON_ACCOUNT_DELETED)
            elif user.ban is not None and user.ban.holds(now_us):
                self._end(user_id, None, close_pb2.CLOSE_REASON_BANNED)
            else:
                self._watchers.catch_up(user_id, user.event_id)
                # A stream of an API key for a user is of no device.
                sessions += [(user_id, device_id) for device_id in mine if device_id]
        for asked in _batches(sessions, self._settings.batch):
            async with asyncio.timeout(self._settings.answer_s):
                live = await self._store.live_sessions(asked, now_us)
            for user_id, device_id in asked:
                if (user_id, device_id) not in live:
                    self._end(user_id, device_id, close_pb2.CLOSE_REASON_SESSION_REVOKED)


def _batches(items: Collection[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
