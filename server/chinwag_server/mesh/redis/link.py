"""A node's link to Redis: calls and scripts with a deadline, over a connection that is made again
when it breaks."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from redis.exceptions import NoScriptError, ReadOnlyError, RedisError

from chinwag_server.mesh.redis.address import parse
from chinwag_server.mesh.redis.connection import connect, explain
from chinwag_server.mesh.redis.pipe import Broken, Command, Crowded, Pipe
from chinwag_server.mesh.unavailable import Unavailable

Answer = TypeVar("Answer")

RETRY_S = 0.1  # after a connection that failed, before the next


class Script:
    """A Lua script, which Redis knows by its hash after the first time."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisLink:
    """Shared by the ports of a node.

    Args:
        url: As `address.FORM`.
        timeout_s: No call waits longer.

    Raises:
        ValueError: The URL has another form.
    """

    def __init__(self, url: str, *, timeout_s: float = 1.0) -> None:
        self.address = parse(url)
        self.timeout_s = timeout_s
        self._pipe: Pipe | None = None
        self._connecting = asyncio.Lock()
        self._failed: tuple[float, str] = (float("-inf"), "")
        self._closed = False

    async def open(self) -> None:
        """Connects, so that a wrong setting shows at the start.

        Raises:
            Unavailable: Redis cannot be used.
        """
        await self.call("PING")

    async def close(self) -> None:
        """Ends it; calls under way fail."""
        self._closed = True
        if self._pipe is not None:
            await self._pipe.close()

    async def call(self, *command: str | bytes | int | float) -> Any:
        """A command's reply.

        Raises:
            Unavailable: Redis did not take it, or did not answer in time.
        """

        async def ask(pipe: Pipe) -> Any:
            return await pipe.send(command)

        return await self._with_pipe(ask)

    async def call_all(self, commands: Sequence[Command]) -> Sequence[Any]:
        """The replies to commands that follow each other at once.

        Raises:
            Unavailable: As `call`; others of them may have been done.
        """

        async def ask(pipe: Pipe) -> Sequence[Any]:
            return await asyncio.gather(*(pipe.send(command) for command in commands))

        return await self._with_pipe(ask)

    async def run(self, script: Script, keys: Sequence[str], arguments: Command) -> Any:
        """A script's reply.

        Raises:
            Unavailable: As `call`.
        """
        rest = (len(keys), *keys, *arguments)

        async def ask(pipe: Pipe) -> Any:
            try:
                return await pipe.send(("EVALSHA", script.sha, *rest))
            except NoScriptError:
                return await pipe.send(("EVAL", script.text, *rest))

        return await self._with_pipe(ask)

    async def _with_pipe(self, ask: Callable[[Pipe], Awaitable[Answer]]) -> Answer:
        pipe, sent_s = None, asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self.timeout_s):
                pipe = await self._connected()
                return await ask(pipe)
        except (TimeoutError, RedisError, Broken, Crowded) as error:
            if pipe is not None and isinstance(error, TimeoutError):
                pipe.timed_out(sent_s)
            if pipe is not None and isinstance(error, ReadOnlyError):
                # Another host may be the primary now.
                pipe.fail("it is a replica now")
            reason = f"{self.address} {explain(error, self.timeout_s)}"
            raise Unavailable(reason) from error

    async def _connected(self) -> Pipe:
        if self._pipe is not None and not self._pipe.broken:
            return self._pipe
        loop = asyncio.get_running_loop()
        async with self._connecting:
            if self._pipe is not None and not self._pipe.broken:
                return self._pipe
            if self._closed:
                raise Unavailable("the link to Redis is closed")
            failed_s, reason = self._failed
            if loop.time() < failed_s + RETRY_S:
                raise Unavailable(reason)
            try:
                self._pipe = Pipe(await connect(self.address, self.timeout_s))
            except Unavailable as error:
                self._failed = loop.time(), str(error)
                raise
            return self._pipe
