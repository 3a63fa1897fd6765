"""What every chat store guarantees. A module with a `store` fixture inherits the classes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from chinwag_server.chat.ids import client_message_id_bytes
from chinwag_server.chat.store import (
    ChatStore,
    DeleteReactions,
    FeedRange,
    MessagePage,
    PutRequest,
    Redact,
    StoredEntry,
    StoredMessage,
    StoredRequest,
    StoredSend,
    StoreUnavailable,
    Write,
    WriteRefused,
)
from tests.server.chat.store_writes import BROADCAST, START_US, Author, commit, uuid7

Outcome = tuple[int, Exception | None]


async def all_done(store: ChatStore, submissions: Sequence[Sequence[Write]]) -> list[Outcome]:
    """Submits all at once and waits for all; the outcomes in the order of their `done`s."""
    outcomes: list[tuple[int, int, Exception | None]] = []
    finished = asyncio.Event()

    for place, writes in enumerate(submissions):

        def done(stamp: int, error: Exception | None, place: int = place) -> None:
            outcomes.append((place, stamp, error))
            if len(outcomes) == len(submissions):
                finished.set()

        store.submit(writes, done)
    assert not outcomes, "done was called before submit returned"
    await finished.wait()
    assert [place for place, _, _ in outcomes] == list(range(len(submissions)))
    return [(stamp, error) for _, stamp, error in outcomes]


async def page(
    store: ChatStore,
    channel_id: str,
    anchor: str,
    anchor_id: int,
    limit: int = 3,
    *,
    ranges: Sequence[tuple[int, int]] = ((1, 1000),),
    root_id: int = 0,
    max_bytes: int = 1 << 20,
) -> tuple[list[int], bool, bool]:
    found: MessagePage = await store.messages(
        channel_id,
        ranges,
        thread_root_id=root_id,
        anchor=anchor,
        anchor_id=anchor_id,
        limit=limit,
        max_bytes=max_bytes,
    )
    return [m.id for m in found.messages], found.has_more_before, found.has_more_after


class WritesContract:
    async def test_a_submission_is_all_or_nothing(self, store: ChatStore) -> None:
        room = Author("c")
        await commit(store, room.create())
        first, second = room.send("ann"), room.send("ann")
        with pytest.raises(WriteRefused):
            await commit(store, [*second, *first])
        record = await store.channel("c")
        assert record is not None
        assert record.head_id == 1
        assert await store.entry("c", 2) is None
        assert await store.find_sends([("c", "ann", client_message_id_bytes(uuid7(1)))]) == [None]
        member = await store.member("c", "ann")
        assert member is not None
        assert member.read_id == 1

    async def test_submissions_take_effect_in_order_and_stamps_rise(self, store: ChatStore) -> None:
        room = Author("c")
        outcomes = await all_done(store, [room.create(), *(room.send("ann") for _ in range(40))])
        stamps = [stamp for stamp, _ in outcomes]
        assert [error for _, error in outcomes] == [None] * 41
        assert stamps == sorted(stamps)
        assert stamps[0] > 0
        assert store.stamp == stamps[-1]
        assert store.backlog_bytes == 0
        assert await commit(store, [room.member("bob", read_id=3)]) > stamps[-1]

    async def test_the_backlog_counts_what_waits(self, store: ChatStore) -> None:
        room = Author("c")
        await commit(store, room.create())
        waiting = all_done(store, [room.send("ann", "x" * 5000)])
        task = asyncio.create_task(waiting)
        await asyncio.sleep(0)
        before = store.backlog_bytes
        await task
        assert before == 0 or before > 5000
        assert store.backlog_bytes == 0

    async def test_an_entry_out_of_turn_is_refused(self, store: ChatStore) -> None:
        room = Author("c")
        await commit(store, room.create())
        entry = room.send("ann")
        await commit(store, entry)
        with pytest.raises(WriteRefused):
            await commit(store, entry)
        room.send("ann")
        with pytest.raises(WriteRefused):
            await commit(store, room.send("ann"))

    async def test_a_write_to_a_channel_that_is_not_there_is_refused(
        self, store: ChatStore
    ) -> None:
        room = Author("nowhere")
        room.create()
        for write in (*room.send("ann"), DeleteReactions("nowhere", 1)):
            with pytest.raises(WriteRefused):
                await commit(store, [write])

    async def test_a_redaction_of_nothing_is_refused(self, store: ChatStore) -> None:
        await commit(store, Author("c").create())
        with pytest.raises(WriteRefused):
            await commit(store, [Redact("c", 7, b"")])

    async def test_after_a_failure_the_store_goes_on_from_what_is_stored(
        self, store: ChatStore
    ) -> None:
        room, made = Author("c"), Author("made")
        await commit(store, room.create())
        with pytest.raises(WriteRefused):
            await commit(store, [*made.create(), Redact("made", 7, b"")])
        assert await store.channel("made") is None
        # Nothing in a cache may remember the channel of the failed submission.
        with pytest.raises(WriteRefused):
            await commit(store, [made.member("ann")])
        fresh = Author("made")
        await commit(store, [*fresh.create(), *fresh.send("ann")])
        await commit(store, room.send("ann"))
        assert [r.channel_id for r, _ in await store.user_channels("ann")] == ["c", "made"]

    async def test_a_callback_that_raises_hurts_nobody_else(self, store: ChatStore) -> None:
        room = Author("c")

        def bad(_stamp: int, _error: Exception | None) -> None:
            raise RuntimeError("a test's bug")

        store.submit(room.create(), bad)
        assert await commit(store, room.send("ann")) > 0

    async def test_after_close_submissions_fail(self, store: ChatStore) -> None:
        room = Author("c")
        pending = asyncio.ensure_future(commit(store, room.create()))
        await asyncio.sleep(0)
        await store.close()
        assert await pending > 0
        with pytest.raises(StoreUnavailable):
            await commit(store, room.send("ann"))


class EntriesContract:
    async def test_entries_are_a_page_of_the_log(self, store: ChatStore) -> None:
        room, other = Author("c"), Author("d")
        await commit(store, [*room.create(), *other.create()])
        for _ in range(9):
            await commit(store, [*room.send("ann"), *other.send("bob")])

        def stored(first: int, last: int) -> list[StoredEntry]:
            return [StoredEntry(i, room.payloads[i]) for i in range(first, last + 1)]

        assert await store.entries("c", 0, 10, 100, 1 << 20) == stored(1, 10)
        assert await store.entries("c", 3, 7, 100, 1 << 20) == stored(4, 7)
        assert await store.entries("c", 3, 99, 2, 1 << 20) == stored(4, 5)
        assert await store.entries("c", 10, 99, 2, 1 << 20) == []
        assert await store.entries("none", 0, 99, 2, 1 << 20) == []

    async def test_entries_stop_at_the_bytes_but_give_one(self, store: ChatStore) -> None:
        room = Author("c")
        await commit(store, room.create())
        for _ in range(4):
            await commit(store, room.send("ann", "é" * 100_000))
        sizes = [e.id for e in await store.entries("c", 1, 5, 100, 450_000)]
        assert sizes == [2, 3]
        assert [e.id for e in await store.entries("c", 1, 5, 100, 10)] == [2]

    async def test_a_redaction_replaces_the_payload(self, store: ChatStore) -> None:
        room = Author("c")
        await commit(store, [*room.create(), *room.send("ann", "secret")])
        await commit(store, room.edit("ann", 2, "secret again"))
        assert await store.entries_of_message("c", 2) == [
            StoredEntry(i, room.payloads[i]) for i in (2, 3)
        ]
        await commit(store, room.delete("ann", 2))
        found = await store.entries("c", 0, 9, 9, 1 << 20)
        assert found == [StoredEntry(i, room.payloads[i]) for i in (1, 2, 3, 4)]
        assert all(b"secret" not in entry.payload for entry in found)
        message = await store.message("c", 2)
        assert message is not None
        assert message.content_entry is None

    async def test_the_count_and_head_follow_the_log(self, store: ChatStore) -> None:
        room = Author("c")
        await commit(store, [*room.create(), *room.send("ann"), *room.send("bob", root_id=2)])
        await commit(store, room.react("ann", 2, "+1"))
        record = await store.channel("c")
        assert record is not None
        assert (record.head_id, record.head_count, record.last_message_id) == (4, 1, 2)
        assert record.head_time_us == room.record.head_time_us
        assert record.generation == store.generation > 0
        assert [await store.timeline_count("c", i) for i in range(6)] == [0, 0, 1, 1, 1, 0]
        assert await store.timeline_count("none", 1) == 0


class MessagesContract:
    async def make(self, store: ChatStore) -> Author:
        """Main messages 2..5 and 10..13, a thread 6, 7 below 2, reactions 8, 9."""
        room = Author("c")
        await commit(store, room.create())
        for _ in range(4):
            await commit(store, room.send("ann"))
        for writes in (
            room.send("bob", root_id=2),
            room.send("ann", root_id=2),
            room.react("bob", 3, "+1"),
            room.react("ann", 3, "+1"),
        ):
            await commit(store, writes)
        for _ in range(4):
            await commit(store, room.send("bob"))
        return room

    async def test_before_gives_the_newest_below(self, store: ChatStore) -> None:
        await self.make(store)
        assert await page(store, "c", "before", 1000) == ([11, 12, 13], True, False)
        assert await page(store, "c", "before", 11) == ([4, 5, 10], True, True)
        assert await page(store, "c", "before", 4) == ([2, 3], False, True)
        assert await page(store, "c", "before", 2) == ([], False, True)

    async def test_after_gives_the_oldest_above(self, store: ChatStore) -> None:
        await self.make(store)
        assert await page(store, "c", "after", 0) == ([2, 3, 4], False, True)
        assert await page(store, "c", "after", 4) == ([5, 10, 11], True, True)
        assert await page(store, "c", "after", 11) == ([12, 13], True, False)
        assert await page(store, "c", "after", 13) == ([], True, False)

    async def test_around_has_the_anchor_or_the_next_in_the_middle(self, store: ChatStore) -> None:
        await self.make(store)
        assert await page(store, "c", "around", 5) == ([4, 5, 10], True, True)
        assert await page(store, "c", "around", 7) == ([5, 10, 11], True, True)
        assert await page(store, "c", "around", 2) == ([2, 3, 4], False, True)
        assert await page(store, "c", "around", 500) == ([11, 12, 13], True, False)
        assert await page(store, "c", "around", 5, 1) == ([5], True, True)

    async def test_a_thread_has_its_replies_alone(self, store: ChatStore) -> None:
        await self.make(store)
        assert await page(store, "c", "before", 1000, root_id=2) == ([6, 7], False, False)
        assert await page(store, "c", "after", 6, root_id=2) == ([7], True, False)
        assert await page(store, "c", "before", 1000, root_id=3) == ([], False, False)

    async def test_a_page_stays_within_the_ranges(self, store: ChatStore) -> None:
        await self.make(store)
        ranges = [(3, 4), (11, 12)]
        assert await page(store, "c", "before", 1000, ranges=ranges) == ([4, 11, 12], True, False)
        assert await page(store, "c", "after", 3, ranges=ranges) == ([4, 11, 12], True, False)
        assert await page(store, "c", "around", 5, ranges=ranges) == ([4, 11, 12], True, False)
        assert await page(store, "c", "before", 13, 9, ranges=[(3, 4)]) == ([3, 4], False, False)
        assert await page(store, "c", "before", 13, ranges=[]) == ([], False, False)

    async def test_a_page_stops_at_the_bytes_but_gives_one(self, store: ChatStore) -> None:
        room = Author("c")
        await commit(store, room.create())
        for _ in range(4):
            await commit(store, room.send("ann", "x" * 1000))
        assert await page(store, "c", "before", 99, 9, max_bytes=2500) == ([4, 5], True, False)
        assert await page(store, "c", "after", 0, 9, max_bytes=1) == ([2], False, True)
        assert await page(store, "c", "around", 3, 9, max_bytes=2500) == ([2, 3], False, True)

    async def test_a_channel_that_is_not_there_has_no_messages(self, store: ChatStore) -> None:
        assert await page(store, "none", "before", 1000) == ([], False, False)
        assert await store.message("none", 1) is None
        assert await store.last_messages([("none", 1)]) == {}

    async def test_a_message_has_its_state_and_newest_content(self, store: ChatStore) -> None:
        room = Author("c")
        await commit(store, [*room.create(), *room.send("ann", "one")])
        assert await store.message("c", 2) == StoredMessage(2, room.payloads[2])
        await commit(store, room.edit("ann", 2, "two"))
        await commit(store, room.edit("ann", 2, "three"))
        put = room.put_state(2)
        expected = StoredMessage(2, room.payloads[2], put.state, room.payloads[4])
        assert await store.message("c", 2) == expected
        assert await store.last_messages([("c", 2), ("c", 1), ("d", 2)]) == {"c": expected}
        found = await store.messages(
            "c",
            [(1, 9)],
            thread_root_id=0,
            anchor="before",
            anchor_id=9,
            limit=9,
            max_bytes=1 << 20,
        )
        assert found.messages == [expected]
        assert await store.message("c", 3) is None, "an edit is no message"
        assert await store.message("c", 99) is None

    async def test_reactions_are_kept_in_order(self, store: ChatStore) -> None:
        room = Author("c", ("zoe", "bob", "ann"))
        await commit(store, [*room.create(), *room.send("bob")])
        for user in room.members:
            await commit(store, room.react(user, 2, "+1"))
        await commit(store, room.react("bob", 2, "-1"))
        assert await store.reaction_users("c", 2, "+1", 9) == ["zoe", "bob", "ann"]
        assert await store.reaction_users("c", 2, "+1", 2) == ["zoe", "bob"]
        assert await store.has_reaction("c", 2, "+1", "ann")
        await commit(store, [DeleteReactions("c", 2, "+1", "bob")])
        assert await store.reaction_users("c", 2, "+1", 9) == ["zoe", "ann"]
        assert not await store.has_reaction("c", 2, "+1", "bob")
        assert await store.has_reaction("c", 2, "-1", "bob")
        await commit(store, room.delete("bob", 2))
        assert await store.reaction_users("c", 2, "+1", 9) == []
        assert not await store.has_reaction("c", 2, "-1", "bob")

    async def test_the_last_of_many_writes_to_a_reaction_holds(self, store: ChatStore) -> None:
        room = Author("c")
        await commit(store, [*room.create(), *room.send("ann"), *room.send("ann")])
        added = room.react("bob", 2, "+1")
        await commit(
            store,
            [*added, DeleteReactions("c", 2, "+1", "bob"), *room.react("bob", 2, "+1")],
        )
        assert await store.has_reaction("c", 2, "+1", "bob")
        await commit(
            store,
            [*room.react("ann", 2, "+1"), *room.react("ann", 3, "x"), DeleteReactions("c", 2)],
        )
        assert await store.reaction_users("c", 2, "+1", 9) == []
        assert await store.has_reaction("c", 3, "x", "ann")

    async def test_an_entry_counts_once_as_a_mention(self, store: ChatStore) -> None:
        room = Author("c")
        await commit(store, room.create())
        for mentions in (("ann",), ("", "ann"), ("bob",), ("",), ()):
            await commit(store, room.send("bob", mentions=mentions))
        assert await store.mention_count("c", "ann", 0, 99) == 3
        assert await store.mention_count("c", "bob", 0, 99) == 3
        assert await store.mention_count("c", "ann", 2, 4) == 1
        assert await store.mention_count("c", "eve", 0, 99) == 2
        assert await store.mention_count("none", "ann", 0, 99) == 0

    async def test_the_messages_of_a_sender_that_have_content(self, store: ChatStore) -> None:
        rooms = [Author(name) for name in ("b", "a", "c")]
        for room in rooms:
            await commit(store, room.create())
            for user in ("ann", "bob", "ann"):
                await commit(store, room.send(user))
        await commit(store, rooms[1].delete("ann", 2))
        expected = [("a", 4), ("b", 2), ("b", 4), ("c", 2), ("c", 4)]
        assert await store.messages_of_sender("ann", ("", 0), 99) == expected
        assert await store.messages_of_sender("ann", ("", 0), 2) == expected[:2]
        assert await store.messages_of_sender("ann", ("b", 2), 2) == expected[2:4]
        assert await store.messages_of_sender("eve", ("", 0), 2) == []


class MembersContract:
    async def test_a_record_is_read_as_it_was_written(self, store: ChatStore) -> None:
        room = Author("c", ("ann",))
        await commit(store, room.create())
        put = room.member(
            "ann",
            ranges=((1, 4), (6, 9), (8, 0)),
            read_id=1,
            read_count=0,
            delivered_id=1,
            preferences=b"\x18\x01",
            archived=True,
            pinned=True,
        )
        await commit(store, [put])
        assert await store.member("c", "ann") == put.record
        assert await store.members("c") == [put.record]
        assert await store.member("c", "eve") is None
        assert await store.member("none", "ann") is None
        record = await store.channel("c")
        assert record is not None
        assert (record.kind, record.settings) == (room.record.kind, b"settings of c")
        assert record.member_count == 1
        assert await store.channel("none") is None

    async def test_settings_change_without_touching_the_head(self, store: ChatStore) -> None:
        room = Author("c")
        await commit(store, [*room.create(), *room.send("ann")])
        changed = room._put_channel()
        changed.record.settings = b"other"
        await commit(store, [changed])
        record = await store.channel("c")
        assert record is not None
        assert (record.settings, record.head_id, record.last_message_id) == (b"other", 2, 2)

    async def test_pages_of_members_have_current_ones_by_id(self, store: ChatStore) -> None:
        room = Author("c", [f"u{i}" for i in range(6)], BROADCAST)
        await commit(store, room.create())
        await commit(store, room.leave("u2"))
        assert [m.user_id for m in await store.member_page("c", "", 3)] == ["u0", "u1", "u3"]
        assert [m.user_id for m in await store.member_page("c", "u3", 3)] == ["u4", "u5"]
        assert len(await store.members("c")) == 6

    async def test_left_and_deleted_channels_stay_but_do_not_count(self, store: ChatStore) -> None:
        rooms = [Author(name) for name in "abc"]
        for room in rooms:
            await commit(store, room.create())
        assert await store.count_user_channels("bob") == 3
        await commit(store, rooms[0].leave("bob"))
        await commit(store, rooms[1].end("ann"))
        assert await store.count_user_channels("bob") == 1
        assert await store.count_user_channels("ann") == 2
        found = {r.channel_id: (r, m) for r, m in await store.user_channels("bob")}
        assert sorted(found) == ["a", "b", "c"]
        assert found["a"][1].role == 0
        assert found["a"][0].member_count == 1
        assert found["b"][0].deleted
        listed = await store.user_channel_page("bob", (), True, None, 9)
        assert sorted(r.channel_id for r, _ in listed) == ["b", "c"]

    async def test_channel_pages_are_pinned_first_then_newest(self, store: ChatStore) -> None:
        rooms = {name: Author(name) for name in "abcdef"}
        rooms["e"].record.kind = BROADCAST
        for name, at in zip("abcdef", (5, 9, 5, 1, 7, 3), strict=True):
            rooms[name].record.head_time_us = START_US + at
            await commit(store, rooms[name].create())
        await commit(store, [rooms["d"].member("ann", preferences=b"", pinned=True)])
        await commit(store, [rooms["f"].member("ann", preferences=b"", archived=True)])

        async def listed(
            after: tuple[bool, int, str] | None, limit: int, *kinds: int, archived: bool = False
        ) -> str:
            rows = await store.user_channel_page("ann", kinds, archived, after, limit)
            return "".join(record.channel_id for record, _ in rows)

        assert await listed(None, 9) == "dbeac"
        assert await listed(None, 9, archived=True) == "dbeacf"
        assert await listed(None, 9, BROADCAST) == "e"
        assert await listed(None, 2) == "db"
        position = (False, rooms["b"].record.head_time_us, "b")
        assert await listed(position, 2) == "ea"
        assert await listed((False, rooms["a"].record.head_time_us, "a"), 9) == "c"
        assert await listed((True, rooms["d"].record.head_time_us, "d"), 1) == "b"


class RequestsContract:
    async def test_a_send_is_found_by_channel_sender_and_id(self, store: ChatStore) -> None:
        room, other = Author("c"), Author("d")
        await commit(store, [*room.create(), *other.create()])
        await commit(store, room.send("ann", key=uuid7(1), digest=b"1" * 16))
        await commit(store, room.send("bob", key=uuid7(1), digest=b"2" * 16))
        await commit(store, other.send("ann", key=uuid7(1), digest=b"3" * 16))
        key = client_message_id_bytes(uuid7(1))
        wanted = [(c, u, key) for c in ("c", "d", "none") for u in ("ann", "bob")]
        assert await store.find_sends(wanted) == [
            StoredSend(2, b"1" * 16),
            StoredSend(3, b"2" * 16),
            StoredSend(2, b"3" * 16),
            None,
            None,
            None,
        ]
        assert await store.find_sends([]) == []
        assert await store.find_sends([wanted[0]] * 150) == [StoredSend(2, b"1" * 16)] * 150

    async def test_a_request_is_remembered(self, store: ChatStore) -> None:
        await commit(store, [PutRequest("s", "1", b"hash", b"answer", 5)])
        assert await store.find_request("s", "1") == StoredRequest(b"hash", b"answer")
        assert await store.find_request("t", "1") is None
        await commit(store, [PutRequest("s", "1", b"hash", b"later", 6)])
        assert await store.find_request("s", "1") == StoredRequest(b"hash", b"later")


class OneWriterContract:
    """What a store gives besides whose writes all go through one database of one writer: an order
    over all channels, and numbers of its commits."""

    async def test_an_empty_submission_waits_for_those_before(self, store: ChatStore) -> None:
        room = Author("c")
        outcomes = await all_done(store, [room.create(), room.send("ann"), []])
        assert [error for _, error in outcomes] == [None] * 3

    async def test_a_second_send_of_one_id_is_refused(self, store: ChatStore) -> None:
        room = Author("c")
        await commit(store, [*room.create(), *room.send("ann", key=uuid7(5))])
        again = room.send("ann", key=uuid7(5))
        with pytest.raises(WriteRefused):
            await commit(store, again)

    async def test_after_a_failure_all_that_was_submitted_since_fails(
        self, store: ChatStore
    ) -> None:
        room, other = Author("c"), Author("other")
        await commit(store, [*room.create(), *other.create()])
        late: list[Outcome] = []
        room.send("ann")  # lost: what follows is out of turn
        bad, after = room.send("ann"), other.send("ann")
        finished = asyncio.Event()

        def inside(stamp: int, error: Exception | None) -> None:
            late.append((stamp, error))
            finished.set()

        def failed(_stamp: int, error: Exception | None) -> None:
            # Also what is submitted in the middle of the failing: it stands on what failed.
            assert isinstance(error, WriteRefused)
            store.submit(other.send("ann"), inside)

        outcomes: list[Outcome] = []
        store.submit(bad, failed)
        store.submit(after, lambda stamp, error: outcomes.append((stamp, error)))
        await finished.wait()
        ((stamp, error),) = outcomes
        assert stamp == 0
        assert isinstance(error, StoreUnavailable)
        assert isinstance(late[0][1], StoreUnavailable)
        assert store.backlog_bytes == 0
        record = await store.channel("other")
        assert record is not None
        assert record.head_id == 1

    async def test_the_feed_has_every_entry_once_in_commit_order(self, store: ChatStore) -> None:
        rooms = [Author(f"c{i}") for i in range(3)]
        stamps = [await commit(store, [w for room in rooms for w in room.create()])]
        stamps.append(await commit(store, [*rooms[0].send("ann"), *rooms[0].send("ann")]))
        quiet = await commit(store, [rooms[0].member("bob", read_id=2, delivered_id=2)])
        stamps.append(await commit(store, [*rooms[2].send("ann"), *rooms[1].send("ann")]))
        feed = await store.feed(0, 100)
        assert feed == [
            FeedRange(stamps[0], "c0", 1, 1),
            FeedRange(stamps[0], "c1", 1, 1),
            FeedRange(stamps[0], "c2", 1, 1),
            FeedRange(stamps[1], "c0", 2, 3),
            FeedRange(stamps[2], "c2", 2, 2),
            FeedRange(stamps[2], "c1", 2, 2),
        ]
        assert await store.feed(0, 1) == feed[:3]
        assert await store.feed(stamps[0], 1) == feed[3:4]
        assert await store.feed(quiet, 9) == feed[4:]
        assert await store.feed(stamps[2], 9) == []

    async def test_user_channels_since_a_stamp_are_those_that_changed(
        self, store: ChatStore
    ) -> None:
        group, news = Author("group"), Author("news", kind=BROADCAST)
        first = await commit(store, [*group.create(), *news.create()])

        async def changed(user: str, stamp: int) -> list[str]:
            return sorted(r.channel_id for r, _ in await store.user_channels(user, stamp))

        assert await changed("ann", 0) == ["group", "news"]
        assert await changed("ann", first) == []
        second = await commit(store, [group.member("bob", delivered_id=1)])
        assert await changed("ann", first) == ["group"]
        assert await changed("bob", first) == ["group"]
        third = await commit(store, [news.member("bob", delivered_id=1)])
        assert await changed("ann", second) == []
        assert await changed("bob", second) == ["news"]
        fourth = await commit(store, [group.member("bob", preferences=b"")])
        assert await changed("ann", third) == []
        assert await changed("bob", third) == ["group"]
        await commit(store, [*news.send("bob"), *group.send("bob")])
        assert await changed("ann", fourth) == ["group", "news"]
        assert await changed("eve", 0) == []

    async def test_old_rows_are_forgotten_a_few_at_a_time(self, store: ChatStore) -> None:
        room = Author("c")
        await commit(store, room.create())
        for number in range(6):
            at_us = START_US + number * 1_000_000
            room.record.head_time_us = at_us - 1
            await commit(store, room.send("ann", key=uuid7(number, at_us)))
            await commit(store, [PutRequest("s", str(number), b"", b"", at_us)])
        before_us = START_US + 4_000_000
        assert await store.expire_requests(before_us, 3) == 3
        assert await store.expire_requests(before_us, 100) == 5
        assert await store.expire_requests(before_us, 100) == 0
        keys = [
            ("c", "ann", client_message_id_bytes(uuid7(n, START_US + n * 1_000_000)))
            for n in range(6)
        ]
        assert [found is not None for found in await store.find_sends(keys)] == [False] * 4 + [
            True
        ] * 2
        kept = [await store.find_request("s", str(n)) is not None for n in range(6)]
        assert kept == [False] * 4 + [True] * 2
        assert len(await store.entries("c", 0, 99, 99, 1 << 20)) == 7

    async def test_the_last_row_of_a_member_holds(self, store: ChatStore) -> None:
        room = Author("c")
        await commit(store, room.create())
        writes: list[Write] = [room.member("ann", read_count=count) for count in (5, 3, 9, 4)]
        await commit(store, writes)
        member = await store.member("c", "ann")
        assert member is not None
        assert member.read_count == 4


class StoreContract(
    WritesContract,
    EntriesContract,
    MessagesContract,
    MembersContract,
    RequestsContract,
    OneWriterContract,
):
    """All of it."""
