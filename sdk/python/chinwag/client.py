"""The asyncio client: `connect`, events, channels."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Self

from grpc import aio

from chinwag import events as ev
from chinwag.account_calls import Account
from chinwag.addresses import Addresses, parse_addresses
from chinwag.calls import Calls
from chinwag.channel import Channel, PendingSend
from chinwag.chat.v1 import (
    channel_pb2,
    chat_service_pb2,
    chat_service_pb2_grpc,
    connect_pb2,
    message_pb2,
)
from chinwag.clock import Clock, SystemClock
from chinwag.endpoints import Endpoints
from chinwag.errors import ChinwagError, ClientClosed, Unavailable
from chinwag.inbox import Inbox
from chinwag.link import Link
from chinwag.outbox import Outcome
from chinwag.presence.v1 import presence_pb2
from chinwag.protocol import DeviceProtocol
from chinwag.reading import Reading
from chinwag.redirect import AllowAddress, may_follow
from chinwag.routes import Routes
from chinwag.session import Session, SessionCredential
from chinwag.store import ClientStore, MemoryStore
from chinwag.transport import Security, Tls


def connect(
    address: Addresses = "",
    session: Session | None = None,
    *,
    store: ClientStore | None = None,
    tls: Tls = None,
    insecure: bool = False,
    channel: aio.Channel | None = None,
    subscriptions: connect_pb2.Subscriptions | None = None,
    catch_up_limit: int = 0,
    cursors: Iterable[ev.Cursor] | None = None,
    delivered_marks: bool = False,
    wait_s: float | None = 10.0,
    drain_s: float = 5.0,
    allow_address: AllowAddress | None = None,
) -> Client:
    """A client of one device; use it in an `async with`.

    Args:
        address: "host:port" of any node, or several with commas or as a list: one at random is
            used, and another one when it fails. Empty: the session's.
        session: From `sign_up`, `log_in`, `Session.load` or `Session.of`.
        store: What the device keeps over restarts; None: nothing, in memory.
        tls: True: TLS; a path: with the authorities in that file; None: TLS but for loopback.
        insecure: Plain text to any address: only over a network that you trust.
        channel: A gRPC channel to share; None: a connection of its own.
        subscriptions: What the stream carries beside messages; None: receipts, typing and the
            account's events.
        catch_up_limit: A channel that misses more entries is reset at its head; 0: no limit.
        cursors: Where to start, in place of the store's cursors: those that the application
            committed with its own data.
        delivered_marks: Tell the others that messages have arrived, once the application took
            them.
        wait_s: `async with` waits so long for the server's welcome, and fails if none comes; None:
            it does not wait, and the client connects when it can.
        drain_s: At its end, `async with` waits so long for messages that are still on their way.
        allow_address: A node may send a client to another one. Of addresses that are not among
            `address` it is asked whether to go there, with the session's token; None: never.

    Raises:
        InsecureAddress: See `insecure`.
        ValueError: No session or no good address is given.
    """
    if session is None:
        raise ValueError("connect needs a session: see chinwag.log_in and chinwag.Session.load")
    address = address or session.address
    if not address:
        raise ValueError("connect needs an address, such as localhost:7400")
    security = Security(tls, insecure)
    addresses = parse_addresses(address)
    for each in addresses:
        security.credentials(each)
    return Client(
        addresses,
        session,
        store=store if store is not None else MemoryStore(),
        security=security,
        channel=channel,
        subscriptions=subscriptions,
        catch_up_limit=catch_up_limit,
        cursors=cursors,
        delivered_marks=delivered_marks,
        wait_s=wait_s,
        drain_s=drain_s,
        allow_address=allow_address,
    )


class Client:
    """One device of a user: made by `connect`.

    It stays connected by itself: breaks, restarts of the server and refreshed tokens are not seen
    by the application but as `ConnectionChanged` events.

    Attributes:
        session: The login.
        store: What the device keeps.
        account: The account's own calls.
        chat: The generated stub, for `call`.
        call: Makes any unary call with token, retries and typed errors:
            `await client.call(client.chat.GetChannel, request)`.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        session: Session,
        *,
        store: ClientStore,
        security: Security,
        channel: aio.Channel | None,
        subscriptions: connect_pb2.Subscriptions | None,
        catch_up_limit: int,
        cursors: Iterable[ev.Cursor] | None,
        delivered_marks: bool,
        wait_s: float | None,
        drain_s: float,
        allow_address: AllowAddress | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.session = session
        self.store = store
        self._security = security
        self._given_channel = channel
        self._delivered_marks = delivered_marks
        self._wait_s, self._drain_s = wait_s, drain_s
        self._clock = clock or SystemClock()
        rng = rng or random.Random()
        if channel is not None:
            addresses = addresses[:1]  # all of them are reached by this one channel
        self._endpoints = Endpoints(addresses, rng=rng, monotonic=self._clock.monotonic)
        saved = store.load()
        if cursors is not None:
            # The stamp stands for the store's cursors, not for these.
            saved.cursors, saved.stamp = list(cursors), ""
        self._protocol = DeviceProtocol(
            saved,
            clock=self._clock,
            rng=rng,
            subscriptions=subscriptions,
            catch_up_limit=catch_up_limit,
            endpoints=self._endpoints,
            may_follow=may_follow(addresses, security, allow_address),
        )
        self._inbox = Inbox(self._on_room)
        self._link: Link | None = None
        self._handles: dict[str, PendingSend] = {}
        self._reading = Reading(
            self._inbox,
            store,
            closed_by=lambda: self._protocol.error,
            on_taken=self._on_taken,
        )
        self._changed: list[asyncio.Future[None]] = []
        self._bound_to = ""

    # --- life ---

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self._protocol.outbox and self._protocol.error is None:
            await self.drain(self._drain_s)
        await self.close()

    async def start(self) -> None:
        """Connects: what `async with` does first.

        Raises:
            Unavailable: The server did not answer within `wait_s`.
            ChinwagError: It refused this client for good.
        """
        assert self._link is None, "a client starts once"
        routes: Routes | None = None
        channel = self._given_channel
        if channel is None:
            channel = routes = Routes(self._endpoints, self._security)
        self._routes = routes
        credential = SessionCredential(self.session, channel)
        self.call = Calls(credential)
        self.chat = chat_service_pb2_grpc.ChatServiceStub(channel)
        self.account = Account(channel, self.call)
        self._link = Link(
            self._protocol,
            channel,
            self.call,
            credential,
            self._clock,
            self._inbox,
            to=routes.to if routes is not None else lambda _address: channel,
            leave=routes.leave if routes is not None else lambda _address: None,
            on_events=self._on_events,
            on_outcomes=self._on_outcomes,
            on_end=self._on_end,
        )
        if self._wait_s is None:
            return
        try:
            await asyncio.wait_for(self._until(lambda: self.connection in _WELCOMED), self._wait_s)
        except TimeoutError:
            plan = self._protocol.plan
            await self.close()
            raise Unavailable(
                f"{', '.join(self._endpoints.addresses)} did not answer within {self._wait_s:g} s"
                + (f": {plan.error}" if plan.error is not None else ""),
                code=14,
            ) from plan.error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Ends the client. Messages that are not sent stay in the store."""
        if self._link is not None:
            await self._link.close()
            if self._routes is not None:
                await self._routes.close()
            self._link = None
        self._reading.flush()

    async def drain(self, timeout_s: float | None = None) -> bool:
        """Waits until every message is stored or refused.

        Returns:
            Whether that came in time.
        """
        pending = [handle.future for handle in self._handles.values()]
        if pending:
            await asyncio.wait(pending, timeout=timeout_s)
        return not self._protocol.outbox

    async def caught_up(self) -> None:
        """Waits until everything that was missed has come (not: has been taken).

        Raises:
            ChinwagError: The client was closed for good.
        """
        await self._until(lambda: self.connection is ev.Connection.LIVE)

    async def _until(self, holds: object) -> None:
        assert callable(holds)
        while not holds():
            if self._protocol.error is not None:
                raise self._protocol.error
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._changed.append(waiter)
            await waiter

    # --- state ---

    @property
    def user_id(self) -> str:
        """The user."""
        return self.session.user_id

    @property
    def device_id(self) -> str:
        """The device."""
        return self.session.device_id

    @property
    def connection(self) -> ev.Connection:
        """The state of the connection now."""
        return self._protocol.connection

    @property
    def closed_by(self) -> ChinwagError | None:
        """Why the client is closed for good; None while it is not."""
        return self._protocol.error

    @property
    def unsent(self) -> int:
        """How many messages are not known to be stored."""
        return len(self._protocol.outbox)

    def cursor(self, channel_id: str) -> ev.Cursor | None:
        """How far a channel has come in; events up to it are, or will be, handed out."""
        return self._protocol.positions.cursor(channel_id)

    # --- events ---

    def events(self) -> Reading:
        """Everything that happens, in order: `async for event in client.events()`.

        An event counts as taken when the next one is asked for: the store's cursors are moved
        then. So after a crash the event in work comes again, and in a living process none does.
        Ends when the client is closed; raises if it was closed for good by something else.

        Raises:
            RuntimeError: Another loop over the events is waiting.
        """
        return self._reading

    def commit(self, event: ev.Event) -> None:
        """Counts an event as taken now: for a loop that ends with it."""
        self._reading.commit(event)

    def _on_taken(self, event: ev.Event) -> None:
        if self._delivered_marks and isinstance(event, ev.EntryEvent):
            self.mark(event.channel_id, delivered_id=event.cursor.id, lazy=True)

    # --- what the link tells ---

    def _on_events(self, events: Sequence[ev.Event], size_bytes: int) -> None:
        if self._protocol.user_id != self._bound_to:
            self._bound_to = self._protocol.user_id
            self.store.bind(self._bound_to)
        self._inbox.put(events, size_bytes)
        self._tell()

    def _tell(self) -> None:
        self._reading.wake()
        waiters, self._changed = self._changed, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _on_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        self.store.remove_sends([outcome.client_message_id for outcome in outcomes])
        for outcome in outcomes:
            handle = self._handles.pop(outcome.client_message_id, None)
            if handle is not None and not handle.future.done():
                if outcome.sent is not None:
                    handle.future.set_result(outcome.sent)
                elif outcome.error is not None:
                    handle.future.set_exception(outcome.error)
            if handle is None or (outcome.error is not None and not handle.is_awaited):
                message_id = outcome.sent.message_id if outcome.sent is not None else 0
                told = ev.SendResolved(
                    outcome.channel_id, outcome.client_message_id, message_id, outcome.error
                )
                self._on_events([told], 0)

    def _on_end(self) -> None:
        error = self._protocol.error or ClientClosed("the client was closed")
        for handle in self._handles.values():
            if not handle.future.done():
                handle.future.set_exception(
                    ClientClosed(f"the message is in the store, and not sent: {error}")
                )
        self._handles.clear()
        self._tell()

    def _on_room(self) -> None:
        if self._link is not None:
            self._link.room()

    def _soon(self) -> None:
        if self._link is not None:
            self._link.soon()

    # --- what channels ask ---

    def post(
        self,
        channel_id: str,
        content: message_pb2.MessageContent,
        *,
        reply_to_id: int = 0,
        thread_root_id: int = 0,
    ) -> PendingSend:
        """See `Channel.post`."""
        send = self._protocol.post(
            channel_id, content, reply_to_id=reply_to_id, thread_root_id=thread_root_id
        )
        try:
            self.store.add_send(send)
        except BaseException:
            self._protocol.outbox.withdraw(send)
            raise
        handle = PendingSend(channel_id, send.request.client_message_id)
        self._handles[handle.client_message_id] = handle
        self._soon()
        return handle

    def mark(
        self, channel_id: str, *, read_id: int = 0, delivered_id: int = 0, lazy: bool = False
    ) -> None:
        """See `Channel.mark_read`."""
        self._protocol.mark(channel_id, read_id=read_id, delivered_id=delivered_id, lazy=lazy)
        self._soon()

    def typing(self, channel_id: str, *, active: bool, thread_root_id: int = 0) -> None:
        """See `Channel.typing`."""
        self._protocol.typing(channel_id, active=active, thread_root_id=thread_root_id)
        self._soon()

    def look(self, start: ev.Cursor) -> None:
        """See `Channel.look`; from any cursor."""
        self._protocol.look(start)
        self._soon()

    def look_away(self, channel_id: str) -> None:
        """See `Channel.look_away`."""
        self._protocol.look_away(channel_id)
        self._soon()

    def watch_presence(self, watches: Iterable[presence_pb2.Watch]) -> None:
        """The users whose presence is wanted, in place of those before: PresenceChanged events."""
        self._protocol.watch(list(watches))
        self._soon()

    # --- channels ---

    def channel(self, channel_id: str) -> Channel:
        """A channel by its id."""
        return Channel(self, channel_id)

    async def channels(
        self,
        *,
        kinds: Iterable[channel_pb2.ChannelKind.ValueType] = (),
        include_archived: bool = False,
    ) -> AsyncIterator[chat_service_pb2.ChannelView]:
        """The user's channels with unread counts and last messages: pinned ones first, then by
        newest entry."""
        request = chat_service_pb2.ListChannelsRequest(
            page_size=200, kinds=kinds, include_archived=include_archived
        )
        while True:
            page = await self.call(self.chat.ListChannels, request)
            for view in page.channels:
                yield view
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def create_channel(self, request: chat_service_pb2.CreateChannelRequest) -> Channel:
        """Makes a channel of any kind."""
        answer = await self.call(self.chat.CreateChannel, request)
        return Channel(self, answer.channel.channel.id)

    async def create_group(self, name: str = "", members: Iterable[str] = ()) -> Channel:
        """Makes a group.

        Args:
            members: The other members' user ids.
        """
        return await self.create_channel(
            chat_service_pb2.CreateChannelRequest(
                kind=channel_pb2.CHANNEL_KIND_GROUP, name=name, member_user_ids=members
            )
        )

    async def direct(self, user_id: str) -> Channel:
        """The one channel with another user; made if there is none."""
        return await self.create_channel(
            chat_service_pb2.CreateChannelRequest(
                kind=channel_pb2.CHANNEL_KIND_DIRECT, member_user_ids=[user_id]
            )
        )

    async def create_broadcast(self, name: str, *, is_public: bool = False) -> Channel:
        """Makes a broadcast channel."""
        return await self.create_channel(
            chat_service_pb2.CreateChannelRequest(
                kind=channel_pb2.CHANNEL_KIND_BROADCAST, name=name, is_public=is_public
            )
        )

    async def join(self, channel_id: str) -> Channel:
        """Joins a public broadcast channel; `Channel.look` makes its entries come."""
        request = chat_service_pb2.JoinChannelRequest(channel_id=channel_id)
        await self.call(self.chat.JoinChannel, request)
        return Channel(self, channel_id)


_WELCOMED = (ev.Connection.CATCHING_UP, ev.Connection.LIVE)
