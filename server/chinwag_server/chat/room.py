"""The chat room's composition: from a store, a directory and settings to a servicer."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from google.protobuf.duration_pb2 import Duration

from chinwag.chat.v1 import connect_pb2
from chinwag.common.v1 import close_pb2
from chinwag_server.chat.catchup import CatchUp, StoreChanges
from chinwag_server.chat.channels import Channels
from chinwag_server.chat.directory import Directory
from chinwag_server.chat.feed import Feed, StoreFeed
from chinwag_server.chat.hub import Hub
from chinwag_server.chat.ids import RandomBytes
from chinwag_server.chat.lifecycle import Lifecycle
from chinwag_server.chat.listeners import Listeners
from chinwag_server.chat.marks import Marks
from chinwag_server.chat.membership import Membership
from chinwag_server.chat.messages import Messages
from chinwag_server.chat.reads import Reads
from chinwag_server.chat.requests import Requests
from chinwag_server.chat.routed.across import Across
from chinwag_server.chat.routed.servicer import RoutedServicer
from chinwag_server.chat.sends import Sends
from chinwag_server.chat.servicer import ChatServicer, Serving
from chinwag_server.chat.store import ChatStore
from chinwag_server.chat.stream import StreamLimits
from chinwag_server.chat.streams import (
    Authenticate,
    RateLimits,
    Sender,
    Signals,
    Streams,
    WatchAccount,
)
from chinwag_server.chat.sync import Sync
from chinwag_server.chat.views import Views
from chinwag_server.clock import Clock, SystemClock
from chinwag_server.rpc.admission import Admission
from chinwag_server.rpc.caller import Caller

log = logging.getLogger(__name__)

REQUEST_DAYS = 30
EXPIRE_EVERY_S = 600
EXPIRE_ROWS = 5000


class Unlimited:
    """No rate limits: for tests."""

    def take_frame(self, caller: Caller) -> float:
        return 0.0

    def take_sends(self, caller: Caller, count: int) -> float:
        return 0.0


@dataclass(slots=True, frozen=True)
class ChatSettings:
    """What can be set of the chat room; `config` says it to people.

    Attributes:
        sends_per_second: Told to clients; `RateLimits` enforces it.
    """

    max_text_length: int = 100_000
    max_group_members: int = 100
    max_user_channels: int = 5000
    max_user_streams: int = 20
    max_reactions: int = 50
    max_sends_per_frame: int = 100
    sends_per_second: int = 50
    max_backlog_bytes: int = 64 << 20
    max_members_in_memory: int = 200_000
    stream: StreamLimits = field(default_factory=StreamLimits)


class ChatRoom:
    """Everything of chat in one process.

    Args:
        store: Opened by the caller, and closed by them after `stop`.
        admission: How many device streams are opened; None: as many as come.
        authenticate: Verifies an access token for renew_token.
        watch_account: Subscribes a stream to its account's events.
        is_mine: Whether a channel of this id would be this node's.
        across: Where this node is one of many.
    """

    def __init__(
        self,
        store: ChatStore,
        directory: Directory,
        *,
        authenticate: Authenticate,
        settings: ChatSettings | None = None,
        rates: RateLimits | None = None,
        admission: Admission | None = None,
        watch_account: WatchAccount | None = None,
        clock: Clock | None = None,
        random_bytes: RandomBytes = secrets.token_bytes,
        is_mine: Callable[[str], bool] = lambda _channel_id: True,
        across: Across | None = None,
        server_version: str = "",
    ) -> None:
        settings = settings or ChatSettings()
        clock = clock or SystemClock()
        rates = rates or Unlimited()
        self._store = store
        self._clock = clock
        self.channels = Channels(
            store,
            max_members=settings.max_members_in_memory,
            max_backlog_bytes=settings.max_backlog_bytes,
        )
        self.across = across
        self.listeners = across.listeners if across else Listeners()
        self.hub = Hub(across.delivery if across else self.listeners)
        self.channels.on_entry = self.hub.on_entry
        views = Views(store)
        self.messages = Messages(
            self.channels,
            clock,
            max_reactions=settings.max_reactions,
            max_text_length=settings.max_text_length,
        )
        self.membership = Membership(
            self.channels,
            views,
            directory,
            clock,
            max_group_members=settings.max_group_members,
            max_user_channels=settings.max_user_channels,
        )
        lifecycle = Lifecycle(
            self.channels, self.membership, views, directory, clock, random_bytes, is_mine
        )
        marks = Marks(self.channels, views, self.hub, clock)
        sends = Sends(self.channels, self.messages, directory, clock)
        # Devices' streams, and what stands before the rules where other nodes own channels too.
        edge_sends: Sender = sends
        edge_marks: Signals = marks
        edge_views = views
        if across is None:
            catch_up = CatchUp(store, views, StoreChanges(store), self.channels.loaded)
        else:
            edge_views = Views(across.reads)
            catch_up = CatchUp(across.reads, edge_views, across.reads, lambda _id: None)
            edge_sends, edge_marks = across.before(sends, marks)
        self.streams = Streams(
            hub=self.hub,
            listeners=self.listeners,
            sends=edge_sends,
            marks=edge_marks,
            catch_up=catch_up,
            clock=clock,
            random_bytes=random_bytes,
            limits=settings.stream,
            advertised=_advertised(settings),
            rates=rates,
            admission=admission,
            authenticate=authenticate,
            watch_account=watch_account,
            generation=store.generation,
            server_version=server_version,
            max_user_streams=settings.max_user_streams,
            max_sends_per_frame=settings.max_sends_per_frame,
        )
        self._feed = Feed(StoreFeed(store, self.hub) if across is None else across.feed)
        serving = Serving(
            sends=sends,
            messages=self.messages,
            lifecycle=lifecycle,
            membership=self.membership,
            marks=marks,
            reads=Reads(self.channels, views),
            sync=Sync(catch_up, self.listeners, clock, max_waiting=settings.max_user_streams),
            feed=self._feed,
            hub=self.hub,
            requests=Requests(store, clock),
            rates=rates,
            streams=self.streams,
        )
        self.servicer = ChatServicer(serving)
        if across is not None:
            lists = Reads(self.channels, edge_views, across.reads)
            across.attach(
                self.channels, sends, marks, self.servicer, self._forget_at, self._redact_at
            )
            across.resume = self.streams.resume
            across.replace = self.streams.replace
            self.streams.came = across.device_came
            self.streams.now_us = across.time_us
            self.servicer = RoutedServicer(
                replace(serving, reads=lists), self.servicer, across.calls
            )
        self._background: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Starts the background work."""
        self._spawn(self._expire())
        if self.across is not None:
            self.across.start()

    def drain(self) -> None:
        """Ends every stream with guidance; calls that run go on."""
        self.streams.drain()

    async def stop(self) -> None:
        """Ends the background work; what was submitted is the store's to finish."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.streams.stop()
        if self.across is not None:
            await self.across.stop()

    # --- what the account room tells ---

    def session_revoked(
        self,
        user_id: str,
        device_id: str | None,
        reason: close_pb2.CloseReason.ValueType = close_pb2.CLOSE_REASON_SESSION_REVOKED,
    ) -> None:
        """Closes a device's stream at once, or with None all of the user's."""
        self.streams.close_sessions(user_id, device_id, reason)

    def key_revoked(self, api_key_id: str) -> None:
        """Ends an API key's streams at once: those on behalf of users, and the feed."""
        self.streams.close_key(api_key_id)
        self._feed.close_key(api_key_id)

    def connected(self) -> list[Caller]:
        """Who has a stream or a feed open here: a feed's is its API key alone."""
        feeds = [Caller(api_key_id=key_id) for key_id in self._feed.readers()]
        return self.streams.callers() + feeds

    async def forget_user(self, user_id: str, *, redact: bool) -> None:
        """Takes a deleted account out of its channels, and with `redact` the content out of its
        messages. Whoever calls it repeats it until it succeeds.

        Raises:
            Refusal: STORAGE_UNAVAILABLE, OVERLOADED.
        """
        forget, redact_one = self._forget_at, self._redact_at
        if self.across is not None:
            forget, redact_one = self.across.forget, self.across.redact
        for record, member in await self._store.user_channels(user_id):
            if member.role:
                await forget(record.channel_id, user_id)
        if not redact:
            return
        after = ("", 0)
        while found := await self._store.messages_of_sender(user_id, after, 100):
            for channel_id, message_id in found:
                await redact_one(channel_id, str(message_id))
            after = found[-1]

    async def _forget_at(self, channel_id: str, user_id: str) -> None:
        await self.membership.forget_user(user_id, channel_id)

    async def _redact_at(self, channel_id: str, message_id: str) -> None:
        await self.messages.delete(
            Caller(), channel_id, int(message_id), lambda _answer: [], by_server=True
        )

    # --- background ---

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("background work failed", exc_info=task.exception())

    async def _expire(self) -> None:
        while True:
            before_us = self._clock.time_us() - REQUEST_DAYS * 86_400_000_000
            expired = await self._store.expire_requests(before_us, EXPIRE_ROWS)
            # In small steps: a long transaction would hold up the sends.
            await asyncio.sleep(0.1 if expired == EXPIRE_ROWS else EXPIRE_EVERY_S)


def _advertised(settings: ChatSettings) -> connect_pb2.Limits:
    return connect_pb2.Limits(
        max_text_length=settings.max_text_length,
        max_frame_bytes=settings.stream.frame_bytes,
        max_sends_per_frame=settings.max_sends_per_frame,
        max_group_members=settings.max_group_members,
        sends_per_second=settings.sends_per_second,
        ping_interval=Duration(seconds=int(settings.stream.ping_interval_s)),
        idle_timeout=Duration(seconds=int(settings.stream.idle_timeout_s)),
    )
