"""One connection to Redis that listens: the topics it is to hear, and those it hears."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from itertools import islice

from redis.asyncio.connection import Connection
from redis.exceptions import RedisError

from chinwag_server.mesh.redis.address import Address
from chinwag_server.mesh.redis.connection import connect, drop, read
from chinwag_server.mesh.unavailable import Unavailable
from chinwag_server.observe.logs import describe

log = logging.getLogger(__name__)

MAX_TOPICS = 500  # in one command
MAX_READ = 256  # messages handled before others get their turn
PING_S = 2.0  # after so long a silence
FIRST_RETRY_S = 0.05
MAX_RETRY_S = 1.0
_CONFIRMED = frozenset({b"ssubscribe", b"sunsubscribe"})


class Ear:
    """Hears topics, over a connection that is made again when it breaks.

    Args:
        received: Takes (topic, payload).
        gap: Called when all topics are heard again after a connection was lost.
        retry: Seconds to wait before another try, of the seconds that it should be about: jitter.
    """

    def __init__(
        self,
        address: Address,
        timeout_s: float,
        received: Callable[[str, bytes], None],
        gap: Callable[[], None],
        retry: Callable[[float], float],
    ) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._received = received
        self._gap = gap
        self._retry = retry
        self._wanted: set[str] = set()
        # Topics whose last change was not sent yet, in their order.
        self._changed: dict[str, None] = {}
        self._unconfirmed = 0
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._heard_s = 0.0
        self._lost = False
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connects.

        Raises:
            Unavailable: Redis cannot be used.
        """
        connection = await connect(self._address, self._timeout_s)
        self._task = asyncio.create_task(self._run(connection))

    def want(self, topic: str, wanted: bool) -> None:
        """Begins or ends hearing a topic."""
        (self._wanted.add if wanted else self._wanted.discard)(topic)
        self._changed[topic] = None
        self._settled.clear()
        self._wake.set()

    async def settle(self) -> None:
        """Waits until Redis confirmed all that was wanted."""
        await self._settled.wait()

    async def close(self) -> None:
        """Ends it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, connection: Connection | None) -> None:
        retry_s = FIRST_RETRY_S
        while True:
            try:
                if connection is None:
                    connection = await connect(self._address, self._timeout_s)
                await self._listen(connection)
            except (Unavailable, RedisError, OSError) as error:
                if not self._lost:
                    log.warning("the bus is away, connecting again: %s", error)
            except Exception as error:
                # Whatever it is: without its ear a node is deaf for ever.
                log.error("the bus failed, connecting again: %s", describe(error))
            finally:
                if connection is not None:
                    await drop(connection)
            connection = None
            if not self._lost:  # all was heard in between
                retry_s = FIRST_RETRY_S
            self._lost = True
            self._settled.clear()
            await asyncio.sleep(self._retry(retry_s))
            retry_s = min(retry_s * 2, MAX_RETRY_S)

    async def _listen(self, connection: Connection) -> None:
        """Ends with an error, when the connection does."""
        self._heard_s = asyncio.get_running_loop().time()
        self._changed = dict.fromkeys(self._wanted)
        self._unconfirmed = 0
        self._wake.set()
        tasks = [
            asyncio.create_task(step(connection)) for step in (self._read, self._write, self._watch)
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        raise next(error for error in results if isinstance(error, Exception))

    async def _write(self, connection: Connection) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._changed = self._changed, {}
            for command, wanted in (("SSUBSCRIBE", True), ("SUNSUBSCRIBE", False)):
                topics = [topic for topic in changed if (topic in self._wanted) == wanted]
                self._unconfirmed += len(topics)
                for part in _parts(topics):
                    await connection.send_packed_command(
                        connection.pack_command(command, *part), check_health=False
                    )
            self._confirm(0)

    async def _read(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for _ in range(MAX_READ):
                message = await read(connection)
                self._heard_s = loop.time()
                if message[0] == b"smessage":
                    self._received(message[1].decode(), message[2])
                elif message[0] in _CONFIRMED:
                    # Not what answers a PING: without a topic that is a string, no list.
                    self._confirm(1)
            # Messages that are there already are read without a wait.
            await asyncio.sleep(0)

    async def _watch(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            silent_s = loop.time() - self._heard_s
            if silent_s < PING_S:
                await asyncio.sleep(PING_S - silent_s)
                continue
            asked_s = loop.time()
            await connection.send_command("PING", check_health=False)
            await asyncio.sleep(self._timeout_s)
            if self._heard_s < asked_s:
                raise TimeoutError(f"{self._address} did not answer within {self._timeout_s:g} s")

    def _confirm(self, count: int) -> None:
        self._unconfirmed -= count
        if self._unconfirmed or self._changed:
            return
        self._settled.set()
        if self._lost:
            self._lost = False
            self._gap()


def _parts(topics: Iterable[str]) -> Iterable[list[str]]:
    rest = iter(topics)
    while part := list(islice(rest, MAX_TOPICS)):
        yield part
