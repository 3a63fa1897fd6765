"""Who holds a token: `rpc.auth.Authenticator`, asked for every call.

What was verified is remembered and dropped at once when something of its user changes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from chinwag_server.account.apikeys import ApiKeys
from chinwag_server.account.cache import Cache, Epochs
from chinwag_server.account.directory import storage_unavailable
from chinwag_server.account.records import UserRecord
from chinwag_server.account.store import AccountStore, StoreUnavailable
from chinwag_server.account.tokens import AccessTokens, session_revoked, token_expired
from chinwag_server.clock import Clock
from chinwag_server.rpc.auth import TokenKind
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal

Result = TypeVar("Result")

HOUR_US = 3_600_000_000


@dataclass(slots=True)
class _Known:
    """A verified token, under the epoch of its user."""

    caller: Caller
    epoch: int
    active_hour: int


class AccountAuthenticator:
    """Verifies tokens.

    Args:
        on_active: Told of a device that calls for the first time in an hour; must not wait.
        size: Verified tokens that are remembered.
        epochs: When a user has changed; None: of its own.
    """

    def __init__(
        self,
        store: AccountStore,
        tokens: AccessTokens,
        api_keys: ApiKeys,
        clock: Clock,
        *,
        on_active: Callable[[str, str], None],
        size: int,
        epochs: Epochs | None = None,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._api_keys = api_keys
        self._clock = clock
        self._on_active = on_active
        self._known: Cache[str, _Known] = Cache(size)
        self._standing: Cache[str, int] = Cache(size)
        self._epochs = Epochs(size) if epochs is None else epochs

    def __repr__(self) -> str:
        return f"AccountAuthenticator({len(self._known)} tokens known)"

    def changed(self, user_id: str) -> None:
        """Sessions or the account of a user have changed: nothing that is remembered holds."""
        self._epochs.change(user_id)

    async def authenticate(self, token: str, kind: TokenKind) -> Caller:
        if kind is TokenKind.API_KEY:
            return await _stored(self._api_keys.authenticate(token))
        now_us = self._clock.time_us()
        known = self._known.get(token)
        if known is None or known.epoch != self._epochs.of(known.caller.user_id):
            known = await _stored(self._verify(token, now_us))
        caller = known.caller
        if caller.expire_time_us <= now_us:
            raise token_expired()
        if known.active_hour != now_us // HOUR_US:
            known.active_hour = now_us // HOUR_US
            self._on_active(caller.user_id, caller.device_id)
        return caller

    async def _verify(self, token: str, now_us: int) -> _Known:
        await self._tokens.find_key(token)
        claims = self._tokens.verify(token)
        epoch = self._epochs.of(claims.user_id)
        # Before the session: a version older than what is remembered hides no change.
        user = await self._store.user(claims.user_id)
        session = await self._store.session(claims.user_id, claims.device_id)
        if session is None or not session.live(now_us) or user is None or user.deleted:
            raise session_revoked()
        check_ban(user, now_us)
        self._epochs.found(user.user_id, epoch, user.version)
        caller = Caller(claims.user_id, claims.device_id, claims.expire_time_us)
        known = _Known(caller, epoch, session.active_time_us // HOUR_US)
        self._known.put(token, known)
        return known

    async def on_behalf(self, key: Caller, user_id: str) -> Caller:
        epoch = self._epochs.of(user_id)
        if self._standing.get(user_id) != epoch:
            user = await _stored(self._check_user(user_id))
            self._epochs.found(user_id, epoch, user.version)
            self._standing.put(user_id, epoch)
        return dataclasses.replace(key, user_id=user_id)

    async def _check_user(self, user_id: str) -> UserRecord:
        user = await self._store.user(user_id)
        if user is None or user.deleted:
            raise Refusal("USER_NOT_FOUND", "chinwag-on-behalf-of: there is no such user")
        check_ban(user, self._clock.time_us())
        return user


def check_ban(user: UserRecord, now_us: int) -> None:
    """Refuses a user who is banned now.

    Raises:
        Refusal: BANNED.
    """
    if user.ban is not None and user.ban.holds(now_us):
        left_s = (user.ban.expire_time_us - now_us) / 1e6 if user.ban.expire_time_us else None
        raise Refusal("BANNED", "the team has banned this user", retry_after=left_s)


async def _stored(work: Awaitable[Result]) -> Result:
    try:
        return await work
    except StoreUnavailable as error:
        raise storage_unavailable(error) from error
