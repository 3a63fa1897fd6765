"""One query for all who ask the same at the same time.

Nobody is given the answer of a query that was sent before they asked: it may miss what was
written, and acknowledged, in between. So who comes while a query is under way waits for the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True)
class _Group(Generic[V]):
    """Those who get the answer of one query."""

    answer: asyncio.Future[V]
    deadline: float
    members: int = 1


class Coalescer(Generic[K, V]):
    """Sends queries, each key's one after another.

    Args:
        query: What sends one; it is given the deadline by the loop's clock and keeps it.
        copy: Makes a caller's own copy of an answer that several get.
        timeout_s: How long an answer may take, from when somebody asked.
    """

    def __init__(
        self,
        query: Callable[[K, float], Awaitable[V]],
        copy: Callable[[V], V],
        timeout_s: float,
    ) -> None:
        self._query = query
        self._copy = copy
        self._timeout_s = timeout_s
        self._waiting: dict[K, _Group[V]] = {}
        self._flying: dict[K, asyncio.Task[None]] = {}

    async def get(self, key: K) -> V:
        """The answer of a query that is sent after this call."""
        group = self._waiting.get(key)
        if group is None:
            loop = asyncio.get_running_loop()
            group = _Group(loop.create_future(), loop.time() + self._timeout_s)
            self._waiting[key] = group
            if key not in self._flying:
                self._flying[key] = loop.create_task(self._send(key))
        else:
            group.members += 1
        # Whose own waiting is cancelled leaves the others theirs.
        answer = await asyncio.shield(group.answer)
        return self._copy(answer) if group.members > 1 else answer

    async def _send(self, key: K) -> None:
        # This task begins when all who are ready to run have run, and so have asked.
        try:
            while (group := self._waiting.pop(key, None)) is not None:
                await self._answer(key, group)
        finally:
            del self._flying[key]

    async def _answer(self, key: K, group: _Group[V]) -> None:
        try:
            answer = await self._query(key, group.deadline)
        except asyncio.CancelledError:
            group.answer.cancel()
            raise
        except Exception as error:  # It is for those who asked
            group.answer.set_exception(error)
        else:
            group.answer.set_result(answer)
