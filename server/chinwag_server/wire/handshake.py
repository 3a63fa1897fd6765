"""Connections within their TLS handshake (RFC 9113, 9.2), counted and bounded like all others.

asyncio's servers tell nobody of a TLS connection before its handshake is done. So the sockets are
accepted here, and what TLS costs is made for those alone that are let in.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from typing import TYPE_CHECKING, Final

from chinwag_server.wire.link import Link

if TYPE_CHECKING:
    from chinwag_server.wire.listener import Listener

log = logging.getLogger(__name__)

# Accepted in a turn of the loop, and how long none are when the process can have no more.
_AT_ONCE: Final = 100
_PAUSE_S: Final = 1.0


class Door:
    """A bound socket at which TLS connections are accepted.

    Args:
        bound: Taken over, and closed by `close`.
    """

    def __init__(self, listener: Listener, bound: socket.socket, context: ssl.SSLContext) -> None:
        self._listener = listener
        self._socket = bound
        self._context = context
        self._again: asyncio.TimerHandle | None = None
        bound.setblocking(False)
        self._open()

    def _open(self) -> None:
        self._again = None
        self._listener.loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error(
                    "no connections for %g s: %s; allow more open files (ulimit -n)",
                    _PAUSE_S,
                    error,
                )
                self._listener.loop.remove_reader(self._socket)
                self._again = self._listener.loop.call_later(_PAUSE_S, self._open)
                return
            self._take(accepted)

    def _take(self, accepted: socket.socket) -> None:
        handshake = Handshake(self._listener, accepted)
        if self._listener.admit(handshake):
            handshake.start(self._context)
        else:
            accepted.close()

    def close(self) -> None:
        """Accepts no more."""
        if self._again is not None:
            self._again.cancel()
        else:
            self._listener.loop.remove_reader(self._socket)
        self._socket.close()


class Handshake:
    """One accepted connection, until its link is connected.

    Attributes:
        link: What it will be.
        began_at: When it was accepted, by the loop's clock.
    """

    __slots__ = ("_listener", "_socket", "_task", "began_at", "link")

    def __init__(self, listener: Listener, accepted: socket.socket) -> None:
        self._listener = listener
        self._socket = accepted
        self._task: asyncio.Task[None] | None = None
        self.link = Link(listener)
        self.began_at = listener.loop.time()

    def start(self, context: ssl.SSLContext) -> None:
        """Begins, in a task: nothing else of asyncio's says when it has failed."""
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._task = self._listener.loop.create_task(self._run(context))

    async def _run(self, context: ssl.SSLContext) -> None:
        listener = self._listener
        try:
            await listener.loop.connect_accepted_socket(
                lambda: self.link,
                self._socket,
                ssl=context,
                ssl_handshake_timeout=listener.limits.handshake_s,
            )
        except OSError as error:  # no TLS, a certificate that is missing, a peer that has gone
            log.debug("a TLS handshake has failed: %s", error)
        finally:
            listener.dismiss(self)

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._task is not None:
            self._task.cancel()
        # Its transport closes the socket when it sees that.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
