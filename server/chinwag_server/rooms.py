"""What a node's rooms are built from: settings, stores, and each other's ports."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol

from chinwag.account.v1.account_service_pb2_grpc import AccountServiceServicer
from chinwag_server import __version__
from chinwag_server.chat.directory import Directory
from chinwag_server.chat.room import ChatRoom, ChatSettings
from chinwag_server.chat.routed.fanout import FanoutLimits
from chinwag_server.chat.store import ChatStore
from chinwag_server.chat.stream import StreamLimits
from chinwag_server.clock import Clock
from chinwag_server.config import LimitSettings, MeshSettings, Settings
from chinwag_server.datadir import DataDir
from chinwag_server.mesh.bus import Bus
from chinwag_server.meshed import Meshed
from chinwag_server.rpc.admission import Admission
from chinwag_server.rpc.auth import Authenticator, TokenKind
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.ratelimit import Limiter, Rate, StreamRates

# Streams whose frames are parsed by their rooms: a bad one is answered inside the stream.
RAW_METHODS = frozenset({"/chinwag.account.v1.AccountService/Watch"})
PUSHED_METHODS = frozenset({"/chinwag.chat.v1.ChatService/Connect"})
# What a node of a mesh opens a second, unless told otherwise: a quarter of a core.
MESH_STREAM_OPENS_PER_SECOND = 300.0


class AccountSide(Protocol):
    """What a node needs of the account room."""

    @property
    def servicer(self) -> AccountServiceServicer: ...

    @property
    def authenticator(self) -> Authenticator: ...

    @property
    def directory(self) -> Directory: ...

    def watch(
        self, user_id: str, device_id: str, cursor: str, tell: Callable[[bytes], None]
    ) -> Callable[[], None]:
        """Tells a device's stream of its account's events after a cursor, each as a serialised
        `AccountEvent`; the answer ends that."""

    def jwks(self) -> bytes:
        """The published keys as a JSON Web Key Set."""

    def attach(self, chat: ChatRoom) -> None:
        """From now on tells chat of revoked sessions (`session_revoked`), revoked API keys
        (`key_revoked`) and deleted accounts (`forget_user`)."""

    async def start(self) -> None:
        """Opens its store and starts its work.

        Raises:
            StoreError: The store cannot be opened.
        """

    def drain(self) -> None:
        """Ends its streams with guidance; calls that run go on."""

    async def stop(self) -> None:
        """Ends its work and closes its store."""


# (settings, open data directory, clock, bus to other nodes) -> the account room, before `start`.
OpenAccount = Callable[[Settings, DataDir, Clock, Bus | None], AccountSide]


def open_account(
    settings: Settings, data_dir: DataDir, clock: Clock, bus: Bus | None
) -> AccountSide:
    """The account room over the store that the settings name."""
    module: Any = importlib.import_module("chinwag_server.account.room")
    side: AccountSide = module.open_room(settings, data_dir, clock, bus)
    return side


def build_chat(
    settings: Settings,
    store: ChatStore,
    account: AccountSide,
    clock: Clock,
    rates: StreamRates,
    meshed: Meshed | None = None,
) -> ChatRoom:
    """The chat room over an open store, of a node that is alone or one of many."""
    is_mine: Callable[[str], bool] = meshed.owns if meshed else lambda _channel_id: True

    async def authenticate(token: str) -> Caller:
        return await account.authenticator.authenticate(token, TokenKind.ACCESS)

    return ChatRoom(
        store,
        account.directory,
        authenticate=authenticate,
        settings=chat_settings(settings),
        rates=rates,
        admission=admission(settings, clock),
        watch_account=account.watch,
        clock=clock,
        is_mine=is_mine,
        across=meshed.across if meshed else None,
        server_version=__version__,
    )


def fanout_limits(mesh: MeshSettings) -> FanoutLimits:
    """Which way entries go to other nodes."""
    return FanoutLimits(mesh.direct_members, mesh.pubsub_members)


def chat_settings(settings: Settings) -> ChatSettings:
    """The chat room's part of the settings."""
    limits, deadlines = settings.limits, settings.deadlines
    return ChatSettings(
        max_text_length=limits.text_length,
        max_group_members=limits.group_members,
        max_user_channels=limits.user_channels,
        max_user_streams=limits.user_streams,
        max_reactions=limits.reactions,
        max_sends_per_frame=limits.frame_sends,
        sends_per_second=int(limits.user_sends_per_second),
        max_backlog_bytes=limits.backlog_bytes,
        max_members_in_memory=limits.members_in_memory,
        stream=StreamLimits(
            queue_pieces=limits.queue_events,
            queue_bytes=limits.queue_bytes,
            frame_bytes=limits.frame_bytes,
            bad_frames=limits.bad_frames,
            hello_timeout_s=deadlines.hello_ms / 1000,
            idle_timeout_s=deadlines.idle_ms / 1000,
            ping_interval_s=deadlines.ping_interval_ms / 1000,
        ),
    )


# --- rates ---


def call_limiter(limits: LimitSettings, clock: Clock) -> Limiter:
    """Calls with a token."""
    return _limiter(
        limits,
        clock,
        Rate(limits.user_calls_per_second, limits.user_calls_burst),
        Rate(limits.address_calls_per_second, limits.address_calls_burst),
    )


def anonymous_limiter(limits: LimitSettings, clock: Clock) -> Limiter:
    """Calls without a token."""
    rate = Rate(limits.anonymous_calls_per_second, limits.anonymous_calls_burst)
    return _limiter(limits, clock, Rate(0, 1), rate)


def stream_rates(limits: LimitSettings, clock: Clock) -> StreamRates:
    """Frames and sends of device streams; single sends by call count as sends too."""
    return StreamRates(
        frames=_limiter(
            limits,
            clock,
            Rate(limits.user_frames_per_second, limits.user_frames_burst),
            Rate(limits.address_frames_per_second, limits.address_frames_burst),
        ),
        sends=_limiter(
            limits,
            clock,
            Rate(limits.user_sends_per_second, limits.user_sends_burst),
            Rate(limits.address_sends_per_second, limits.address_sends_burst),
        ),
    )


def admission(settings: Settings, clock: Clock) -> Admission:
    """Device streams that are opened."""
    per_second = settings.limits.stream_opens_per_second
    if per_second is None:
        per_second = MESH_STREAM_OPENS_PER_SECOND if settings.mesh.coordination_url else 0.0
    return Admission(Rate(per_second, settings.limits.stream_opens_burst), clock)


def _limiter(limits: LimitSettings, clock: Clock, user: Rate, address: Rate) -> Limiter:
    return Limiter(user, address, clock, exempt=limits.exempt_addresses, max_keys=limits.rate_keys)
