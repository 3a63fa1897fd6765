"""Sockets that are listened on, and all their connections.

With TLS as RFC 9113, 9.2 wants it; without, clients must know that this is HTTP/2 (3.3).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chinwag_server.wire.connection import Application
from chinwag_server.wire.handshake import Door, Handshake
from chinwag_server.wire.limits import Limits
from chinwag_server.wire.link import Flusher, Link

_TICK_S: Final = 1.0
_TICK_LINKS: Final = 100
_BACKLOG: Final = 4096
_AGE_JITTER: Final = 0.1
# A handshake takes a few round trips: one that has taken so long may be dropped for another.
_HANDSHAKE_PATIENCE_S: Final = 1.0


@dataclass(slots=True, frozen=True)
class Tls:
    """Files in PEM form.

    Attributes:
        client_ca_file: If given, clients must show a certificate signed by it.
    """

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None

    def context(self) -> ssl.SSLContext:
        """For a server of HTTP/2 (RFC 9113, 9.2).

        Raises:
            OSError, ssl.SSLError: A file cannot be read, or is not what it should be.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
        context.load_cert_chain(self.cert_file, self.key_file)
        context.set_alpn_protocols(["h2"])
        if self.client_ca_file is not None:
            context.load_verify_locations(self.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class Listener:
    """Accepts connections and keeps time for them.

    Args:
        is_trusted: Whether an address is a proxy's that carries many people's streams.
    """

    def __init__(
        self,
        application: Application,
        limits: Limits,
        *,
        is_trusted: Callable[[str], bool] = lambda _address: False,
    ) -> None:
        self.application = application
        self.limits = limits
        self.is_trusted = is_trusted
        self.loop = asyncio.get_running_loop()
        self.flusher = Flusher(self.loop)
        self._servers: list[asyncio.AbstractServer] = []
        self._doors: list[Door] = []
        self._links: set[Link] = set()
        # By what they will be, in the order of their acceptance.
        self._handshakes: dict[Link, Handshake] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._leaving = False
        self._empty: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._links) + len(self._handshakes)

    async def listen(self, host: str, port: int, tls: Tls | None = None) -> int:
        """Accepts connections at an address; gives the port.

        Raises:
            OSError: The port is taken, or the address is not this machine's.
        """
        if tls is None:
            server = await self.loop.create_server(lambda: Link(self), host, port, backlog=_BACKLOG)
            self._servers.append(server)
            bound: int = server.sockets[0].getsockname()[1]
        else:
            bound = await self._listen_tls(host, port, tls.context())
        self._keep_time()
        return bound

    async def _listen_tls(self, host: str, port: int, context: ssl.SSLContext) -> int:
        found = await self.loop.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        bound: list[socket.socket] = []
        try:
            for family, *_, address in found:
                bound.append(socket.create_server(address, family=family, backlog=_BACKLOG))
        except OSError:
            for one in bound:
                one.close()
            raise
        self._doors += [Door(self, one, context) for one in bound]
        chosen: int = bound[0].getsockname()[1]
        return chosen

    async def listen_unix(self, path: str | Path) -> None:
        """Accepts connections at a Unix socket."""
        server = await self.loop.create_unix_server(lambda: Link(self), str(path), backlog=_BACKLOG)
        self._servers.append(server)
        self._keep_time()

    def _keep_time(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(_TICK_S, self._tick)

    def _tick(self) -> None:
        self._timer = self.loop.call_later(_TICK_S, self._tick)
        self._tick_some(list(self._links))

    def _tick_some(self, links: list[Link]) -> None:
        """Some of the links; the others in the next turns, so that nobody waits for all."""
        now = self.loop.time()
        for link in links[-_TICK_LINKS:]:
            link.tick(now)
        del links[-_TICK_LINKS:]
        if links:
            self.loop.call_soon(self._tick_some, links)

    # --- of the links ---

    def admit(self, handshake: Handshake) -> bool:
        """Takes in a new connection that begins with a TLS handshake, if there is room.

        When there are as many handshakes as there may be, the oldest gives way if it has had its
        time, so that peers that say nothing do not keep out those that do.
        """
        if self._leaving or len(self) >= self.limits.connections:
            return False
        if len(self._handshakes) >= self.limits.handshakes:
            oldest = next(iter(self._handshakes.values()))
            if self.loop.time() - oldest.began_at < _HANDSHAKE_PATIENCE_S:
                return False
            self.dismiss(oldest)
            oldest.abort()
        self._handshakes[handshake.link] = handshake
        return True

    def dismiss(self, handshake: Handshake) -> None:
        """A handshake is over."""
        self._handshakes.pop(handshake.link, None)

    def add(self, link: Link) -> bool:
        """Takes a connection in that can be spoken on, if there is room."""
        self._handshakes.pop(link, None)
        if self._leaving or len(self) >= self.limits.connections:
            return False
        self._links.add(link)
        return True

    def discard(self, link: Link) -> None:
        """A connection is over."""
        self._links.discard(link)
        if self._empty is not None and not self._links:
            self._empty.set()

    def age_at(self, now: float) -> float:
        """When a new connection is to be told to go; 0: never."""
        age_s = self.limits.age_s
        return now + age_s * random.uniform(1 - _AGE_JITTER, 1 + _AGE_JITTER) if age_s else 0.0

    # --- the end ---

    async def stop(self, grace_s: float) -> None:
        """Takes no new connections, lets the streams of the others end for so long, and closes
        them."""
        self._leaving = True
        for server in self._servers:
            server.close()
        for door in self._doors:
            door.close()
        self._doors.clear()
        for handshake in tuple(self._handshakes.values()):
            handshake.abort()
        if self._links and grace_s > 0:
            self._empty = asyncio.Event()
            for link in tuple(self._links):
                link.leave(self.loop.time() + grace_s + _TICK_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), grace_s)
        for link in tuple(self._links):
            link.abort()
        await asyncio.sleep(0)
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
