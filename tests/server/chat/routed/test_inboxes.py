"""No ack while an inbox could say that nothing changed: what happens while the inboxes are away."""

from __future__ import annotations

import asyncio

from chinwag_server.chat.routed.inboxes import RAISE_EVERY_S, Inboxes
from chinwag_server.clock import SystemClock
from chinwag_server.mesh.memory_inbox import InboxServer, MemoryInbox
from chinwag_server.mesh.unavailable import Unavailable


class Away:
    """Inboxes that are away, and a generation that is slow to raise."""

    def __init__(self) -> None:
        self.generation = 1
        self.raises = 0
        self.fails = False
        self.takes_s = 0.0
        server = InboxServer(SystemClock())
        server.away = True
        self.inboxes = Inboxes(MemoryInbox(server, self.lift), self.lift, SystemClock())

    async def lift(self) -> int:
        self.raises += 1
        await asyncio.sleep(self.takes_s)
        if self.fails:
            raise Unavailable("etcd is away")
        self.generation += 1
        return self.generation


async def test_who_comes_between_two_raises_waits_for_the_next_one() -> None:
    away = Away()
    async with asyncio.timeout(5.0):
        await away.inboxes.touch("c", ["ann"])
        # The first raise is over, and the next one may not begin yet.
        away.takes_s = 2 * RAISE_EVERY_S
        await asyncio.gather(*(touch_after(away, n * RAISE_EVERY_S / 3) for n in range(20)))
    assert away.raises <= 9  # shared, one at a time


async def test_all_who_wait_are_told_that_it_fails() -> None:
    away = Away()
    away.fails = True
    async with asyncio.timeout(5.0):
        for _ in range(3):
            outcomes = await asyncio.gather(
                *(touch_after(away, n * RAISE_EVERY_S / 3) for n in range(10)),
                return_exceptions=True,
            )
            assert [type(outcome) for outcome in outcomes] == [Unavailable] * 10
        away.fails = False
        await away.inboxes.touch("c", ["ann"])


async def touch_after(away: Away, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await away.inboxes.touch("c", ["ann"])
