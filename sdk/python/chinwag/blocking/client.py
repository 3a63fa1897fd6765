"""The client of a device without asyncio: threads around the core."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import grpc

from chinwag import events as ev
from chinwag.account.v1 import account_service_pb2_grpc
from chinwag.addresses import Addresses, parse_addresses
from chinwag.blocking.calls import Calls, SessionCredential
from chinwag.blocking.routes import Routes
from chinwag.chat.v1 import (
    channel_pb2,
    chat_service_pb2,
    chat_service_pb2_grpc,
    connect_pb2,
    message_pb2,
)
from chinwag.clock import SystemClock
from chinwag.content import content_of
from chinwag.endpoints import Endpoints
from chinwag.errors import ChinwagError, ClientClosed, Unauthenticated, Unavailable, from_rpc_error
from chinwag.inbox import Inbox
from chinwag.link import FETCH_ENTRIES
from chinwag.outbox import Outcome, Sent
from chinwag.positions import Fetch
from chinwag.protocol import DeviceProtocol
from chinwag.reading import COMMIT_EVENTS
from chinwag.redirect import AllowAddress, may_follow
from chinwag.session import Session
from chinwag.store import ClientStore, MemoryStore
from chinwag.transport import Security, Tls

log = logging.getLogger(__name__)


def connect(
    address: Addresses = "",
    session: Session | None = None,
    *,
    store: ClientStore | None = None,
    tls: Tls = None,
    insecure: bool = False,
    subscriptions: connect_pb2.Subscriptions | None = None,
    wait_s: float | None = 10.0,
    allow_address: AllowAddress | None = None,
) -> Client:
    """A client of one device, for a `with`. The arguments are those of `chinwag.connect`."""
    if session is None:
        raise ValueError("connect needs a session: see chinwag.blocking.log_in")
    address = address or session.address
    if not address:
        raise ValueError("connect needs an address, such as localhost:7400")
    return Client(
        parse_addresses(address),
        session,
        store=store if store is not None else MemoryStore(),
        security=Security(tls, insecure),
        subscriptions=subscriptions,
        wait_s=wait_s,
        allow_address=allow_address,
    )


class Client:
    """One device of a user; its methods may be called from any thread.

    Attributes:
        call: Makes any unary call: `client.call(client.chat.GetChannel, request)`.
        chat, account: The generated stubs, for `call`.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        session: Session,
        *,
        store: ClientStore,
        security: Security,
        subscriptions: connect_pb2.Subscriptions | None,
        wait_s: float | None,
        allow_address: AllowAddress | None = None,
    ) -> None:
        self.session = session
        self.store = store
        self._wait_s = wait_s
        self._clock = SystemClock()
        rng = random.Random()
        for address in addresses:
            security.credentials(address)
        self._endpoints = Endpoints(addresses, rng=rng, monotonic=self._clock.monotonic)
        self._routes = Routes(self._endpoints, security)
        self.chat = chat_service_pb2_grpc.ChatServiceStub(self._routes)
        self.account = account_service_pb2_grpc.AccountServiceStub(self._routes)
        self._credential = SessionCredential(session, self.account)
        self.call = Calls(self._credential)
        self._protocol = DeviceProtocol(
            store.load(),
            clock=self._clock,
            rng=rng,
            subscriptions=subscriptions,
            endpoints=self._endpoints,
            may_follow=may_follow(addresses, security, allow_address),
        )
        # Guards the protocol, the store and all below; notified when any of it changes.
        self._changed = threading.Condition()
        self._inbox = Inbox(self._on_room)
        self._handles: dict[str, Future[Sent]] = {}
        self._handled: list[ev.Event] = []
        self._frames: deque[connect_pb2.ConnectRequest] = deque()
        self._fetches: deque[Fetch] = deque()
        self._call: Any = None
        self._attempt: object = None
        self._size = 0
        self._token = self._bound_to = ""
        self._reader = threading.Thread(target=self._run, name="chinwag-reader", daemon=True)

    # --- life ---

    def __enter__(self) -> Self:
        self._reader.start()
        if self._wait_s is None:
            return self
        with self._changed:
            welcomed = self._changed.wait_for(
                lambda: self.connection in _WELCOMED or self._protocol.error is not None,
                self._wait_s,
            )
            error = self._protocol.error or self._protocol.plan.error
        if self._protocol.error is None and welcomed:
            return self
        self.close()
        if self._protocol.error is not None and error is not None and error.reason:
            raise error
        tried = ", ".join(self._endpoints.addresses)
        raise Unavailable(f"{tried} did not answer in time: {error}", code=14) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.drain(5.0)
        self.close()

    def close(self) -> None:
        """Ends the client. Messages that are not sent stay in the store."""
        with self._changed:
            self._protocol.fail(ClientClosed("the client was closed"))
            self._pump()
        if self._reader.is_alive():
            self._reader.join(10.0)
        self._routes.close()
        with self._changed:
            self._commit()

    def drain(self, timeout_s: float | None = None) -> bool:
        """Waits until every message is stored or refused; whether that came in time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._protocol.outbox or self._protocol.error is not None, timeout_s
            )

    @property
    def connection(self) -> ev.Connection:
        """The state of the connection now."""
        return self._protocol.connection

    # --- what the application does ---

    def post(
        self,
        channel_id: str,
        content: str | message_pb2.MessageContent,
        *,
        reply_to: int = 0,
        thread: int = 0,
        mentions: Iterable[str] = (),
    ) -> Future[Sent]:
        """Puts a message into the outbox and returns at once: see `Channel.post`."""
        made = content_of(content, mentions)
        handle: Future[Sent] = Future()
        with self._changed:
            send = self._protocol.post(
                channel_id, made, reply_to_id=reply_to, thread_root_id=thread
            )
            try:
                self.store.add_send(send)
            except BaseException:
                self._protocol.outbox.withdraw(send)
                raise
            self._handles[send.request.client_message_id] = handle
            self._pump()
        return handle

    def send(
        self,
        channel_id: str,
        content: str | message_pb2.MessageContent,
        *,
        reply_to: int = 0,
        thread: int = 0,
        mentions: Iterable[str] = (),
        timeout_s: float | None = None,
    ) -> Sent:
        """Sends a message and waits until it is durable: see `Channel.send`.

        Raises:
            TimeoutError: Not yet; the message is still on its way.
        """
        handle = self.post(channel_id, content, reply_to=reply_to, thread=thread, mentions=mentions)
        return handle.result(timeout_s)

    def mark_read(self, channel_id: str, entry_id: int) -> None:
        """The user has read up to an entry."""
        with self._changed:
            self._protocol.mark(channel_id, read_id=entry_id)
            self._pump()

    def typing(self, channel_id: str, *, active: bool = True, thread: int = 0) -> None:
        """Tells the others that the user types."""
        with self._changed:
            self._protocol.typing(channel_id, active=active, thread_root_id=thread)
            self._pump()

    def events(self, timeout_s: float | None = None) -> Iterator[ev.Event]:
        """Everything that happens, in order. An event counts as taken when the next one is asked
        for: see `Client.events`. One loop at a time.

        Args:
            timeout_s: End after so long without an event; None: go on until the client is closed.
        """
        while True:
            with self._changed:
                event = self._take()
                if event is None:
                    self._commit()
                    came = self._changed.wait_for(
                        lambda: len(self._inbox) or self._protocol.error is not None, timeout_s
                    )
                    event = self._take()
                    if event is None:
                        error = self._protocol.error
                        if error is not None and error.reason:
                            raise error
                        if error is not None or not came:
                            return
                        continue
            yield event
            with self._changed:
                self._handled.append(event)
                if len(self._handled) >= COMMIT_EVENTS:
                    self._commit()

    def commit(self, event: ev.Event) -> None:
        """Counts an event as taken now: for a loop that ends with it."""
        with self._changed:
            self._handled.append(event)
            self._commit()

    # --- inside; all but `_run` and what it calls hold the lock ---

    def _take(self) -> ev.Event | None:
        while (event := self._inbox.pop()) is not None:
            if not isinstance(event, ev.StampReached):
                return event
            self._handled.append(event)
        return None

    def _commit(self) -> None:
        if self._handled:
            handled, self._handled = self._handled, []
            self.store.commit(handled)

    def _on_room(self) -> None:
        self._protocol.resume()
        self._pump()

    def _pump(self) -> None:
        protocol = self._protocol
        output = protocol.take()
        if output.events:
            if protocol.user_id != self._bound_to:
                self._bound_to = protocol.user_id
                self.store.bind(self._bound_to)
            self._inbox.put(output.events, self._size)
        self._size = 0
        if output.outcomes:
            self._resolve(output.outcomes)
        self._fetches.extend(output.fetches)
        self._frames.extend(output.frames)
        if protocol.drop and self._call is not None:
            self._call.cancel()
        self._changed.notify_all()

    def _resolve(self, outcomes: list[Outcome]) -> None:
        self.store.remove_sends([outcome.client_message_id for outcome in outcomes])
        for outcome in outcomes:
            handle = self._handles.pop(outcome.client_message_id, None)
            if handle is None:
                message_id = outcome.sent.message_id if outcome.sent is not None else 0
                name = outcome.client_message_id
                told = ev.SendResolved(outcome.channel_id, name, message_id, outcome.error)
                self._inbox.put([told])
            elif outcome.sent is not None:
                handle.set_result(outcome.sent)
            else:
                handle.set_exception(outcome.error)

    # --- the reader's thread ---

    def _run(self) -> None:
        protocol = self._protocol
        try:
            while True:
                with self._changed:
                    wait_s = max(protocol.retry_at - self._clock.monotonic(), 0.0)
                    if self._changed.wait_for(lambda: protocol.error is not None, wait_s):
                        break
                    protocol.connecting()
                    self._pump()
                address = protocol.plan.address
                error = self._stream(address)
                with self._changed:
                    self._call = self._attempt = None
                    self._frames.clear()
                    self._fetches.clear()
                    protocol.connection_lost(error)
                    self._pump()
                self._routes.leave(address)
        except Exception as error:
            log.exception("the client failed")
            with self._changed:
                protocol.fail(ChinwagError(f"the client failed: {error!r}", reason="INTERNAL"))
        finally:
            with self._changed:
                self._pump()
                left = ClientClosed(f"the message is in the store, and not sent: {protocol.error}")
                for handle in self._handles.values():
                    handle.set_exception(left)
                self._handles.clear()
                self._changed.notify_all()

    def _stream(self, address: str) -> ChinwagError | None:
        protocol = self._protocol
        try:
            if protocol.plan.new_token:
                self._credential.rejected(self._token)
            self._token = self._credential.token()
            metadata = (("authorization", f"Bearer {self._token}"),)
            stub = chat_service_pb2_grpc.ChatServiceStub(self._routes.to(address))
            with self._changed:
                if protocol.error is not None:
                    return None
                protocol.connected()
                self._pump()
                attempt = self._attempt = object()
                call = self._call = stub.Connect(self._requests(attempt), metadata=metadata)
            self._read(call)
        except grpc.RpcError as error:
            return None if protocol.drop else from_rpc_error(error)
        except ChinwagError as error:
            return error
        return None

    def _read(self, call: Any) -> None:
        for frame in call:
            with self._changed:
                self._size += frame.ByteSize()
                self._protocol.receive(frame)
                self._pump()
                if not self._may_go_on():
                    call.cancel()
                    return
            while self._fetches:
                self._fetch(self._fetches.popleft())

    def _may_go_on(self) -> bool:
        """As in `Link`: waits while the application does not read."""
        protocol = self._protocol
        if self._inbox.is_full and not protocol.outbox:
            protocol.pause()
            self._changed.wait_for(
                lambda: not self._inbox.is_full or bool(protocol.outbox) or protocol.drop
            )
            protocol.unpause()
        if self._inbox.is_full:
            protocol.shedding = True
        return not protocol.drop

    def _fetch(self, fetch: Fetch) -> None:
        cursor = channel_pb2.Cursor(
            channel_id=fetch.cursor.channel_id,
            generation=fetch.cursor.generation,
            id=fetch.cursor.id,
        )
        request = chat_service_pb2.SyncRequest(
            cursors=[cursor], cursors_only=True, max_entries=FETCH_ENTRIES
        )
        try:
            answer = self.call(self.chat.Sync, request)
        except ChinwagError as error:
            log.warning("a hole in %s could not be fetched: %s", cursor.channel_id, error)
            with self._changed:
                self._protocol.fetch_failed(fetch.number)
                self._pump()
            return
        with self._changed:
            self._protocol.fetched(fetch.number, answer)
            self._pump()

    # --- the thread in which grpc takes the requests: it also keeps time ---

    def _requests(self, attempt: object) -> Iterator[connect_pb2.ConnectRequest]:
        protocol = self._protocol
        while True:
            with self._changed:
                # The thread may begin when the attempt has failed and the next one runs.
                if self._attempt is not attempt or protocol.error is not None:
                    return
                frame = self._frames.popleft() if self._frames else None
                if frame is None:
                    self._wait_for_frames(attempt)
            if protocol.token_wanted:
                self._renew()
            if frame is not None:
                yield frame

    def _wait_for_frames(self, attempt: object) -> None:
        protocol = self._protocol
        at = protocol.next_tick
        wait_s = None if at is None else max(at - time.monotonic(), 0.0)
        self._changed.wait_for(
            lambda: (
                bool(self._frames)
                or self._attempt is not attempt
                or protocol.error is not None
                or protocol.next_tick != at
            ),
            wait_s,
        )
        if protocol.next_tick is not None and protocol.next_tick <= time.monotonic():
            protocol.tick()
            self._pump()

    def _renew(self) -> None:
        try:
            self._credential.rejected(self._token)
            self._token = self._credential.token()
        except ChinwagError as error:
            with self._changed:
                if isinstance(error, Unauthenticated):
                    self._protocol.fail(error)
                else:
                    self._protocol.renewal_failed()
                self._pump()
            return
        with self._changed:
            self._protocol.renew_token(self._token)
            self._pump()


_WELCOMED = (ev.Connection.CATCHING_UP, ev.Connection.LIVE)
