"""What every inbox guarantees. A module with fixtures `make_inbox`, which gives nodes' accesses to
one inbox, `wipe` and an `agreement` inherits the class."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from chinwag_server.mesh.inbox import Inbox, Stamp
from chinwag_server.mesh.unavailable import Unavailable

MakeInbox = Callable[..., Inbox]
Wipe = Callable[[], Awaitable[None]]
KEPT = 5


class Agreement:
    """What etcd is for the nodes: the agreed generation."""

    def __init__(self) -> None:
        self.generation = 100
        self.raises = 0
        self.away = False

    async def raise_generation(self) -> int:
        await asyncio.sleep(0)
        if self.away:
            raise TimeoutError("no answer from etcd")
        self.raises += 1
        self.generation += 1
        return self.generation


async def all_since(inbox: Inbox, user_id: str, stamp: Stamp, limit: int) -> list[str]:
    """What a device learns, page by page, with the channels in their order."""
    channels: list[str] = []
    while True:
        changes = await inbox.changed_since(user_id, stamp, limit)
        assert changes.complete
        assert len(changes.changes) <= limit
        channels += [change.channel_id for change in changes.changes]
        stamp = changes.stamp
        if not changes.more:
            return channels


class InboxContract:
    async def test_what_changed_since_a_stamp(self, make_inbox: MakeInbox) -> None:
        inbox = make_inbox()
        first = await inbox.now()
        await inbox.touch(["ann", "bob"], "c1")
        second = await inbox.now()
        await inbox.touch(["ann"], "c2")
        changes = await inbox.changed_since("ann", first, 10)
        assert changes.complete
        assert not changes.more
        assert [change.channel_id for change in changes.changes] == ["c1", "c2"]
        assert changes.stamp.time_us >= changes.changes[-1].time_us > second.time_us
        assert await all_since(inbox, "ann", second, 10) == ["c2"]
        assert await all_since(inbox, "ann", changes.stamp, 10) == []
        assert await all_since(inbox, "bob", first, 10) == ["c1"]
        assert await all_since(inbox, "nobody", first, 10) == []

    async def test_a_channel_is_there_once_with_its_last_change(
        self, make_inbox: MakeInbox
    ) -> None:
        inbox = make_inbox()
        first = await inbox.now()
        for channel in ("c1", "c2", "c1"):
            await inbox.touch(["ann"], channel)
        assert await all_since(inbox, "ann", first, 10) == ["c2", "c1"]

    async def test_pages(self, make_inbox: MakeInbox) -> None:
        inbox = make_inbox(max_channels=100)
        first = await inbox.now()
        channels = [f"c{number}" for number in range(23)]
        await asyncio.gather(*(inbox.touch(["ann"], channel) for channel in channels))
        for limit in (1, 5, 22, 23, 24):
            assert await all_since(inbox, "ann", first, limit) == channels
        changes = await inbox.changed_since("ann", first, 5)
        assert changes.more
        # What is touched between two pages comes at the end.
        await inbox.touch(["ann"], "c7")
        rest = await all_since(inbox, "ann", changes.stamp, 5)
        assert rest == [*channels[5:7], *channels[8:], "c7"]

    async def test_nodes_see_each_others_touches(self, make_inbox: MakeInbox) -> None:
        here, there = make_inbox(), make_inbox()
        first = await here.now()
        await there.touch(["ann"], "c1")
        assert await all_since(here, "ann", first, 10) == ["c1"]
        assert await here.generation() == await there.generation()

    async def test_many_users_and_many_touches_at_once(self, make_inbox: MakeInbox) -> None:
        inbox = make_inbox(max_channels=1000)
        first = await inbox.now()
        users = [f"u{number}" for number in range(1100)]
        await asyncio.gather(
            inbox.touch(users, "all"), *(inbox.touch(users[:100], f"c{n}") for n in range(50))
        )
        assert await all_since(inbox, "u1099", first, 100) == ["all"]
        found = await all_since(inbox, "u0", first, 100)
        assert sorted(found) == sorted(["all", *(f"c{n}" for n in range(50))])

    async def test_what_was_trimmed_is_never_passed_over(self, make_inbox: MakeInbox) -> None:
        inbox = make_inbox(max_channels=KEPT)
        first = await inbox.now()
        for number in range(KEPT):
            await inbox.touch(["ann"], f"c{number}")
        assert len(await all_since(inbox, "ann", first, 100)) == KEPT
        for number in range(KEPT, 3 * KEPT):
            await inbox.touch(["ann"], f"c{number}")
        changes = await inbox.changed_since("ann", first, 100)
        assert not changes.complete
        assert changes.changes == ()
        assert not changes.more
        # With the stamp of that answer it goes on.
        await inbox.touch(["ann"], "new")
        assert await all_since(inbox, "ann", changes.stamp, 100) == ["new"]

    async def test_a_stamp_within_what_is_kept_misses_nothing(self, make_inbox: MakeInbox) -> None:
        inbox = make_inbox(max_channels=KEPT)
        stamps = [await inbox.now()]
        for number in range(4 * KEPT):
            await inbox.touch(["ann"], f"c{number}")
            stamps.append(await inbox.now())
        complete = 0
        for number, stamp in enumerate(stamps):
            changes = await inbox.changed_since("ann", stamp, 100)
            if changes.complete:
                complete += 1
                found = [change.channel_id for change in changes.changes]
                assert found == [f"c{later}" for later in range(number, 4 * KEPT)]
        assert complete >= KEPT

    async def test_stamps_that_were_never_given_are_incomplete(self, make_inbox: MakeInbox) -> None:
        inbox = make_inbox()
        now = await inbox.now()
        await inbox.touch(["ann"], "c1")
        day_us = 86_400_000_000
        for stamp in (
            Stamp(now.generation, now.time_us + day_us),
            Stamp(now.generation, now.time_us - 31 * day_us),
            Stamp(now.generation, 0),
            Stamp(now.generation + 1, now.time_us),
            Stamp(now.generation - 1, now.time_us),
            Stamp(0, 0),
        ):
            changes = await inbox.changed_since("ann", stamp, 10)
            assert not changes.complete
            assert changes.stamp.generation == now.generation
            assert changes.stamp.time_us >= now.time_us

    async def test_stamps_never_fall_and_never_repeat(self, make_inbox: MakeInbox) -> None:
        inbox = make_inbox(max_channels=1000)
        first = await inbox.now()
        before = first
        for number in range(20):
            await inbox.touch(["ann"], f"c{number}")
            now = await inbox.now()
            assert now.time_us >= before.time_us
            assert await all_since(inbox, "ann", now, 10) == []
            before = now
        changes = await inbox.changed_since("ann", first, 100)
        times = [change.time_us for change in changes.changes]
        assert times == sorted(set(times))

    # --- losses ---

    async def test_the_first_call_agrees_on_a_generation(
        self, make_inbox: MakeInbox, agreement: Agreement
    ) -> None:
        inbox = make_inbox()
        assert await inbox.generation() == agreement.generation == 101
        assert await inbox.generation() == 101
        assert agreement.raises == 1

    async def test_a_wipe_is_noticed_before_the_next_answer(
        self, make_inbox: MakeInbox, wipe: Wipe, agreement: Agreement
    ) -> None:
        here, there = make_inbox(), make_inbox()
        stamp = await here.now()
        await here.touch(["ann"], "c1")
        await wipe()
        changes = await there.changed_since("ann", stamp, 10)
        assert not changes.complete
        assert changes.stamp.generation == agreement.generation > stamp.generation
        await here.touch(["ann"], "c2")
        assert await all_since(there, "ann", changes.stamp, 10) == ["c2"]
        assert not (await here.changed_since("ann", stamp, 10)).complete

    async def test_a_touch_after_a_wipe_raises_the_generation_first(
        self, make_inbox: MakeInbox, wipe: Wipe, agreement: Agreement
    ) -> None:
        inbox = make_inbox()
        stamp = await inbox.now()
        await wipe()
        await inbox.touch(["ann"], "c1")
        assert agreement.generation > stamp.generation
        assert not (await inbox.changed_since("ann", stamp, 10)).complete

    async def test_what_others_agreed_is_believed(
        self, make_inbox: MakeInbox, agreement: Agreement
    ) -> None:
        """An owner whose touch failed raised the generation; the inbox does not know of it."""
        inbox = make_inbox()
        stamp = await inbox.now()
        inbox.agree(await agreement.raise_generation())
        changes = await inbox.changed_since("ann", stamp, 10)
        assert not changes.complete
        assert changes.stamp.generation >= agreement.generation
        # What is lower than what is known changes nothing.
        inbox.agree(1)
        assert await inbox.generation() == changes.stamp.generation

    async def test_a_node_that_knows_an_old_generation_learns_the_new(
        self, make_inbox: MakeInbox, wipe: Wipe, agreement: Agreement
    ) -> None:
        late = make_inbox()
        await late.now()
        await wipe()
        early = make_inbox(generation=agreement.generation)
        await early.now()
        assert await late.generation() == await early.generation() == agreement.generation
        assert agreement.raises == 2

    async def test_a_loss_that_all_notice_at_once(
        self, make_inbox: MakeInbox, wipe: Wipe, agreement: Agreement
    ) -> None:
        inboxes = [make_inbox() for _ in range(10)]
        stamp = await inboxes[0].now()
        await wipe()
        found = await asyncio.gather(
            *(inbox.changed_since("ann", stamp, 10) for inbox in inboxes for _ in range(5))
        )
        assert not any(changes.complete for changes in found)
        held = {await inbox.generation() for inbox in inboxes}
        assert held == {agreement.generation}

    async def test_without_agreement_nothing_is_answered(
        self, make_inbox: MakeInbox, wipe: Wipe, agreement: Agreement
    ) -> None:
        inbox = make_inbox()
        stamp = await inbox.now()
        await wipe()
        agreement.away = True
        with pytest.raises(Unavailable, match="no answer from etcd"):
            await inbox.changed_since("ann", stamp, 10)
        with pytest.raises(Unavailable):
            await inbox.touch(["ann"], "c1")
        agreement.away = False
        changes = await inbox.changed_since("ann", stamp, 10)
        assert not changes.complete
