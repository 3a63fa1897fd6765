"""The composition root: builds adapters and rooms from settings, starts, drains, stops them."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any

from chinwag.account.v1 import account_service_pb2_grpc
from chinwag.chat.v1 import chat_service_pb2_grpc
from chinwag.presence.v1 import presence_service_pb2_grpc
from chinwag.push.v1 import push_service_pb2_grpc
from chinwag_server import __version__, engines, rooms
from chinwag_server.chat.room import ChatRoom
from chinwag_server.chat.sqlite import SqliteChatStore
from chinwag_server.chat.store import ChatStore
from chinwag_server.clock import Clock, SystemClock
from chinwag_server.config import Settings
from chinwag_server.datadir import DataDir
from chinwag_server.mesh.bus import Bus
from chinwag_server.mesh.charges import Charges
from chinwag_server.mesh_engines import MeshEngines, until_there
from chinwag_server.meshed import Meshed
from chinwag_server.observe.http import HttpServer, Page
from chinwag_server.observe.metrics import CONTENT_TYPE, Metrics
from chinwag_server.rpc.auth import ClientAddress
from chinwag_server.rpc.grpcio import GrpcioServer
from chinwag_server.rpc.listening import ListenError, ListenOptions, RpcServer, Tls
from chinwag_server.rpc.middleware import CallLimits, Middleware
from chinwag_server.rpc.registry import Registry
from chinwag_server.rpc.standard import Health, register_reflection
from chinwag_server.rpc.wire import WireServer

log = logging.getLogger(__name__)

DRAIN_POLL_S = 0.02
# How much of the drain time is kept for stores that finish what was submitted.
STORE_SHARE = 0.5


class Node:
    """One server process's worth of chinwag, in the running event loop.

    Args:
        open_account: Makes the account room; tests may give a stand-in.

    Attributes:
        port: The gRPC port, after `start`.
        http_port: The HTTP port, after `start`; 0: there is none.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        open_account: rooms.OpenAccount = rooms.open_account,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self._open_account = open_account
        self._clock = clock or SystemClock()
        self._stack = AsyncExitStack()
        self._health = Health()
        self._draining = False
        self._started = False
        self._chat: ChatRoom | None = None
        self._meshed: Meshed | None = None
        self._charges: Charges | None = None
        self._account: rooms.AccountSide | None = None
        self._middleware: Middleware | None = None
        self._server: RpcServer | None = None
        self._http: HttpServer | None = None

    @property
    def port(self) -> int:
        return self._server.port if self._server is not None else 0

    @property
    def http_port(self) -> int:
        return self._http.port if self._http is not None else 0

    @property
    def chat(self) -> ChatRoom:
        """The chat room, after `start`."""
        assert self._chat is not None, "the node is not started"
        return self._chat

    @property
    def account(self) -> rooms.AccountSide:
        """The account room, after `start`."""
        assert self._account is not None, "the node is not started"
        return self._account

    # --- start ---

    async def start(self) -> None:
        """Opens the stores and serves.

        Raises:
            DataDirError: The data directory is held by another process, or cannot be used.
            StoreError: A store cannot be opened.
            EngineRefused: An engine of the mesh will not have this node.
            ListenError: A port or address cannot be used.
        """
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        self._started = True

    async def _start(self) -> None:
        settings, stack = self.settings, self._stack
        data_dir = DataDir(settings.data_dir)
        data_dir.open()
        stack.callback(data_dir.close)

        # Whoever asks learns that this node starts, also while it waits for engines.
        await self._start_http()
        store, account, chat = await self._open_rooms(data_dir)
        account.attach(chat)
        await chat.start()
        stack.push_async_callback(chat.stop)

        registry = self._register(account, chat)
        calls = rooms.call_limiter(settings.limits, self._clock)
        anonymous = rooms.anonymous_limiter(settings.limits, self._clock)
        if self._charges is not None:
            self._charges.follow("calls", calls)
            self._charges.follow("anonymous", anonymous)
            self._charges.start()
            stack.push_async_callback(self._charges.stop)
        self._middleware = Middleware(
            account.authenticator,
            limits=CallLimits(
                message_bytes=settings.limits.message_bytes,
                metadata_bytes=settings.limits.metadata_bytes,
                unary_deadline_s=settings.deadlines.unary_ms / 1000,
                running_calls=settings.limits.running_calls,
                running_streams=settings.limits.running_streams,
            ),
            addresses=ClientAddress(settings.listen.trusted_proxies),
            calls=calls,
            anonymous=anonymous,
            observer=self.metrics,
            clock=self._clock,
        )
        self._show(chat, store)
        adapter = WireServer if settings.listen.wire == "wire" else GrpcioServer
        self._server = adapter(registry, self._middleware, listen_options(settings))
        await self._health.serving(registry)
        await self._server.start()
        if self._meshed is not None:
            await self._meshed.serve(engines.client_address(self.settings.mesh, self.port))

    async def _open_rooms(self, data_dir: DataDir) -> tuple[ChatStore, rooms.AccountSide, ChatRoom]:
        """The stores, alone or of a mesh, and the rooms over them."""
        settings, stack = self.settings, self._stack
        if settings.mesh.coordination_url:
            self._meshed, bus = await self._join_mesh()
            account = self._open_account(settings, data_dir, self._clock, bus)
            await until_there("PostgreSQL", account.start)
            store: ChatStore = self._meshed.store
        else:
            account = self._open_account(settings, data_dir, self._clock, None)
            await account.start()
            store = SqliteChatStore(data_dir)
        self._account = account
        stack.push_async_callback(account.stop)
        await store.open()
        stack.push_async_callback(store.close)
        rates = rooms.stream_rates(settings.limits, self._clock)
        if self._charges is not None:
            self._charges.follow("frames", rates.frames)
            self._charges.follow("sends", rates.sends)
        self._chat = rooms.build_chat(settings, store, account, self._clock, rates, self._meshed)
        if self._meshed is not None:
            await self._meshed.open_links()
            stack.push_async_callback(self._meshed.stop)
            address = engines.advertised(settings.mesh, self._meshed.port)
            await until_there("etcd", lambda: self._register_node(address))
        return store, account, self._chat

    async def _join_mesh(self) -> tuple[Meshed, Bus]:
        settings = self.settings
        mesh = MeshEngines(settings, self._clock)
        self._stack.push_async_callback(mesh.close)
        shared, bus, rates = await mesh.open()
        self._charges = Charges(rates)
        meshed = Meshed(
            shared,
            generation=await until_there("etcd", shared.agreed.generation),
            cluster_id=settings.stores.cluster_id,
            clock=self._clock,
            random_bytes=secrets.token_bytes,
            limits=rooms.fanout_limits(settings.mesh),
            feed=settings.mesh.feed,
            zone=settings.mesh.zone,
            capacity=settings.mesh.capacity,
            version=__version__,
            ttl_s=settings.mesh.lease_s,
        )
        return meshed, bus

    async def _register_node(self, address: str) -> None:
        assert self._meshed is not None
        await self._meshed.start(address)

    def _register(self, account: rooms.AccountSide, chat: ChatRoom) -> Registry:
        registry = Registry(rooms.RAW_METHODS, rooms.PUSHED_METHODS)
        registry.add(
            account_service_pb2_grpc.add_AccountServiceServicer_to_server, account.servicer
        )
        registry.add(chat_service_pb2_grpc.add_ChatServiceServicer_to_server, chat.servicer)
        # In the contract, and not offered yet: each method answers NOT_IMPLEMENTED.
        base: type[Any] = presence_service_pb2_grpc.PresenceServiceServicer
        registry.add(presence_service_pb2_grpc.add_PresenceServiceServicer_to_server, base())
        base = push_service_pb2_grpc.PushServiceServicer
        registry.add(push_service_pb2_grpc.add_PushServiceServicer_to_server, base())
        self._health.register(registry)
        register_reflection(registry, registry.services)
        return registry

    def _show(self, chat: ChatRoom, store: ChatStore) -> None:
        metrics = self.metrics
        metrics.gauge("chinwag_streams", "Open device streams.", lambda: len(chat.streams))
        metrics.gauge(
            "chinwag_stream_opens_wait_seconds",
            "How long the queue of device streams is that were told to come back in their turn.",
            lambda: chat.streams.admission.queue_s,
        )
        metrics.counter(
            "chinwag_deliveries",
            "Entries passed on to streams, one a device.",
            lambda: chat.listeners.deliveries,
        )
        metrics.gauge(
            "chinwag_store_backlog_bytes",
            "Bytes submitted to the chat store and not durable yet.",
            lambda: store.backlog_bytes,
        )
        metrics.counter(
            "chinwag_store_commits", "Commits of the chat store in its life.", lambda: store.stamp
        )

    async def _start_http(self) -> None:
        http = self.settings.http
        if not http.enabled:
            return
        pages: dict[str, Callable[[], Awaitable[Page]]] = {
            "/metrics": self._page_metrics,
            "/healthz": self._page_health,
            "/.well-known/jwks.json": self._page_jwks,
        }
        self._http = HttpServer(http.host, http.port, pages)
        try:
            await self._http.start()
        except OSError as error:
            raise ListenError(
                f"cannot listen on {http.host}:{http.port} (http.port): {error.strerror or error}; "
                "choose another port, or http.enabled false"
            ) from error
        self._stack.push_async_callback(self._http.stop)

    # --- pages ---

    async def _page_metrics(self) -> Page:
        return Page(self.metrics.page(), CONTENT_TYPE)

    async def _page_health(self) -> Page:
        if self._draining or not self._started:
            body = {"status": "draining" if self._draining else "starting"}
            return Page(json.dumps(body).encode(), status=HTTPStatus.SERVICE_UNAVAILABLE)
        return Page(b'{"status": "serving"}')

    async def _page_jwks(self) -> Page:
        if self._account is None or not self._started:
            return Page(b"", status=HTTPStatus.SERVICE_UNAVAILABLE)
        return Page(self._account.jwks())

    # --- end ---

    async def drain(self) -> None:
        """Refuses new calls, ends all streams with guidance, and waits for what runs, within the
        drain time."""
        if self._draining or not self._started:
            return
        self._draining = True
        assert self._middleware is not None
        drain_s = self.settings.deadlines.drain_ms / 1000 * (1 - STORE_SHARE)
        until = time.monotonic() + drain_s
        await self._health.drain()
        if self._meshed is not None:
            # Channels first, while all connections stay: what is sent meanwhile goes to the new
            # owners. Then the devices, a few at a time.
            await self._meshed.drain(drain_s / 2)
            await self.chat.streams.drain_slowly(max(0.0, until - time.monotonic() - 1.0))
        self._middleware.draining = True
        self.account.drain()
        self.chat.drain()
        while self._middleware.running_calls or self._middleware.running_streams:
            if time.monotonic() > until:
                log.warning(
                    "%d calls and %d streams did not end in time",
                    self._middleware.running_calls,
                    self._middleware.running_streams,
                )
                break
            await asyncio.sleep(DRAIN_POLL_S)

    async def stop(self) -> None:
        """Drains, ends what is left, finishes writes and closes everything."""
        await self.drain()
        if self._server is not None:
            await self._server.stop(0)
        await self._stack.aclose()
        self._started = False


def listen_options(settings: Settings) -> ListenOptions:
    """The gRPC adapter's part of the settings."""
    listen, limits = settings.listen, settings.limits
    tls = None
    if listen.tls_cert_file is not None and listen.tls_key_file is not None:
        tls = Tls(listen.tls_cert_file, listen.tls_key_file, listen.tls_client_ca_file)
    return ListenOptions(
        host=listen.host,
        port=listen.port,
        tls=tls,
        insecure=listen.insecure,
        trusted_proxies=listen.trusted_proxies,
        message_bytes=limits.message_bytes,
        metadata_bytes=limits.metadata_bytes,
        connections=listen.connections,
        connection_streams=listen.connection_streams,
        keepalive_ms=listen.keepalive_ms,
        ping_timeout_ms=listen.ping_timeout_ms,
        stall_ms=listen.stall_ms,
        age_ms=listen.age_ms,
    )
