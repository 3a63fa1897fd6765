"""Numbers that all nodes of a mesh agree on: the generation of the store, and of the inboxes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import aclosing

from chinwag_server.clock import Clock
from chinwag_server.mesh.coordination import Coordination, Entry, Snapshot

log = logging.getLogger(__name__)

_RANDOM_BITS = 20
_RETRIES = 20


class Agreed:
    """Reads and raises them in the coordination.

    Args:
        prefix: Of all keys of the mesh.
    """

    def __init__(
        self,
        coordination: Coordination,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        *,
        prefix: str,
    ) -> None:
        self._coordination = coordination
        self._clock = clock
        self._random_bytes = random_bytes
        self._generation_key = f"{prefix}generation"
        self._inbox_key = f"{prefix}inbox_generation"

    async def generation(self) -> int:
        """Of the store: drawn by the first node of the mesh, and whoever restores a backup deletes
        the key, so that it is drawn anew.

        Raises:
            CoordinationUnavailable: It cannot be told.
        """
        drawn = str(self._draw(0)).encode()
        return int((await self._coordination.create(self._generation_key, drawn)).value)

    async def inbox_generation(self) -> int:
        """Of the inboxes.

        Raises:
            CoordinationUnavailable: It cannot be told.
        """
        drawn = str(self._draw(0)).encode()
        return int((await self._coordination.create(self._inbox_key, drawn)).value)

    async def raise_inbox_generation(self) -> int:
        """Raises it, also against nodes that do the same.

        Raises:
            CoordinationUnavailable: It may be raised.
        """
        entry = await self._coordination.create(self._inbox_key, str(self._draw(0)).encode())
        for _ in range(_RETRIES):
            wanted = str(self._draw(int(entry.value))).encode()
            written = await self._coordination.replace(
                self._inbox_key, entry.mod_revision, wanted
            ) or await self._coordination.create(self._inbox_key, wanted)
            if written.value == wanted:
                return int(wanted)
            entry = written
        # Others raised it that often meanwhile: after this call began, which is what counts.
        return int(entry.value)

    async def follow_inbox(self, agree: Callable[[int], None]) -> None:
        """Calls `agree` with each number that another node raised it to, without an end."""
        async with aclosing(self._coordination.watch(self._inbox_key)) as watch:
            async for news in watch:
                changes = news.entries if isinstance(news, Snapshot) else news.changes
                for change in changes:
                    if isinstance(change, Entry):
                        agree(int(change.value))

    def _draw(self, above: int) -> int:
        """A number above another; its low bits are random, so that none is given twice when the
        coordination was restored from a backup."""
        bits = int.from_bytes(self._random_bytes(3), "big") & ((1 << _RANDOM_BITS) - 1)
        drawn = (self._clock.time_us() // 1_000_000) << _RANDOM_BITS | bits
        return max(drawn, above + 1 + (bits & 0xFF))
