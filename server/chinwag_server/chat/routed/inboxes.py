"""The inboxes for owners: no ack while a member's inbox could say that nothing changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from chinwag_server.clock import Clock
from chinwag_server.mesh.inbox import Inbox, RaiseGeneration
from chinwag_server.mesh.unavailable import Unavailable

log = logging.getLogger(__name__)

TOUCH_S = 1.0
# After a failure the inboxes are left alone for so long, and their generation is raised instead.
AWAY_S = 1.0
# The generation is raised so often at most; who waits for it shares the next one.
RAISE_EVERY_S = 0.05
MAX_BACKGROUND = 1000


class Inboxes:
    """Notes changes. Where that fails it raises the generation that the nodes agree on, so that
    every stamp given before is of no use: devices get their whole list.

    Args:
        raise_generation: Raises the agreed one.
    """

    def __init__(self, inbox: Inbox, raise_generation: RaiseGeneration, clock: Clock) -> None:
        self._inbox = inbox
        self._raise_generation = raise_generation
        self._clock = clock
        self._away_until = 0.0
        self._next: asyncio.Future[None] | None = None  # of the raise that has yet to begin
        self._raising: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()

    async def touch(self, channel_id: str, users: Collection[str]) -> None:
        """Notes for users that a channel changed, or sees to it that they are told anyway.

        Raises:
            Unavailable: Neither could be done.
        """
        if not users:
            return
        if self._clock.monotonic() >= self._away_until:
            try:
                async with asyncio.timeout(TOUCH_S):
                    await self._inbox.touch(users, channel_id)
                    return
            except (Unavailable, TimeoutError) as error:
                log.warning("the inboxes are away, their generation is raised: %s", error)
                self._away_until = self._clock.monotonic() + AWAY_S
        await self._raised()

    def touch_soon(self, channel_id: str, users: Collection[str]) -> None:
        """The same for registers, which no ack waits for. May be lost: they are told whole when a
        device next asks."""
        if len(self._background) < MAX_BACKGROUND and self._clock.monotonic() >= self._away_until:
            task = asyncio.ensure_future(self._touch_or_not(channel_id, tuple(users)))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def _touch_or_not(self, channel_id: str, users: Collection[str]) -> None:
        try:
            async with asyncio.timeout(TOUCH_S):
                await self._inbox.touch(users, channel_id)
        except (Unavailable, TimeoutError) as error:
            log.debug("registers were not noted: %s", error)

    async def _raised(self) -> None:
        """Waits for a raise that began after this call."""
        loop = asyncio.get_running_loop()
        if self._next is None:
            self._next = loop.create_future()
            self._next.add_done_callback(_seen)
            if self._raising is None:
                self._raising = asyncio.ensure_future(self._raise_all())
        await asyncio.shield(self._next)

    async def _raise_all(self) -> None:
        """One raise after the other, for as long as somebody waits for one."""
        while (raised := self._next) is not None:
            self._next = None
            try:
                self._inbox.agree(await self._raise_generation())
            except Exception as error:
                raised.set_exception(Unavailable(f"no generation is agreed on: {error}"))
            else:
                raised.set_result(None)
            await asyncio.sleep(RAISE_EVERY_S)
        self._raising = None


def _seen(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()  # nobody may be waiting any more
