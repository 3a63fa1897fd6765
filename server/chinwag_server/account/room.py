"""The account room's composition: from a store and settings to what `rooms.AccountSide` asks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable

from chinwag_server import __version__
from chinwag_server.account.activity import Activity
from chinwag_server.account.apikeys import ApiKeys
from chinwag_server.account.audiences import Audiences
from chinwag_server.account.authenticator import AccountAuthenticator
from chinwag_server.account.backends import Backends
from chinwag_server.account.blocks import Blocks
from chinwag_server.account.chores import Chores
from chinwag_server.account.contacts import ChatContacts
from chinwag_server.account.deletion import Deletion
from chinwag_server.account.directory import AccountDirectory
from chinwag_server.account.friends import Friends
from chinwag_server.account.ids import RandomBytes
from chinwag_server.account.logins import Logins
from chinwag_server.account.names import Names
from chinwag_server.account.pairs import Pairs
from chinwag_server.account.passwords import HashSettings, Passwords, Throttle
from chinwag_server.account.people import People
from chinwag_server.account.refreshing import Refreshing
from chinwag_server.account.requests import Requests
from chinwag_server.account.servicer import AccountServicer
from chinwag_server.account.sessions import Sessions, SessionSettings
from chinwag_server.account.sharing import Sharing
from chinwag_server.account.signing_keys import SigningKeys
from chinwag_server.account.sqlite import SqliteAccountStore
from chinwag_server.account.store import AccountStore
from chinwag_server.account.tokens import AccessTokens, RefreshTokens
from chinwag_server.account.users import Users
from chinwag_server.account.watch import Watchers
from chinwag_server.account.watch_stream import WatchLimits
from chinwag_server.account.watch_streams import WatchStreams
from chinwag_server.chat.room import ChatRoom
from chinwag_server.clock import Clock
from chinwag_server.config import Settings
from chinwag_server.config.settings import DAY_S
from chinwag_server.datadir import DataDir
from chinwag_server.mesh.bus import Bus
from chinwag_server.observe.logs import describe
from chinwag_server.rpc.auth import TokenKind
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.ratelimit import Limiter, Rate

log = logging.getLogger(__name__)

SECOND_US = 1_000_000
REQUEST_DAYS = 30
REPAIR_EVERY_S = 5.0
KEYS_EVERY_S = 300.0
EXPIRE_EVERY_S = 600.0
EXPIRE_ROWS = 1000


def open_room(
    settings: Settings, data_dir: DataDir, clock: Clock, bus: Bus | None = None
) -> AccountRoom:
    """The account room over the store that the settings name, before `start`.

    Args:
        bus: To the other nodes; open before `start`, and closed after `stop`.
    """
    # Others may use a PostgreSQL store also where there is no bus to hear of it.
    is_shared = bus is not None or bool(settings.stores.accounts_url)
    sharing = Sharing(clock, bus) if is_shared else None
    return AccountRoom(_store(settings, data_dir), settings, clock, sharing=sharing)


def _store(settings: Settings, data_dir: DataDir) -> AccountStore:
    stores = settings.stores
    if not stores.accounts_url:
        return SqliteAccountStore(data_dir)
    # Only where it is used: its driver is an extra of the package.
    from chinwag_server.account.postgres import (  # noqa: PLC0415
        PostgresAccountStore,
        PostgresSettings,
    )

    return PostgresAccountStore(
        stores.accounts_url,
        replica_url=stores.accounts_replica_url,
        cluster_id=stores.cluster_id,
        settings=PostgresSettings(connections=stores.accounts_connections),
    )


class AccountRoom:
    """Everything of accounts in one process; `rooms.AccountSide`.

    Args:
        store: Opened by `start`, closed by `stop`.
        sharing: With other nodes that use the store; None: there are none.
    """

    def __init__(
        self,
        store: AccountStore,
        settings: Settings,
        clock: Clock,
        random_bytes: RandomBytes = secrets.token_bytes,
        *,
        sharing: Sharing | None = None,
    ) -> None:
        account, limits = settings.account, settings.limits
        self.store = store
        self._settings = settings
        self._clock = clock
        self._random_bytes = random_bytes
        self.users = Users(store, clock, max_events=account.event_count)
        self.chores = Chores(store, clock)
        self.names = Names(store, clock)
        self.requests = Requests(store, clock)
        self.audiences = Audiences(store)
        self._sharing = sharing
        self._epochs = sharing.epochs if sharing else None
        self.directory = AccountDirectory(store, self.audiences, clock, epochs=self._epochs)
        self.keys = SigningKeys(store, clock, random_bytes, life_s=account.signing_key_days * DAY_S)
        self.access = AccessTokens(self.keys, clock, issuer=account.issuer)
        self.api_keys = ApiKeys(store, clock, random_bytes, max_keys=limits.api_keys)
        self.passwords = Passwords(
            HashSettings(
                memory_kib=account.argon2_memory_kib,
                passes=account.argon2_passes,
                lanes=account.argon2_lanes,
                concurrency=account.argon2_concurrency,
                queue=account.argon2_queue,
            )
        )
        self.watchers = Watchers(store, clock)
        self._repairing = asyncio.Lock()
        self._background: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"AccountRoom({self.store!r})"

    # --- start and end ---

    async def start(self) -> None:
        await self.store.open()
        try:
            await self._build()
        except BaseException:
            await self.store.close()
            raise

    async def _build(self) -> None:
        settings, store, users = self._settings, self.store, self.users
        account, limits = settings.account, settings.limits
        await self.keys.refresh()
        lives = SessionSettings(
            access_token_s=account.access_token_s,
            refresh_token_s=account.refresh_token_s,
            refresh_grace_s=account.refresh_grace_s,
            max_devices=limits.user_devices,
        )
        refresh = RefreshTokens(await store.secret("refresh tokens", self._random_bytes(32)))
        self.sessions = Sessions(users, self.access, refresh, self._random_bytes, lives)
        activity = Activity(self.sessions, self.chores, self._clock)
        self.authenticator = AccountAuthenticator(
            store,
            self.access,
            self.api_keys,
            self._clock,
            on_active=activity.active,
            size=account.verified_tokens,
            epochs=self._epochs,
        )
        throttle = Throttle(
            self._clock,
            failures=account.login_failures,
            window_s=account.login_window_s,
            exempt=limits.exempt_addresses,
            max_keys=limits.rate_keys,
        )
        logins = Logins(
            users,
            self.names,
            self.sessions,
            self.requests,
            self.passwords,
            throttle,
            self._random_bytes,
            secret=await store.secret("sign-up ids", self._random_bytes(32)),
            open_signup=account.open_signup,
        )
        people = People(users, self.names, self.sessions, self.audiences, self.chores)
        pairs = Pairs(users, self.audiences, self.chores)
        self.deletion = Deletion(users, self.names, self.sessions, pairs, logins, self.chores)
        self.watches = self._watch_streams()
        self.servicer = AccountServicer(
            store=store,
            requests=self.requests,
            keys=self.keys,
            logins=logins,
            sessions=self.sessions,
            refreshing=Refreshing(users, self.sessions, refresh, lives),
            people=people,
            friends=Friends(store, pairs, self.audiences, limit=limits.user_relations),
            blocks=Blocks(users, pairs, self.chores, limit=limits.user_relations),
            backends=Backends(
                users, people, self.sessions, self.requests, self.chores, self._random_bytes
            ),
            api_keys=self.api_keys,
            deletion=self.deletion,
            activity=activity,
            watches=self.watches,
        )
        users.on_change += [self.authenticator.changed, self.directory.changed]
        users.on_event.append(self.watchers.wake)
        self.sessions.on_end.append(self.watches.close_sessions)
        self.api_keys.on_revoke.append(self.watches.close_key)
        if self._sharing is not None:
            await self._sharing.join(users, self.sessions, self.api_keys, self.keys, self.watchers)

    def _watch_streams(self) -> WatchStreams:
        limits, deadlines = self._settings.limits, self._settings.deadlines
        frames = Limiter(
            Rate(limits.user_frames_per_second, limits.user_frames_burst),
            Rate(limits.address_frames_per_second, limits.address_frames_burst),
            self._clock,
            exempt=limits.exempt_addresses,
            max_keys=limits.rate_keys,
        )

        async def authenticate(token: str) -> Caller:
            return await self.authenticator.authenticate(token, TokenKind.ACCESS)

        return WatchStreams(
            self.watchers,
            self._clock,
            limits=WatchLimits(
                frame_bytes=limits.frame_bytes,
                bad_frames=limits.bad_frames,
                user_streams=limits.user_streams,
                hello_timeout_s=deadlines.hello_ms / 1000,
                idle_timeout_s=deadlines.idle_ms / 1000,
                ping_interval_s=deadlines.ping_interval_ms / 1000,
            ),
            authenticate=authenticate,
            take_frame=frames.take,
            server_version=__version__,
        )

    def attach(self, chat: ChatRoom) -> None:
        """Tells chat of ended sessions and deleted accounts, asks it who shares a channel, and
        begins what is done now and then."""
        self.audiences.contacts = ChatContacts(chat.channels.store)
        self.sessions.on_end.append(chat.session_revoked)
        self.api_keys.on_revoke.append(chat.key_revoked)

        async def forget(user_id: str) -> None:
            # The chore is done when this is.
            await chat.forget_user(user_id, redact=self._settings.account.deletion_redacts)

        self.deletion.elsewhere.append(forget)
        sharing = self._sharing
        work = [
            self._every(REPAIR_EVERY_S, self.repair),
            self._every(KEYS_EVERY_S, self.keys.refresh, sharing.keys_wanted if sharing else None),
            self._every(EXPIRE_EVERY_S, self.expire),
        ]
        if sharing is not None:
            work.append(sharing.run(self.watches.callers, chat.connected))
        self._background = [asyncio.ensure_future(each) for each in work]

    def drain(self) -> None:
        self.watches.drain()

    async def stop(self) -> None:
        if self._sharing is not None:
            self._sharing.stop()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.watches.stop()
        await self.watchers.stop()
        await self.chores.stop()
        self.passwords.close()
        await self.store.close()

    # --- for others ---

    def watch(
        self, user_id: str, device_id: str, cursor: str, tell: Callable[[bytes], None]
    ) -> Callable[[], None]:
        return self.watchers.watch(user_id, device_id, cursor, tell)

    def jwks(self) -> bytes:
        return self.keys.jwks_json()

    # --- now and then ---

    async def repair(self) -> None:
        """Finishes what a crash or a failing store left, and ends sessions that are over."""
        async with self._repairing:
            await self.chores.repair()
            await self.names.repair()
            await self.sessions.expire()

    async def expire(self) -> None:
        """Forgets what is too old."""
        while True:
            now_us = self._clock.time_us()
            expired = await self.store.expire(
                before_us=now_us - REQUEST_DAYS * DAY_S * SECOND_US,
                events_before_us=now_us - self._settings.account.event_days * DAY_S * SECOND_US,
                limit=EXPIRE_ROWS,
            )
            if expired < EXPIRE_ROWS:
                return
            # In small steps: a long transaction would hold up the calls.
            await asyncio.sleep(0.1)

    @staticmethod
    async def _every(
        period_s: float, work: Callable[[], Awaitable[None]], wanted: asyncio.Event | None = None
    ) -> None:
        """Works for ever, every so often and as soon as it is `wanted`."""
        wanted = wanted or asyncio.Event()
        while True:
            wanted.clear()
            try:
                await work()
            except Exception as error:
                log.warning("%s failed: %s", work.__qualname__, describe(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wanted.wait(), period_s)
