"""The inbox in Redis: a sorted set a user, and a marker that says whether all of it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from chinwag_server.mesh.inbox import Change, Changes, RaiseGeneration, Stamp
from chinwag_server.mesh.redis.batcher import Batcher
from chinwag_server.mesh.redis.inbox_scripts import (
    CHANGED,
    CLAIM,
    CLAIM_GENERATION,
    NOW,
    OK,
    TOUCH,
)
from chinwag_server.mesh.redis.link import RedisLink, Script
from chinwag_server.mesh.unavailable import Unavailable

MAX_BATCH = 500  # users in one script, about 2 ms of Redis's time
MAX_WAITING = 20_000
CLAIM_MS = 500  # only one node in this time raises a lost generation
CLAIM_POLL_S = 0.05
DAY_MS = 86_400_000


class RedisInbox:
    """One node's access to the inboxes.

    Args:
        link: To a Redis whose user may run scripts and INFO.
        generation: The agreed one, as far as it is known; 0: it is not.
        timeout_s: No call waits longer. Above `CLAIM_MS`, else a loss that one node fails to mend
            shows at others.
        max_channels: Kept a user.
        keep_days: For how long a device may be away and still learn only what changed.
        prefix: Of the keys.
    """

    def __init__(
        self,
        link: RedisLink,
        raise_generation: RaiseGeneration,
        *,
        generation: int = 0,
        timeout_s: float = 2.0,
        max_channels: int = 5000,
        keep_days: int = 30,
        prefix: str = "cw:inbox",
    ) -> None:
        self._link = link
        self._raise_generation = raise_generation
        self._agreed = generation
        self._timeout_s = timeout_s
        self._max_channels = max_channels
        self._keep_days = keep_days
        # A user's id follows "u:", so that none has the marker's key.
        self._users = f"{prefix}:u:"
        self._state = (f"{prefix}:marker", f"{prefix}:claim")
        self._claiming: asyncio.Task[Exception | None] | None = None
        self._touches: Batcher[tuple[tuple[str, ...], str], None] = Batcher(
            "inbox", self._touch, most=MAX_BATCH, waiting=MAX_WAITING, timeout_s=timeout_s
        )

    async def touch(self, user_ids: Collection[str], channel_id: str) -> None:
        users = tuple(user_ids)
        parts = [users[at : at + MAX_BATCH] for at in range(0, len(users), MAX_BATCH)]
        await asyncio.gather(*(self._touches.put((part, channel_id), len(part)) for part in parts))

    async def changed_since(self, user_id: str, stamp: Stamp, limit: int) -> Changes:
        # Keys live a day longer: a set that is gone has nothing that a stamp of the days misses.
        max_age_us = self._keep_days * DAY_MS * 1000
        arguments = (stamp.generation, stamp.time_us, max_age_us, limit)
        reply = await self._run(CHANGED, [self._users + user_id], arguments)
        _, generation, now_us, complete, found = reply
        pairs = zip(found[::2], found[1::2], strict=True)
        changes = [Change(channel.decode(), int(float(score))) for channel, score in pairs]
        more = len(changes) > limit
        changes = changes[:limit]
        next_us = changes[-1].time_us if more else now_us
        return Changes(bool(complete), tuple(changes), more, Stamp(generation, next_us))

    async def now(self) -> Stamp:
        _, generation, now_us = await self._run(NOW, [], ())
        return Stamp(generation, now_us)

    async def generation(self) -> int:
        return (await self.now()).generation

    def agree(self, generation: int) -> None:
        self._agreed = max(self._agreed, generation)

    async def _touch(self, touches: Sequence[tuple[tuple[str, ...], str]]) -> list[None]:
        # Without what is there twice, in its order.
        pairs = dict.fromkeys((user, channel) for users, channel in touches for user in users)
        keys = [self._users + user for user, _ in pairs]
        channels = [channel for _, channel in pairs]
        keep_ms = (self._keep_days + 1) * DAY_MS
        await self._run(TOUCH, keys, (keep_ms, self._max_channels, *channels))
        return [None] * len(touches)

    async def _run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | int]
    ) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    rest = (self._agreed, CLAIM_MS, *arguments)
                    reply = await self._link.run(script, [*self._state, *keys], rest)
                    if reply[0] == OK:
                        self.agree(reply[1])
                        return reply
                    if reply[0] == CLAIM:
                        await self._claim()
                    else:
                        await asyncio.sleep(CLAIM_POLL_S)
        except TimeoutError:
            raise Unavailable(
                "the inbox was lost, and its generation was not raised within "
                f"{self._timeout_s:g} s: look whether etcd answers"
            ) from None

    async def _claim(self) -> None:
        """Raises the generation, as one task: whoever waits for it may give up."""
        if self._claiming is None:
            self._claiming = asyncio.create_task(self._raise())
        error = await asyncio.shield(self._claiming)
        if error is not None:
            raise Unavailable(
                f"the inbox was lost, and its generation cannot be raised: {error}"
            ) from error

    async def _raise(self) -> Exception | None:
        try:
            raised = await self._raise_generation()
            # Agreed already, whether or not Redis learns of it now.
            self.agree(raised)
            self.agree(await self._link.run(CLAIM_GENERATION, [self._state[0]], (raised,)))
        except Exception as error:
            return error
        finally:
            self._claiming = None
        return None
