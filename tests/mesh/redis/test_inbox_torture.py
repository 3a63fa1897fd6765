"""Nodes touch and devices ask while Redis is killed, wiped, frozen and failed over: no answer that
says "complete" lacks a touch that was acked before."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import count

import pytest

from chinwag_server.mesh.inbox import Inbox, Stamp
from chinwag_server.mesh.redis import RedisInbox
from chinwag_server.mesh.unavailable import Unavailable
from tests.mesh.inbox_contract import Agreement
from tests.mesh.redis.conftest import OpenLink, StartRedis
from tools.engines.redis import Redis

RUN_S = 4.0
USERS = [f"u{number}" for number in range(5)]
CHANNELS = [f"c{number}" for number in range(12)]
ENTRIES = count(1)


@dataclass
class Run:
    """What happened, and until when more does.

    Attributes:
        logged: The entries of each channel: they are in the log before the touch.
        acked: Those of them that each (user, channel) was touched for.
    """

    chance: random.Random
    until_s: float
    logged: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    acked: defaultdict[tuple[str, str], set[int]] = field(default_factory=lambda: defaultdict(set))
    answers: Counter[str] = field(default_factory=Counter)

    @property
    def over(self) -> bool:
        return time.monotonic() > self.until_s

    async def pause(self) -> None:
        await asyncio.sleep(self.chance.random() * 0.01)


async def own(run: Run, inbox: Inbox) -> None:
    """Logs an entry and touches, again until it is taken, as an owner before its ack."""
    while not run.over:
        users, channel = run.chance.sample(USERS, 3), run.chance.choice(CHANNELS)
        entry = next(ENTRIES)
        run.logged[channel].add(entry)
        while not run.over:
            try:
                await inbox.touch(users, channel)
            except Unavailable:
                run.answers["untouched"] += 1
                await run.pause()
            else:
                for user in users:
                    run.acked[user, channel].add(entry)
                break
        await run.pause()


async def ask(run: Run, inboxes: list[RedisInbox], user_id: str) -> None:
    """A device that comes back again and again, each time to any node."""
    stamp, known = Stamp(0, 0), {channel: set[int]() for channel in CHANNELS}
    while not run.over:
        acked = {channel: set(run.acked[user_id, channel]) for channel in CHANNELS}
        try:
            changes = await run.chance.choice(inboxes).changed_since(user_id, stamp, 3)
        except Unavailable:
            run.answers["unavailable"] += 1
            await run.pause()
            continue
        stamp = changes.stamp
        # What it learns of, it reads from the log.
        told = [change.channel_id for change in changes.changes] if changes.complete else CHANNELS
        for channel in told:
            known[channel] |= run.logged[channel]
        if changes.more:
            continue
        run.answers["complete" if changes.complete else "incomplete"] += 1
        for channel in CHANNELS:
            missing = acked[channel] - known[channel]
            assert not missing, f"{user_id} was not told of {channel}: {changes}"
        # Now and then it is away for longer than its inbox holds.
        await asyncio.sleep(run.chance.choice((0.0, 0.005, 0.01, 0.2)))


async def break_things(run: Run, redis: Redis) -> None:
    """Kills, wipes and freezes."""
    while not run.over:
        await asyncio.sleep(run.chance.uniform(0.1, 0.4))
        fault = run.chance.choice(("kill", "wipe", "wipe", "freeze"))
        run.answers[fault] += 1
        if fault == "kill":
            redis.kill()
            await asyncio.sleep(0.1)
            redis.child.start()
        elif fault == "wipe":
            with redis.client() as client:
                client.flushall()
        else:
            redis.freeze()
            await asyncio.sleep(run.chance.uniform(0.1, 0.8))
            redis.thaw()


async def fail_over(run: Run, primary: Redis, replica: Redis) -> None:
    """Kills the primary under load, when the replica lacks what was acked last."""
    await asyncio.sleep(RUN_S / 2)
    replica.promote()
    await asyncio.sleep(0.1)
    primary.kill()
    run.answers["fail over"] += 1


async def open_nodes(url: str, open_link: OpenLink, agreement: Agreement) -> list[RedisInbox]:
    return [
        RedisInbox(await open_link(url), agreement.raise_generation, max_channels=8)
        for _ in range(3)
    ]


def work(run: Run, inboxes: list[RedisInbox]) -> list[asyncio.Task[None]]:
    owners = [own(run, inbox) for inbox in inboxes]
    devices = [ask(run, inboxes, user) for user in USERS for _ in range(2)]
    return [asyncio.create_task(each) for each in (*owners, *devices)]


@pytest.mark.parametrize("seed", [1, 2])
async def test_faults(
    start_redis: StartRedis, open_link: OpenLink, agreement: Agreement, seed: int
) -> None:
    redis = start_redis()
    inboxes = await open_nodes(redis.url, open_link, agreement)
    run = Run(random.Random(seed), time.monotonic() + RUN_S)
    await asyncio.gather(*work(run, inboxes), break_things(run, redis))
    assert run.answers["complete"] > 50, run.answers
    assert run.answers["incomplete"] > 5, run.answers


async def test_a_fail_over(
    start_redis: StartRedis, open_link: OpenLink, agreement: Agreement
) -> None:
    primary = start_redis()
    replica = start_redis(primary=primary)
    url = f"redis://127.0.0.1:{primary.port},127.0.0.1:{replica.port}/0"
    inboxes = await open_nodes(url, open_link, agreement)
    run = Run(random.Random(3), time.monotonic() + RUN_S)
    await asyncio.gather(*work(run, inboxes), fail_over(run, primary, replica))
    assert run.answers["complete"] > 50, run.answers
    assert agreement.raises == 2
