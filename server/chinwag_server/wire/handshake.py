"""A connection within its TLS handshake (RFC 9113, 9.2): counted and bounded like any other.

asyncio's own servers with TLS tell nobody of a connection before its handshake is done, so it is
accepted as plain and upgraded here. What is large of TLS is made for those alone that are let in.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, cast

from chinwag_server.wire.link import Link

if TYPE_CHECKING:
    from chinwag_server.wire.listener import Listener


class Handshake(asyncio.Protocol):
    """One accepted connection, until it is a `Link`.

    Attributes:
        began_at: When it was accepted, by the loop's clock.
    """

    __slots__ = ("_context", "_link", "_listener", "_task", "_transport", "began_at")

    _transport: asyncio.Transport

    def __init__(self, listener: Listener, context: ssl.SSLContext) -> None:
        self._listener = listener
        self._context = context
        self._link = Link(listener)
        self._task: asyncio.Task[None] | None = None
        self.began_at = listener.loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's by their methods alone.
        self._transport = transport = cast("asyncio.Transport", transport)
        if not self._listener.admit(self):
            transport.abort()
            return
        transport.pause_reading()  # what comes is for TLS, which is not there yet
        self._task = self._listener.loop.create_task(self._run())

    async def _run(self) -> None:
        listener = self._listener
        try:
            secured = await listener.loop.start_tls(
                self._transport,
                self._link,
                self._context,
                server_side=True,
                ssl_handshake_timeout=listener.limits.handshake_s,
            )
        except OSError:  # what is no TLS, a certificate that is missing, a peer that has gone
            secured = None
        finally:
            listener.dismiss(self)
        if secured is None or secured.is_closing():
            self._transport.abort()
        else:
            self._link.connection_made(secured)

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()
