"""A catch-up while its channel goes on: what it read a moment ago may be too little or too much."""

from __future__ import annotations

import dataclasses

import pytest

from chinwag.chat.v1 import channel_pb2, connect_pb2
from chinwag_server.chat import catchup
from chinwag_server.chat.catchup import Progress, Wanted
from chinwag_server.chat.memory import MemoryChatStore
from chinwag_server.chat.store import ChannelRecord, StoreUnavailable
from tests.server.chat.rules import Room, cursors, reason_of, settle


async def catch_up(room: Room, progress: Progress, channel_id: str, at: int) -> list[str]:
    """What bob's device at an entry is given, as far as it tells of entries."""
    (cursor,) = cursors((channel_id, at))
    found: list[str] = []
    pieces = room.room.streams.catch_up.pieces("bob", Wanted({channel_id: cursor}), progress)
    async for piece in pieces:
        for event in connect_pb2.ConnectResponse.FromString(piece.take()).events:
            if event.HasField("entry"):
                found.append(str(event.entry.id))
            elif event.HasField("gap"):
                found.append(f"gap {event.gap.from_id}-{event.gap.to_id}")
    return found


async def test_who_goes_and_comes_back_meanwhile_does_not_see_what_was_between(
    alone: Room, memory: MemoryChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    since_joining = channel_pb2.HISTORY_VISIBILITY_SINCE_JOINING
    group = await alone.group("ann", "bob", history_visibility=since_joining)
    (row,) = await memory.user_channels("bob")
    before = dataclasses.replace(row[0]), dataclasses.replace(row[1])
    await alone.call("ann", "RemoveMember", channel_id=group, user_id="bob")
    await alone.send("ann", group, "not for bob")
    await alone.call("ann", "AddMembers", channel_id=group, user_ids=["bob"])
    progress = Progress()
    progress.note(group, 4)
    changes = alone.room.streams.catch_up._changes

    async def rows(*_args: object) -> list[object]:
        return [before]

    monkeypatch.setattr(changes, "rows", rows)
    assert await catch_up(alone, progress, group, 1) == ["2", "gap 3-3", "4"]
    assert progress.settled == {group: 4}


class Behind:
    """Answers for a channel's head as an owner does that has been followed by another one."""

    def __init__(self, room: Room, channel_id: str, answers: int) -> None:
        self.answers = answers
        self._changes = room.room.streams.catch_up._changes
        self._channel_id = channel_id
        self._true = self._changes.channel_of

    async def channel_of(self, user_id: str, channel_id: str) -> ChannelRecord | None:
        record = await self._true(user_id, channel_id)
        self.answers -= 1
        if self.answers < 0 or record is None:
            return record
        return dataclasses.replace(record, head_id=record.head_id - 1)

    async def rows(self, user_id: str, *_args: object) -> list[object]:
        (row,) = await MemoryChatStore.user_channels(self._changes._store, user_id)  # type: ignore[attr-defined]
        return [(dataclasses.replace(row[0], head_id=row[0].head_id - 1), row[1])]


async def test_a_head_that_lags_behind_what_was_told_is_waited_for(
    alone: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = await alone.group("ann", "bob")
    await alone.send("ann", group, "told already")
    progress = Progress()
    progress.note(group, 2)
    behind = Behind(alone, group, 3)
    changes = alone.room.streams.catch_up._changes
    monkeypatch.setattr(changes, "rows", behind.rows)
    monkeypatch.setattr(changes, "channel_of", behind.channel_of)
    monkeypatch.setattr(catchup, "BEHIND_S", 0.001)
    assert await catch_up(alone, progress, group, 1) == ["2"]
    assert behind.answers < 0


async def test_a_head_that_lags_for_ever_ends_the_catch_up(
    alone: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = await alone.group("ann", "bob")
    await alone.send("ann", group, "told already")
    progress = Progress()
    progress.note(group, 2)
    behind = Behind(alone, group, 1_000_000)
    changes = alone.room.streams.catch_up._changes
    monkeypatch.setattr(changes, "rows", behind.rows)
    monkeypatch.setattr(changes, "channel_of", behind.channel_of)
    monkeypatch.setattr(catchup, "BEHIND_S", 0.001)
    monkeypatch.setattr(catchup, "MAX_BEHIND_S", 0.01)
    with pytest.raises(StoreUnavailable):
        await catch_up(alone, progress, group, 1)


async def test_others_hear_of_a_device_once_it_is_caught_up(alone: Room) -> None:
    """Its hello may have lain unread while it went elsewhere."""
    came: list[str] = []
    alone.room.streams.came = lambda _user, device, _time: came.append(device)
    ann = alone.connect("ann", "ann-1")
    ann.sink.blocked = True
    await ann.hello()
    assert came == []
    ann.sink.blocked = False
    ann.stream.on_writable()
    await settle()
    assert ann.stream.live
    assert came == ["ann-1"]


async def test_a_look_that_cannot_be_read_ends_the_stream(
    alone: Room, memory: MemoryChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = await alone.call("ann", "CreateChannel", kind=3, name="news", is_public=True)
    news = created.channel.channel.id
    bob = await alone.online("bob")

    async def away(*_args: object) -> None:
        raise StoreUnavailable("no quorum")

    monkeypatch.setattr(memory, "channel", away)
    await bob.say(subscribe=cursors((news, 0)))
    await settle()
    close = bob.sink.frames[-1].close
    assert reason_of(close.status) == "INTERNAL"
    assert close.reconnect
