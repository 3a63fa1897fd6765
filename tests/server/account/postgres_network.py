"""A network that fails when a test says so: between a store and a real server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

CHUNK = 1 << 16

Meanwhile = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    pass


class Network:
    """Passes bytes to a server and back.

    Attributes:
        url: As the server's, through here.
        asked: All that clients have sent.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked = bytearray()
        self._target = urlsplit(url).hostname, urlsplit(url).port
        self._reply: bytes | None = None
        self._request: bytes | None = None
        self._meanwhile: Meanwhile = _nothing
        self._links: set[asyncio.Task[None]] = set()

    def lose_reply(self, text: bytes, meanwhile: Meanwhile = _nothing) -> None:
        """Cuts the connection instead of passing on the next reply that holds a text.

        Args:
            meanwhile: What happens between the server's reply and the cut.
        """
        self._reply, self._meanwhile = text, meanwhile

    def lose_request(self, text: bytes, meanwhile: Meanwhile = _nothing) -> None:
        """Cuts the connection instead of passing on the next request that holds a text."""
        self._request, self._meanwhile = text, meanwhile

    @property
    def failed(self) -> bool:
        """Whether what was to be lost has been lost."""
        return self._reply is None and self._request is None

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        link = asyncio.ensure_future(self._link(reader, writer, there, back))
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _link(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        ways = [
            asyncio.ensure_future(self._requests(reader, back)),
            asyncio.ensure_future(self._replies(there, writer)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        writer.close()
        back.close()

    async def _requests(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            self.asked += data
            if self._request is not None and self._request in data:
                self._request = None
                # The server rolls back when it sees the end.
                back.close()
                await back.wait_closed()
                await self._meanwhile()
                return
            back.write(data)
            await back.drain()

    async def _replies(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await there.read(CHUNK):
            if self._reply is not None and self._reply in data:
                self._reply = None
                await self._meanwhile()
                return
            writer.write(data)
            await writer.drain()

    async def end(self) -> None:
        """Cuts all connections."""
        for link in self._links:
            link.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._links, return_exceptions=True)


@asynccontextmanager
async def network(url: str) -> AsyncIterator[Network]:
    """A network in front of a server."""
    passing = Network(url)
    listener = await asyncio.start_server(passing.accept, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    passing.url = url.replace(f":{urlsplit(url).port}/", f":{port}/")
    try:
        yield passing
    finally:
        listener.close()
        await passing.end()
