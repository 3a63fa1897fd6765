"""Many small calls at once become one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from chinwag_server.mesh.unavailable import Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Sends what has come while the last batch was under way, in its order, one batch at a time.

    Args:
        name: For messages.
        send: Gives a result for each item.
        most: Size of a batch; an item that is larger goes alone.
        waiting: Size that may wait.
        timeout_s: How long an item waits for its result, from when it came.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        most: int,
        waiting: int,
        timeout_s: float,
    ) -> None:
        self._name = name
        self._send = send
        self._most = most
        self._max_waiting = waiting
        self._timeout_s = timeout_s
        self._queue: deque[tuple[Item, int, asyncio.Future[Result]]] = deque()
        self._size = 0
        self._task: asyncio.Task[None] | None = None

    async def put(self, item: Item, size: int = 1) -> Result:
        """An item's result.

        Raises:
            Unavailable: Too much waits, it took too long, or the batch failed.
        """
        if self._size + size > self._max_waiting:
            raise Unavailable(f"{self._name}: {self._size} wait already: come again later")
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append((item, size, result))
        self._size += size
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(self._timeout_s):
                return await result
        except TimeoutError:
            raise Unavailable(f"{self._name}: not done within {self._timeout_s:g} s") from None

    async def _run(self) -> None:
        try:
            while batch := self._next():
                await self._flush(batch)
        finally:
            self._task = None

    def _next(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        room = self._most
        while self._queue and (not batch or self._queue[0][1] <= room):
            item, size, result = self._queue.popleft()
            self._size -= size
            # Whoever gave up waiting is not served.
            if not result.done():
                room -= size
                batch.append((item, result))
        return batch

    async def _flush(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._send([item for item, _ in batch])
        except Exception as error:
            for _, result in batch:
                if not result.done():
                    result.set_exception(error)
            return
        for (_, result), value in zip(batch, results, strict=True):
            if not result.done():
                result.set_result(value)
