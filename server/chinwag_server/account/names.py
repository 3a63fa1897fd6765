"""Usernames: each stands in a table of its own, apart from the user who has it.

A name is reserved, then the user's row takes it, then it is confirmed. A name that is reserved
and that its user's row does not have (a crash between the steps) becomes free after a while.
"""

from __future__ import annotations

import dataclasses

from chinwag_server.account.records import NameRecord, UserRecord
from chinwag_server.account.store import AccountStore
from chinwag_server.clock import Clock
from chinwag_server.rpc.errors import Refusal

# Longer than any call may run.
RESERVED_US = 600_000_000


class Names:
    """Whose a name is."""

    def __init__(self, store: AccountStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def find(self, name: str) -> UserRecord | None:
        """The user who has a name."""
        record = await self._store.name(name)
        if record is None:
            return None
        user = await self._store.user(record.user_id)
        return user if user and not user.deleted and user.username == name else None

    async def reserve(self, name: str, user_id: str) -> None:
        """Takes a name for a user, before the user's row has it.

        Raises:
            Refusal: USERNAME_TAKEN.
        """
        now_us = self._clock.time_us()
        held = await self._store.name(name)
        if (held is not None and held.user_id == user_id and held.confirmed) and (
            await self._used(held)
        ):
            return
        if (held is not None and held.user_id != user_id) and (
            held.confirmed or held.time_us > now_us - RESERVED_US or await self._used(held)
        ):
            raise taken(name)
        record = NameRecord(name, user_id, confirmed=False, time_us=now_us)
        if not await self._store.put_name(record, held):
            raise taken(name)

    async def confirm(self, name: str, user_id: str) -> None:
        """Says that the user's row has the name."""
        held = await self._store.name(name)
        if held is not None and held.user_id == user_id and not held.confirmed:
            await self._store.put_name(dataclasses.replace(held, confirmed=True), held)

    async def release(self, name: str, user_id: str) -> None:
        """Frees a name that the user's row does not have any more."""
        held = await self._store.name(name)
        if held is not None and held.user_id == user_id and not await self._used(held):
            await self._store.delete_name(held)

    async def _used(self, held: NameRecord) -> bool:
        user = await self._store.user(held.user_id)
        return user is not None and not user.deleted and user.username == held.name

    async def repair(self, limit: int = 100) -> None:
        """Confirms or frees what a crash left reserved."""
        before_us = self._clock.time_us() - RESERVED_US
        for held in await self._store.unconfirmed_names(before_us, limit):
            if await self._used(held):
                await self.confirm(held.name, held.user_id)
            else:
                await self._store.delete_name(held)


def taken(name: str) -> Refusal:
    """USERNAME_TAKEN."""
    return Refusal("USERNAME_TAKEN", f"the username {name!r} is taken: choose another one")
