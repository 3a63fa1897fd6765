"""Following the log of account events."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable

import pytest

from chinwag.account.v1 import events_pb2, user_pb2
from chinwag_server.account import events
from chinwag_server.account.memory import MemoryAccountStore
from chinwag_server.account.records import (
    RelationRecord,
    RelationState,
    SessionRecord,
    TrimEvents,
    UserRecord,
)
from chinwag_server.account.watch import Watchers
from tests.server.account.clock import START_US, FakeClock

NONE, FRIEND = RelationState.NONE, RelationState.FRIEND
BY_ME, BY_THEM = RelationState.REQUESTED_BY_ME, RelationState.REQUESTED_BY_THEM


class Log:
    """A user's log, and somebody who follows it."""

    def __init__(self) -> None:
        self.store = MemoryAccountStore(generation=0xABC)
        self.watchers = Watchers(self.store, FakeClock())
        self.told: list[events_pb2.AccountEvent] = []
        self.reached: list[str] = []

    async def happen(self, *blocked: str, user_id: str = "ann", keep: int = 1000) -> None:
        user = await self.store.user(user_id) or UserRecord(user_id)
        happened = [
            events_pb2.AccountEvent(
                user_blocked=events_pb2.UserBlocked(
                    block=user_pb2.Block(user=user_pb2.User(id=other))
                )
            )
            for other in blocked
        ]
        user, writes = events.append(user, START_US, happened, keep=keep)
        await self.store.commit(user, writes)
        self.watchers.wake(user_id)

    def cursor(self, event_id: int, user_id: str = "ann", generation: int = 0xABC) -> str:
        return events.cursor(generation, user_id, event_id)

    def follow(self, cursor: str = "", *, device_id: str = "d1", window: int = 0):  # type: ignore[no-untyped-def]
        return self.watchers.subscribe(
            "ann", device_id, cursor, self.told.append, window=window, reached=self.reached.append
        )

    @property
    def seen(self) -> list[str]:
        return [
            "reset" if event.HasField("reset") else event.user_blocked.block.user.id
            for event in self.told
        ]


@pytest.fixture
async def log() -> AsyncIterator[Log]:
    log = Log()
    await log.happen("b1", "b2", "b3")
    yield log
    await log.watchers.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.001)


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_first_what_is_missing_then_what_happens(log: Log) -> None:
    log.follow(log.cursor(1))
    await until(lambda: bool(log.reached))
    assert log.seen == ["b2", "b3"]
    assert log.reached == [log.cursor(3)]
    assert [event.id for event in log.told] == [2, 3]
    assert log.told[-1].cursor == log.cursor(3)
    assert log.told[-1].create_time.ToMicroseconds() == START_US
    await log.happen("b4")
    await until(lambda: len(log.told) == 3)
    assert log.seen[-1] == "b4"
    assert len(log.reached) == 1


async def test_without_a_cursor_it_starts_with_a_reset(log: Log) -> None:
    log.follow()
    await until(lambda: bool(log.reached))
    assert log.seen == ["reset"]
    assert log.told[0].id == 3
    assert log.told[0].cursor == log.cursor(3)
    await log.happen("b4")
    await until(lambda: len(log.told) == 2)
    assert log.told[1].id == 4


@pytest.mark.parametrize("cursor", ["junk", "", "1.2.3", "..", "zz.zz.zz"])
async def test_a_cursor_that_says_nothing_is_a_reset(log: Log, cursor: str) -> None:
    log.follow(cursor)
    await until(lambda: bool(log.reached))
    assert log.seen == ["reset"]


async def test_so_is_one_of_another_store_another_user_or_the_future(log: Log) -> None:
    for cursor in (log.cursor(1, generation=1), log.cursor(1, "bob"), log.cursor(99)):
        log.told.clear()
        log.reached.clear()
        log.follow(cursor)
        await until(lambda: bool(log.reached))
        assert log.seen == ["reset"]


async def test_so_is_one_whose_events_are_not_kept(log: Log) -> None:
    user = await log.store.user("ann")
    assert user is not None
    await log.store.commit(user, [TrimEvents("ann", 2)])
    log.follow(log.cursor(1))
    await until(lambda: bool(log.reached))
    assert log.seen == ["reset"]
    log.told.clear()
    log.follow(log.cursor(2))
    await until(lambda: bool(log.told))
    assert log.seen == ["b3"]


async def test_the_head_is_known_when_all_events_are_gone(log: Log) -> None:
    await log.store.expire(before_us=0, events_before_us=START_US + 1, limit=100)
    log.follow(log.cursor(3))
    await until(lambda: bool(log.reached))
    assert log.seen == []
    log.follow(log.cursor(2))
    await until(lambda: bool(log.told))
    assert log.seen == ["reset"]


async def test_a_log_that_is_cut_behind_a_slow_reader_is_a_reset(log: Log) -> None:
    subscription = log.follow(log.cursor(0), window=2)
    await until(lambda: len(log.told) == 2)
    await log.happen(*(f"x{number}" for number in range(200)), keep=10)
    await settled()
    assert len(log.told) == 2
    subscription.release(2)
    await until(lambda: bool(log.reached))
    assert log.seen[2:] == ["reset"]


async def test_at_most_a_window_is_told_unacked(log: Log) -> None:
    await log.happen(*(f"x{number}" for number in range(20)))
    subscription = log.follow(log.cursor(0), window=5)
    await until(lambda: len(log.told) == 5)
    await settled()
    assert len(log.told) == 5
    subscription.release(3)
    await until(lambda: len(log.told) == 8)
    subscription.release(99)
    await settled()
    assert len(log.told) == 8
    subscription.release(8)
    await until(lambda: len(log.told) == 13)
    subscription.release(13)
    subscription.release(13)
    await until(lambda: len(log.told) == 18)
    assert log.reached == []
    subscription.release(18)
    await until(lambda: bool(log.reached))  # with a full window too
    assert [event.id for event in log.told] == list(range(1, 24))


async def test_many_followers_see_the_same_under_load(log: Log) -> None:
    log.store._delay = 0.0005
    told: list[list[int]] = [[] for _ in range(5)]
    for mine in told:

        def tell(event: events_pb2.AccountEvent, mine: list[int] = mine) -> None:
            mine.append(event.id)

        log.watchers.subscribe("ann", "", log.cursor(0), tell)
    for number in range(50):
        await log.happen(f"x{number}", f"y{number}")
    await until(lambda: all(len(mine) == 103 for mine in told))
    assert all(mine == list(range(1, 104)) for mine in told)


async def test_closed_it_tells_nothing(log: Log) -> None:
    subscription = log.follow(log.cursor(3))
    await until(lambda: bool(log.reached))
    subscription.close()
    await log.happen("b4")
    await settled()
    assert log.told == []
    assert len(log.watchers) == 0


async def test_one_that_closes_itself_while_it_is_told(log: Log) -> None:
    seen: list[int] = []

    def tell(data: bytes) -> None:
        seen.append(events_pb2.AccountEvent.FromString(data).id)
        stop()

    stop = log.watchers.watch("ann", "d1", log.cursor(0), tell)
    await settled()
    await log.happen("b4")
    await settled()
    assert len(seen) <= 3
    assert len(log.watchers) == 0


async def test_people_in_events_are_as_they_are_now(log: Log) -> None:
    await log.store.commit(UserRecord("b3", username="bea", create_time_us=1, update_time_us=1))
    log.follow(log.cursor(1))
    await until(lambda: bool(log.reached))
    gone, known = (event.user_blocked.block.user for event in log.told)
    assert gone == user_pb2.User(id="b2", deleted=True)
    assert known.username == "bea"
    assert known.display_name == "bea"


# --- acks ---


async def test_an_ack_is_where_the_device_goes_on(log: Log) -> None:
    user = await log.store.user("ann")
    assert user is not None
    await log.store.commit(user, [SessionRecord("ann", "d1", expire_time_us=1 << 60)])
    log.watchers.ack("ann", "d1", 1)
    log.watchers.ack("ann", "d1", 2)
    log.watchers.ack("ann", "d1", 1)
    log.follow()
    await until(lambda: bool(log.reached))
    assert log.seen == ["b3"]
    await log.watchers.stop()
    session = await log.store.session("ann", "d1")
    assert session is not None
    assert session.acked_event_id == 2
    log.watchers = Watchers(log.store, FakeClock())
    log.told.clear()
    log.follow()
    await until(lambda: bool(log.told))
    assert log.seen == ["b3"]


async def test_an_ack_survives_a_change_that_comes_between(log: Log) -> None:
    user = await log.store.user("ann")
    assert user is not None
    await log.store.commit(user, [SessionRecord("ann", "d1", expire_time_us=1 << 60)])
    log.store._delay = 0.001
    log.watchers.ack("ann", "d1", 3)
    await asyncio.gather(log.watchers.stop(), log.happen("b4"))
    session = await log.store.session("ann", "d1")
    assert session is not None
    assert session.acked_event_id == 3
    assert (await log.store.events("ann", 3, 1))[0].id == 4


# --- what a change of a relation tells ---


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (NONE, NONE, []),
        (NONE, BY_ME, ["friend_request_made"]),
        (NONE, BY_THEM, ["friend_request_made"]),
        (NONE, FRIEND, ["friend_added"]),
        (BY_ME, FRIEND, ["friend_added"]),
        (BY_THEM, NONE, ["friend_request_closed"]),
        (BY_ME, BY_THEM, ["friend_request_closed", "friend_request_made"]),
        (FRIEND, NONE, ["friend_removed"]),
        (FRIEND, BY_ME, ["friend_removed", "friend_request_made"]),
        (FRIEND, FRIEND, []),
    ],
)
def test_events_of_a_relation(old: RelationState, new: RelationState, told: list[str]) -> None:
    before = RelationRecord("ann", "bob", old, 1, START_US)
    after = dataclasses.replace(before, state=new, revision=2)
    found = events.of_relation(before, after)
    assert [event.WhichOneof("event") for event in found] == told
