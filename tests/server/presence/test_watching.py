"""What watchers are told, when, and how often."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from chinwag.presence.v1 import presence_pb2 as pb
from chinwag_server.presence.states import (
    AWAY,
    DO_NOT_DISTURB,
    OFFLINE,
    ONLINE,
    Status,
)
from chinwag_server.rpc.errors import Refusal
from tests.server.presence.people import NOBODY, Stage, friend, in_channel

ACTIVE = pb.Activity(state=pb.ACTIVITY_STATE_ACTIVE)
BACKGROUND = pb.Activity(state=pb.ACTIVITY_STATE_BACKGROUND)


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.people.befriend("ann", "bob")
    stage.people.befriend("ann", "cid")
    return stage


async def test_a_snapshot_and_then_changes(stage: Stage) -> None:
    ann = stage.watcher("ann")
    await ann.watch(friend("bob"), friend("cid"))
    assert [change.snapshot for change in ann.frames[0]] == [True, True]
    assert ann.take() == [("bob", OFFLINE), ("cid", OFFLINE)]
    here = stage.devices.came("bob", "phone")
    await stage.after(0)
    assert not ann.frames[0][0].snapshot
    assert ann.take() == [("bob", ONLINE)]
    stage.devices.gone(here, at_once=True)
    await stage.after(10)
    assert ann.take() == [("bob", OFFLINE)]


async def test_one_change_a_user_in_ten_seconds_and_the_newest(stage: Stage) -> None:
    ann = stage.watcher("ann")
    await ann.watch(friend("bob"))
    ann.take()
    here = stage.devices.came("bob", "phone")
    await stage.after(0)
    assert ann.take() == [("bob", ONLINE)]
    for activity in (BACKGROUND, ACTIVE, BACKGROUND):
        stage.devices.report(here, activity)
        await stage.after(2)
    assert ann.take() == []
    await stage.after(4)
    assert ann.take() == [("bob", AWAY)]
    # One that flaps and is as it was told of is not told of again.
    stage.devices.report(here, ACTIVE)
    stage.devices.report(here, BACKGROUND)
    await stage.after(20)
    assert ann.take() == []


async def test_all_that_changes_at_once_is_one_frame(stage: Stage) -> None:
    stage.people.users |= {f"u{number}" for number in range(1000)}
    stage.people.channels["all"] = sorted(stage.people.users)
    ann = stage.watcher("ann")
    await ann.watch(*(in_channel(f"u{number}", "all") for number in range(400)))
    ann.take()
    for number in range(400):
        stage.devices.came(f"u{number}", "phone")
    await stage.after(0)
    assert len(ann.frames) == 1
    assert len(ann.frames[0]) == 400


async def test_a_ground_that_does_not_hold(stage: Stage) -> None:
    stage.people.channels["pair"] = ["ann", "dan"]
    ann = stage.watcher("ann")
    await ann.watch(
        friend("dan"),
        in_channel("bob", "pair"),
        friend("nobody"),
        pb.Watch(user_id="cid"),
        pb.Watch(user_id="bob", self=True),
    )
    assert sorted(ann.take()) == [
        ("bob", "NO_COMMON_GROUND"),
        ("cid", "INVALID_FIELD"),
        ("dan", "NO_COMMON_GROUND"),
        ("nobody", "NO_COMMON_GROUND"),
    ]
    assert len(ann.watcher) == 0
    assert len(stage.watching) == 0
    await ann.watch(in_channel("dan", "pair"))
    assert ann.take() == [("dan", OFFLINE)]


async def test_a_ground_that_goes_ends_the_watch(stage: Stage) -> None:
    ann = stage.watcher("ann")
    stage.devices.came("bob", "phone")
    await ann.watch(friend("bob"))
    ann.take()
    stage.people.friends.clear()
    stage.watching.changed("bob")
    await stage.after(0)
    assert ann.take() == [("bob", "NO_COMMON_GROUND")]
    stage.devices.came("bob", "laptop")
    await stage.after(60)
    assert ann.take() == []


async def test_privacy_and_blocks_look_like_offline(stage: Stage) -> None:
    people = stage.people
    people.channels["pair"] = ["ann", "dan"]
    stage.devices.came("dan", "phone")
    ann = stage.watcher("ann")
    await ann.watch(in_channel("dan", "pair"))
    assert ann.take() == [("dan", ONLINE)]
    changes: list[tuple[Callable[[], object], Callable[[], object]]] = [
        (lambda: people.blocks.add(frozenset(("ann", "dan"))), people.blocks.clear),
        (lambda: people.audience.update(dan=NOBODY), people.audience.clear),
        (
            lambda: people.status.update(dan=Status(pb.PRESENCE_MODE_INVISIBLE, 1)),
            people.status.clear,
        ),
    ]
    for hide, show in changes:
        hide()
        stage.watching.changed("dan")
        await stage.after(10)
        assert ann.take() == [("dan", OFFLINE)]
        show()
        stage.watching.changed("dan")
        await stage.after(10)
        assert ann.take() == [("dan", ONLINE)]


async def test_what_ends_by_itself_is_told(stage: Stage) -> None:
    until_us = stage.clock.now_us + 60_000_000
    stage.people.status["bob"] = Status(pb.PRESENCE_MODE_DO_NOT_DISTURB, 1, until_us)
    stage.devices.came("bob", "phone")
    ann = stage.watcher("ann")
    await ann.watch(friend("bob"))
    assert ann.take() == [("bob", DO_NOT_DISTURB)]
    await stage.after(59)
    assert ann.take() == []
    await stage.after(1)
    assert ann.take() == [("bob", ONLINE)]


async def test_oneself(stage: Stage) -> None:
    stage.people.status["ann"] = Status(pb.PRESENCE_MODE_INVISIBLE, 1, text="hm")
    stage.devices.came("ann", "phone")
    ann = stage.watcher("ann")
    await ann.watch(pb.Watch(user_id="ann", self=True))
    (change,) = ann.frames[0]
    assert change.presence.state == OFFLINE
    assert change.own.state == ONLINE
    assert change.own.status.text == "hm"
    assert [device.device_id for device in change.own.devices] == ["phone"]
    # Others of one's devices are a change for oneself alone.
    ann.take()
    stage.devices.came("ann", "laptop")
    await stage.after(10)
    assert [device.device_id for device in ann.frames[0][0].own.devices] == ["phone", "laptop"]


async def test_a_change_during_the_snapshot_is_not_lost(stage: Stage) -> None:
    ann = stage.watcher("ann")
    watching = asyncio.ensure_future(ann.watch(friend("bob")))
    await asyncio.sleep(0)  # it has read who is connected, and waits for the profiles
    stage.devices.came("bob", "phone")
    await stage.watching.flush()
    await watching
    await stage.after(0)
    assert ann.take()[-1] == ("bob", ONLINE)


async def test_what_cannot_be_read_is_refused_and_changes_nothing(stage: Stage) -> None:
    ann = stage.watcher("ann")
    await ann.watch(friend("bob"))
    ann.take()
    stage.people.is_down = True
    with pytest.raises(Refusal, match="down"):
        await ann.watch(friend("bob"), friend("cid"))
    assert list(ann.watcher.watches) == ["bob"]
    stage.devices.came("bob", "phone")
    await stage.after(0)
    assert ann.take() == []
    stage.people.is_down = False
    await stage.after(1)
    assert ann.take() == [("bob", ONLINE)]


async def test_unwatch_replace_and_close(stage: Stage) -> None:
    ann, cid = stage.watcher("ann"), stage.watcher("cid")
    stage.people.befriend("cid", "bob")
    await ann.watch(friend("bob"), friend("cid"))
    await cid.watch(friend("bob"))
    ann.take(), cid.take()
    stage.watching.unwatch(ann.watcher, ["bob", "nobody"])
    stage.devices.came("bob", "phone")
    await stage.after(0)
    assert (ann.take(), cid.take()) == ([], [("bob", ONLINE)])
    stage.watching.clear(ann.watcher)
    stage.watching.close(cid.watcher)
    assert len(stage.watching) == 0
    assert not stage.watching._told_at
    assert not stage.watching._due_at


@pytest.mark.parametrize("seed", range(10))
async def test_in_the_end_watchers_know_what_is(seed: int) -> None:
    stage = Stage()
    rng = random.Random(seed)
    users = ["ann", "bob", "cid", "dan"]
    stage.people.channels["all"] = users
    viewers = {user: stage.watcher(user) for user in users}
    shown: dict[tuple[str, str], int] = {}
    told_at: dict[tuple[str, str], float] = {}
    here = []

    def take() -> None:
        now = stage.clock.monotonic()
        for viewer, one in viewers.items():
            for frame in one.frames:
                for change in frame:
                    key = (viewer, change.presence.user_id)
                    shown[key] = change.presence.state
                    if not change.snapshot:
                        assert now - told_at.get(key, -10) >= 10
                        told_at[key] = now
            one.frames.clear()

    for user in users:
        await viewers[user].watch(*(in_channel(other, "all") for other in users if other != user))
    for _ in range(300):
        act = rng.random()
        if act < 0.3:
            here.append(stage.devices.came(rng.choice(users), rng.choice("12")))
        elif act < 0.5 and here:
            stage.devices.report(rng.choice(here), rng.choice([ACTIVE, BACKGROUND]))
        elif act < 0.7 and here:
            stage.devices.gone(here.pop(rng.randrange(len(here))), at_once=rng.random() < 0.5)
        await stage.after(rng.choice([0, 0.5, 3, 20]))
        take()
    await stage.after(30)
    take()
    for viewer in users:
        for other in users:
            if other != viewer:
                assert shown[viewer, other] == stage.devices.of(other).state
