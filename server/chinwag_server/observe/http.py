"""A small HTTP/1.1 listener for operators: a few pages, GET and HEAD, one request a connection.

It is bounded in everything (connections, bytes of a request, time) and parses no body.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from chinwag_server.observe.logs import describe

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
MAX_HEAD_BYTES = 8192
TIMEOUT_S = 10.0


@dataclass(slots=True, frozen=True)
class Page:
    """An answer."""

    body: bytes
    content_type: str = "application/json"
    status: HTTPStatus = HTTPStatus.OK


Serve = Callable[[], Awaitable[Page]]


class HttpServer:
    """Serves pages by path.

    Args:
        port: 0: any that is free.
        pages: What makes the page of a path, such as "/healthz".

    Attributes:
        port: The bound port, after `start`.
    """

    def __init__(self, host: str, port: int, pages: Mapping[str, Serve]) -> None:
        self.host = host
        self.port = port
        self._pages = dict(pages)
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Binds the port.

        Raises:
            OSError: It is taken, or the address is not this machine's.
        """
        self._server = await asyncio.start_server(
            self._serve, self.host, self.port, limit=MAX_HEAD_BYTES
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Ends the listener and its connections."""
        if self._server is None:
            return
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if len(self._open) > MAX_CONNECTIONS:
                    page, head_only = _error(HTTPStatus.SERVICE_UNAVAILABLE), False
                else:
                    page, head_only = await self._answer(reader)
                writer.write(_serialise(page, head_only))
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[Page, bool]:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), False
        parts = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            return _error(HTTPStatus.BAD_REQUEST), False
        method, target, _version = parts
        if method not in ("GET", "HEAD"):
            return _error(HTTPStatus.METHOD_NOT_ALLOWED), False
        serve = self._pages.get(target.partition("?")[0])
        if serve is None:
            return _error(HTTPStatus.NOT_FOUND), method == "HEAD"
        try:
            return await serve(), method == "HEAD"
        except Exception as error:
            log.error("an HTTP page failed: %s", describe(error))
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR), method == "HEAD"


def _error(status: HTTPStatus) -> Page:
    return Page(f"{status.value} {status.phrase}\n".encode(), "text/plain", status)


def _serialise(page: Page, head_only: bool) -> bytes:
    allow = "Allow: GET, HEAD\r\n" if page.status == HTTPStatus.METHOD_NOT_ALLOWED else ""
    head = (
        f"HTTP/1.1 {page.status.value} {page.status.phrase}\r\n"
        f"Content-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\n"
        f"{allow}"
        "Cache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (b"" if head_only else page.body)
