"""A connection on an asyncio transport: bytes from the socket in, joined output out.

Over TLS it speaks HTTP/2 with those alone that chose it by ALPN (RFC 9113, 3.2); after an error
the peer gets the time to read GOAWAY (5.4.1).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from chinwag_server.wire.connection import Connection

if TYPE_CHECKING:
    from chinwag_server.wire.listener import Listener

log = logging.getLogger(__name__)

# What the transport may hold before responses wait in their streams.
_HIGH_WATER: Final = 256 << 10
# Control frames are answered even then; a peer that makes us answer so much and reads nothing
# is none to keep.
_FULL: Final = 1 << 20
# A peer that broke a rule gets the chance to read why: what it still sends is thrown away, for
# so long and so much.
_LINGER_S: Final = 1.0
_LINGER_BYTES: Final = 1 << 20


class Flusher:
    """Writes the output of all connections that have some, once a loop turn, each in one piece."""

    __slots__ = ("_loop", "_ready")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: list[Link] = []

    def add(self, link: Link) -> None:
        """A connection has output."""
        if not self._ready:
            self._loop.call_soon(self._flush)
        self._ready.append(link)

    def _flush(self) -> None:
        ready, self._ready = self._ready, []
        for link in ready:
            link.flush()


class Link(asyncio.Protocol):
    """One accepted connection, from its acceptance on."""

    __slots__ = (
        "_accepted_at",
        "_age_at",
        "_dropped_bytes",
        "_leave_by",
        "_listener",
        "_paused_at",
        "_transport",
        "connection",
    )

    _transport: asyncio.Transport

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._accepted_at = listener.loop.time()
        self._paused_at = 0.0
        self._dropped_bytes = -1  # not lingering
        self._age_at = 0.0
        self._leave_by = 0.0
        self.connection: Connection | None = None

    # --- of the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's by their methods alone.
        self._transport = transport = cast("asyncio.Transport", transport)
        listener = self._listener
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if (tls is not None and tls.selected_alpn_protocol() != "h2") or not listener.add(self):
            transport.abort()
            return
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        peer = address_of(transport.get_extra_info("peername"))
        connection = Connection(
            listener.application,
            listener.limits,
            listener.loop.time,
            trusted=listener.is_trusted(peer),
            accepted_at=self._accepted_at,
            wake=partial(listener.flusher.add, self),
        )
        connection.peer = peer
        connection.tls = tls
        self.connection = connection
        self._age_at = listener.age_at(connection.now())

    def data_received(self, data: bytes) -> None:
        connection = self.connection
        if connection is None:
            return
        if self._dropped_bytes >= 0:
            self._dropped_bytes += len(data)
            if self._dropped_bytes > _LINGER_BYTES:
                self._transport.abort()
            return
        connection.receive(data)
        if connection.closed:
            self.flush()
        elif connection.more:
            self._transport.pause_reading()
            self._listener.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Handles what a turn has left."""
        connection = self.connection
        if connection is None:
            return
        connection.receive(b"")
        if connection.closed:
            self.flush()
        if connection.more:
            self._listener.loop.call_soon(self._go_on)
        elif not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        return False  # a client that closes its half has gone

    def pause_writing(self) -> None:
        if self.connection is not None:
            self._paused_at = self.connection.now()
            self.connection.pause()

    def resume_writing(self) -> None:
        if self.connection is not None:
            self._paused_at = 0.0
            self.connection.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        connection = self.connection
        self._listener.discard(self)
        if connection is not None:
            connection.lost()
            self.connection = None

    # --- of the connection ---

    def flush(self) -> None:
        """Writes what the connection has."""
        connection = self.connection
        if connection is None or self._dropped_bytes >= 0:
            return
        data = connection.take_output()
        if data:
            self._transport.write(data)
            if self._paused_at and self._transport.get_write_buffer_size() > _FULL:
                log.info("%s reads nothing and asks for more: dropped", connection.peer)
                self._transport.abort()
                return
        if connection.closed:
            self._close(connection)
        elif connection.queue:
            connection.drain()  # there is room again

    def _close(self, connection: Connection) -> None:
        transport = self._transport
        fault = connection.fault
        if fault is None:
            transport.close()
            return
        log.info("%s: %s (%s)", connection.peer, fault.text, fault.code.name)
        self._dropped_bytes = 0
        if transport.can_write_eof():
            transport.write_eof()
        self._listener.loop.call_later(_LINGER_S, transport.abort)

    # --- time ---

    def tick(self, now: float) -> None:
        """About a second has passed."""
        connection = self.connection
        if connection is None:
            return
        connection.tick()
        if self._paused_at and now - self._paused_at > connection.limits.stall_s:
            log.info("%s reads nothing: dropped", connection.peer)
            self._transport.abort()
        elif self._age_at and now > self._age_at:
            self._age_at = 0.0
            self.leave(now + connection.limits.age_grace_s)
        elif self._leave_by and now > self._leave_by:
            self._transport.abort()
        elif connection.closed:
            self.flush()

    def leave(self, by: float) -> None:
        """Asks the client to go, and ends the connection at a time."""
        if self.connection is not None:
            self._leave_by = by
            self.connection.shutdown()
            if self.connection.closed:
                self.flush()

    def abort(self) -> None:
        """Ends the connection at once."""
        self._transport.abort()


def address_of(peername: object) -> str:
    """The address in a socket's name of its peer; "unix" of a Unix socket."""
    if isinstance(peername, tuple) and peername:
        return str(peername[0])
    return "unix"
