"""Random writes to both stores: whatever is read from one is read from the other."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chinwag_server.chat.memory import MemoryChatStore
from chinwag_server.chat.sqlite.check import check
from chinwag_server.chat.store import ChatStore, FeedRange, Write
from tests.server.chat.sqlite_store import opened
from tests.server.chat.store_contract import all_done
from tests.server.chat.store_writes import BROADCAST, GROUP, Author

USERS = ("ann", "bob", "zoé")

# (what, channel, user, a number that picks a message or a text)
steps = st.tuples(
    st.sampled_from(["send", "reply", "edit", "delete", "react", "mark", "leave", "long"]),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 20),
)


def writes_of(rooms: list[Author], step: tuple[str, int, int, int]) -> list[Write]:
    """The writes of a step, none if it makes no sense now."""
    what, place, who, number = step
    room, user = rooms[place], USERS[who]
    if not room.head:
        return room.create()
    if not room.members[user].role:
        return []
    if what in ("send", "long"):
        text = "é" * 30_000 if what == "long" else f"text {number}"
        mentions = ((), ("ann",), ("", "bob"))[number % 3]
        return room.send(user, text, mentions=mentions)
    if what == "mark":
        read_id = max(room.members[user].read_id, 1)
        return [room.member(user, delivered_id=max(read_id, room.head - number))]
    if what == "leave":
        return room.leave(user) if number == 0 else []
    messages = [i for i in room.payloads if i in room.main and not room.is_deleted(i)]
    if not messages:
        return []
    message_id = messages[number % len(messages)]
    if what == "reply":
        return room.send(user, root_id=message_id)
    if what == "edit":
        return room.edit(user, message_id, f"edited {number}")
    if what == "delete":
        return room.delete(user, message_id)
    if any(user in group.user_ids for group in room.state(message_id).reactions):
        return []
    return room.react(user, message_id, "+1")


def without_stamps(feed: list[FeedRange]) -> dict[str, list[int]]:
    ids: dict[str, list[int]] = {}
    for item in feed:
        ids.setdefault(item.channel_id, []).extend(range(item.first_id, item.last_id + 1))
    return ids


async def everything(store: ChatStore, rooms: list[Author]) -> list[Any]:
    """All that can be read."""
    found: list[Any] = [without_stamps(await store.feed(0, 10_000))]
    for user in USERS:
        rows = await store.user_channels(user)
        found.append(sorted(rows, key=lambda row: row[0].channel_id))
        found.append(await store.user_channel_page(user, (), True, None, 9))
        found.append(await store.user_channel_page(user, (GROUP,), False, None, 2))
        found.append(await store.count_user_channels(user))
        found.append(await store.messages_of_sender(user, ("", 0), 99))
    for room in rooms:
        head = room.head
        found += [await store.channel(room.id), await store.members(room.id)]
        found.append(await store.member_page(room.id, "b", 2))
        found.append(await store.entries(room.id, 0, head, 999, 1 << 30))
        found.append(await store.entries(room.id, head // 2, head, 3, 70_000))
        wanted = [(room.id, user, key) for user in USERS for key in room.keys]
        found.append(await store.find_sends(wanted))
        for entry_id in range(head + 2):
            found.append(await store.message(room.id, entry_id))
            found.append(await store.timeline_count(room.id, entry_id))
            found.append(await store.entries_of_message(room.id, entry_id))
            found.append(await store.reaction_users(room.id, entry_id, "+1", 9))
            found.append(await store.mention_count(room.id, "ann", entry_id, head))
            for anchor in ("before", "after", "around"):
                for root_id in (0, 2, entry_id):
                    page = await store.messages(
                        room.id,
                        [(1, 3), (5, 9), (11, 99)],
                        thread_root_id=root_id,
                        anchor=anchor,
                        anchor_id=entry_id,
                        limit=3,
                        max_bytes=100_000,
                    )
                    found.append(page)
    return found


async def compare(batches: list[list[tuple[str, int, int, int]]]) -> None:
    def make() -> list[Author]:
        return [Author("a", USERS), Author("b", USERS), Author("c", USERS, BROADCAST)]

    async def apply(store: ChatStore) -> list[Any]:
        rooms = make()
        for batch in batches:
            submissions = [w for step in batch if (w := writes_of(rooms, step))]
            if submissions:
                outcomes = await all_done(store, submissions)
                assert [error for _, error in outcomes if error] == []
        return await everything(store, rooms)

    with tempfile.TemporaryDirectory() as directory:
        async with opened(Path(directory)) as sqlite:
            memory = MemoryChatStore(generation=sqlite.generation)
            await memory.open()
            expected, found = await apply(memory), await apply(sqlite)
            assert found == expected
        assert check(Path(directory)) == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(steps, min_size=1, max_size=12), max_size=6))
def test_both_stores_give_the_same(batches: list[list[tuple[str, int, int, int]]]) -> None:
    run: Callable[[Any], None] = asyncio.run
    run(compare(batches))
