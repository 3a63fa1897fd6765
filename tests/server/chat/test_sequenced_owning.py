"""The sequenced store as shards come and go: what the simulation found, each on its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from chinwag.chat.v1 import connect_pb2, message_pb2
from chinwag_server.chat.channel import ChannelLog
from chinwag_server.chat.channels import Channels
from chinwag_server.chat.sends import Sent
from chinwag_server.chat.sequenced import schema
from chinwag_server.chat.sequenced.epoch import Epoch
from chinwag_server.chat.sequenced.memory import MemoryTables
from chinwag_server.chat.sequenced.store import SequencedStore
from chinwag_server.chat.sequenced.tables import Delete, Key, Put, Row, Table
from chinwag_server.chat.store import MemberRecord, StoreUnavailable
from chinwag_server.clock import SystemClock
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal
from tests.server.chat.rules import Room
from tests.server.chat.store_writes import BROADCAST, Author, commit


class Stay:
    """An epoch that lasts until it is ended."""

    shard = 1

    def __init__(self, number: int) -> None:
        self.number = number
        self.over = False

    def alive(self) -> bool:
        return not self.over


class SlowTables(MemoryTables):
    """Reads of a table wait for `gate`."""

    def __init__(self) -> None:
        super().__init__()
        self.slow: Table | None = None
        self.gate = asyncio.Event()

    async def read(
        self,
        table: Table,
        partition: Key,
        *,
        after: Key = (),
        to: Key = (),
        limit: int,
        newest_first: bool = False,
    ) -> list[Row]:
        if table is self.slow:
            await self.gate.wait()
        return await super().read(
            table, partition, after=after, to=to, limit=limit, newest_first=newest_first
        )


def open_store(tables: MemoryTables, epoch: Stay, *, max_open: int = 100) -> SequencedStore:
    def give_up(_epoch: Epoch, why: str) -> None:
        assert epoch.over, f"an epoch was given up without need: {why}"

    return SequencedStore(
        tables,
        lambda _channel_id: epoch,
        give_up,
        generation=5,
        clock=SystemClock(),
        max_open=max_open,
    )


async def noted(tables: MemoryTables) -> list[str]:
    """The channels on the shard's list."""
    return [str(row.key[0]) for row in await tables.read(schema.TOUCHED, (1,), limit=10)]


async def test_a_channel_leaves_the_list_once_it_was_told_of() -> None:
    tables = MemoryTables()
    await commit(open_store(tables, Stay(7)), Author("c1").create())
    told: list[tuple[str, int]] = []

    async def tell(channel_id: str, head_id: int) -> None:
        assert await noted(tables) == ["c1"]
        told.append((channel_id, head_id))

    assert await open_store(tables, epoch := Stay(8)).take_over_touched(epoch, tell) == ["c1"]
    assert told == [("c1", 1)]
    assert await noted(tables) == []


@pytest.mark.parametrize("caught_up", [True, False])
async def test_a_hand_over_empties_the_list_of_those_who_were_taken_over(caught_up: bool) -> None:
    tables = MemoryTables()
    await commit(open_store(tables, Stay(7)), Author("c1").create())
    store = open_store(tables, epoch := Stay(8))
    if caught_up:
        await store.take_over_touched(epoch)
    await commit(store, Author("c2").create())
    await store.hand_over(epoch)
    assert await noted(tables) == ([] if caught_up else ["c1", "c2"])


def lately(channel_id: str) -> Author:
    """A channel that is made now."""
    author = Author(channel_id)
    author.record.head_time_us = SystemClock().time_us()
    return author


async def test_what_was_told_a_moment_ago_is_left_to_the_next_owner_to_tell_again() -> None:
    # Found by seed 8440 of the simulation: who announced a channel died before all had heard.
    tables = MemoryTables()
    await commit(open_store(tables, Stay(7)), lately("c1").create())
    store = open_store(tables, epoch := Stay(8))
    assert await store.take_over_touched(epoch) == ["c1"]
    assert await noted(tables) == ["c1"]
    assert await open_store(tables, epoch := Stay(9)).take_over_touched(epoch) == ["c1"]


@pytest.mark.parametrize("is_taken_over", [True, False])
async def test_a_hand_over_leaves_what_was_told_a_moment_ago(is_taken_over: bool) -> None:
    tables = MemoryTables()
    store = open_store(tables, epoch := Stay(8))
    await commit(store, lately("new").create())
    await commit(store, Author("old").create())
    if is_taken_over:
        store = open_store(tables, epoch := Stay(9))
    await store.take_over_touched(epoch)
    await store.hand_over(epoch)
    assert await noted(tables) == ["new"]


async def test_a_channel_is_not_forgotten_while_it_is_taken_over() -> None:
    tables = SlowTables()
    writer = open_store(tables, Stay(7))
    for name in ("c1", "c2"):
        await commit(writer, Author(name).create())
    store = open_store(tables, Stay(8), max_open=1)
    tables.slow = schema.CHANNELS
    waiting = asyncio.ensure_future(store.channel("c1"))
    await asyncio.sleep(0)
    first = store._open["c1"]
    other = asyncio.ensure_future(store.channel("c2"))
    await asyncio.sleep(0)
    assert store._open["c1"] is first
    assert "c2" in store._open
    tables.gate.set()
    await asyncio.gather(waiting, other)
    await store.channel("c3")
    assert list(store._open) == ["c3"]


async def test_what_is_asked_before_a_channel_was_taken_over_is_answered_from_its_rows() -> None:
    tables = MemoryTables()
    room = Author("c1", ["u1", "u2"], BROADCAST)
    await commit(open_store(tables, Stay(7)), [*room.create(), *room.send("u1", "one")])

    def store() -> SequencedStore:
        return open_store(tables, Stay(8))

    # What is in memory of a channel may have outlived its sequencer: nothing says which of them is
    # read first. An owner of whom there was no row would be told that there is no such channel.
    for user in ("u1", "u2"):
        found = await store().member("c1", user)
        assert found is not None
        assert found.role
    assert [row.user_id for row in await store().member_page("c1", "", 9)] == ["u1", "u2"]
    assert sorted(row.user_id for row in await store().members("c1")) == ["u1", "u2"]
    left = store()
    left._sequencer("c1")
    assert [entry.id for entry in await left.entries("c1", 0, 9, 9, 9_999)] == [1, 2]


async def lost_meanwhile(
    channels: Channels, get: Callable[[], Awaitable[object]], is_lost: Callable[[str], bool]
) -> object:
    """Begins to read a channel, loses some, and gives what comes of it."""
    reading = asyncio.ensure_future(get())
    for _ in range(3):
        await asyncio.sleep(0)
    channels.forget(is_lost)
    return await asyncio.wait_for(reading, 5)


async def test_what_is_read_while_its_shard_goes_is_not_kept() -> None:
    tables = MemoryTables()
    store = open_store(tables, Stay(7))
    author = Author("c1")
    author.record.settings = b""
    await commit(store, author.create())
    gate = asyncio.Event()
    members = store.members

    async def slow_members(channel_id: str) -> list[MemberRecord]:
        rows = await members(channel_id)
        asyncio.get_running_loop().call_later(0.01, gate.set)
        await gate.wait()
        return rows

    store.members = slow_members  # type: ignore[method-assign]
    channels = Channels(store)
    with pytest.raises(StoreUnavailable, match="retry"):
        await lost_meanwhile(channels, lambda: channels.get("c1"), lambda name: name == "c1")
    assert channels.loaded("c1") is None
    gate.clear()
    assert await lost_meanwhile(channels, lambda: channels.get("c1"), lambda name: name == "c2")
    log = channels.loaded("c1")
    assert log is not None
    channels.forget(lambda name: name == "c1")
    assert log.dead
    assert channels.loaded("c1") is None


async def test_who_asks_as_a_channel_was_read_and_dropped_reads_it_again() -> None:
    store = open_store(MemoryTables(), Stay(7))
    author = Author("c1")
    author.record.settings = b""
    await commit(store, author.create())
    channels = Channels(store)
    adopt = channels.adopt
    dropped = asyncio.Event()

    async def ask() -> ChannelLog | None:
        # Goes on after the reading task has ended, and before those who wait for it do.
        await dropped.wait()
        return await channels.get("c1")

    def adopt_and_drop(log: ChannelLog) -> ChannelLog:
        channels.adopt = adopt  # type: ignore[method-assign]
        adopt(log)
        dropped.set()
        channels.drop(log)
        return log

    channels.adopt = adopt_and_drop  # type: ignore[method-assign]
    later = asyncio.ensure_future(ask())
    await asyncio.sleep(0)
    first = await asyncio.wait_for(channels.get("c1"), 5)
    assert first is not None
    assert not first.dead
    assert await asyncio.wait_for(later, 5) is first


class StuckTables(MemoryTables):
    """Entries of `stuck` are not written before `gate` opens."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck = ""
        self.reached = asyncio.Event()
        self.gate = asyncio.Event()

    async def write(self, writes: Sequence[Put | Delete]) -> None:
        rows = [w.partition[0] for w in writes if isinstance(w, Put) and w.table is schema.ENTRIES]
        if self.stuck in rows:
            self.reached.set()
            await self.gate.wait()
        await super().write(writes)


async def test_a_channel_that_its_last_owner_was_about_to_make_is_not_made_later() -> None:
    tables = StuckTables()
    tables.stuck = "c1"
    left = open_store(tables, first := Stay(7))
    making = asyncio.ensure_future(commit(left, Author("c1").create()))
    await asyncio.wait_for(tables.reached.wait(), 5)
    first.over = True
    # Its members would hear of it by nobody: the list says what to tell, and it is emptied.
    assert await open_store(tables, epoch := Stay(8)).take_over_touched(epoch) == []
    tables.gate.set()
    with pytest.raises(StoreUnavailable):
        await making
    assert await open_store(tables, Stay(9)).channel("c1") is None


async def test_a_channel_waits_for_no_other_of_the_same_frame() -> None:
    tables = StuckTables()
    room = Room(open_store(tables, Stay(7)))
    first = await room.group("ann", "bob")
    tables.stuck = await room.group("ann", "bob")
    told: list[tuple[str, int]] = []
    answers: list[asyncio.Future[Sent | Refusal]] = []
    room.room.channels.on_entry = lambda log, entry: told.append((log.id, entry.id))

    async def send(*channel_ids: str) -> None:
        loop = asyncio.get_running_loop()
        some: list[asyncio.Future[Sent | Refusal]] = [loop.create_future() for _ in channel_ids]
        answers.extend(some)
        requests = [
            connect_pb2.SendMessageRequest(
                channel_id=channel_id,
                client_message_id=room.message_id(),
                content=message_pb2.MessageContent(text="hello"),
            )
            for channel_id in channel_ids
        ]
        await room.room.streams.sends.send(
            Caller("ann", "ann-1"), requests, lambda index, sent: some[index].set_result(sent)
        )

    await send(first, tables.stuck)
    await asyncio.wait_for(answers[0], 5)
    await send(first)
    await asyncio.wait_for(answers[2], 5)
    assert told == [(first, 2), (first, 3)]
    tables.gate.set()
    await asyncio.wait_for(answers[1], 5)
    log = room.room.channels.loaded(first)
    assert log is not None
    assert log.committed_id == 3
    assert told == [(first, 2), (first, 3), (tables.stuck, 2)]
