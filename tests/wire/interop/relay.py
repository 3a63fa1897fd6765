"""A relay of TCP that counts its bytes: how a test sees what went over the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Relay:
    """Bytes carried so far.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        up: To the server.
        down: To the client.
        asked: The bytes of `up`, of all connections as they came.
    """

    def __init__(self) -> None:
        self.port = 0
        self.up = 0
        self.down = 0
        self.asked = bytearray()


@asynccontextmanager
async def relay_to(host: str, port: int) -> AsyncIterator[Relay]:
    """Carries connections to a server until the end of the block."""
    relay = Relay()
    tasks: set[asyncio.Task[None]] = set()

    async def carry(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str
    ) -> None:
        try:
            while chunk := await reader.read(65536):
                setattr(relay, direction, getattr(relay, direction) + len(chunk))
                if direction == "up":
                    relay.asked += chunk
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(host, port)
        for task in (
            asyncio.create_task(carry(reader, server_writer, "up")),
            asyncio.create_task(carry(server_reader, writer, "down")),
        ):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    listener = await asyncio.start_server(accept, host, 0)
    relay.port = listener.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        listener.close()
        ending = list(tasks)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
