"""One connection to Redis on which commands follow each other without waiting for replies."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from redis.asyncio.connection import Connection
from redis.exceptions import RedisError, ResponseError

from chinwag_server.mesh.redis.connection import drop, read

MAX_WAITING = 10_000
MAX_READ = 256  # replies handled before others get their turn

Command = Sequence[str | bytes | int | float]


class Broken(Exception):
    """The connection ended, or was ended, before the reply came."""


class Crowded(Exception):
    """Too many commands wait for their replies."""


class Pipe:
    """A connection with a task that writes and one that reads.

    Once broken it stays so: who needs another one opens it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._unsent: list[Command] = []
        self._wake = asyncio.Event()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()
        self._reason = ""
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._read())]

    @property
    def broken(self) -> bool:
        """Whether it can be used no more."""
        return bool(self._reason)

    def send(self, command: Command) -> asyncio.Future[Any]:
        """Sends a command; the future gives its reply, or fails with `Broken` or a `RedisError`.

        Raises:
            Broken: It was broken before.
            Crowded: `MAX_WAITING` wait already.
        """
        if self._reason:
            raise Broken(self._reason)
        if len(self._waiting) >= MAX_WAITING:
            raise Crowded(f"{MAX_WAITING} calls wait for it already")
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(reply)
        self._unsent.append(command)
        self._wake.set()
        return reply

    def timed_out(self, sent_s: float) -> None:
        """A reply did not come in time: breaks the pipe if none came since that was sent."""
        if self._heard_s <= sent_s:
            self.fail("it stopped to answer")

    def fail(self, reason: str) -> None:
        """Breaks it: all that wait fail."""
        if self._reason:
            return
        self._reason = reason
        for reply in self._waiting:
            if not reply.done():
                reply.set_exception(Broken(reason))
                reply.exception()  # who waited may be gone
        self._waiting.clear()
        self._unsent.clear()
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Ends it."""
        self.fail("it was closed")
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await drop(self._connection)

    async def _write(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                commands, self._unsent = self._unsent, []
                packed = self._connection.pack_commands(commands)
                await self._connection.send_packed_command(packed, check_health=False)
        except (RedisError, OSError) as error:
            self.fail(str(error))

    async def _read(self) -> None:
        try:
            while True:
                for _ in range(MAX_READ):
                    await self._read_one()
                # Replies that are there already are read without a wait.
                await asyncio.sleep(0)
        except (RedisError, OSError) as error:
            self.fail(str(error))
        finally:
            await drop(self._connection)

    async def _read_one(self) -> None:
        answer: Any
        try:
            answer = await read(self._connection)
        except ResponseError as error:
            answer = error
        self._heard_s = self._loop.time()
        reply = self._waiting.popleft()
        if reply.done():
            return
        if isinstance(answer, ResponseError):
            reply.set_exception(answer)
        else:
            reply.set_result(answer)
