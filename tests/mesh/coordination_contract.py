"""What every coordination guarantees. A module with fixtures `coordination` and `other`, two
clients of one fresh cluster, inherits the class."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import pytest

from chinwag_server.mesh.coordination import (
    Changes,
    Coordination,
    CoordinationUnavailable,
    Deleted,
    Entry,
    LeaseGone,
    Snapshot,
)

TTL_S = 2
WAIT_S = 10.0


class CoordinationContract:
    async def test_a_key_comes_back_with_its_revisions(self, coordination: Coordination) -> None:
        first = await coordination.put("/a/k", b"one")
        second = await coordination.put("/a/k", b"two")
        assert second > first
        snapshot = await coordination.list("/a/")
        assert snapshot == Snapshot(second, (Entry("/a/k", b"two", first, second),))

    async def test_list_gives_the_prefix_only_and_in_order(
        self, coordination: Coordination
    ) -> None:
        for key in ("/a/2", "/a/1", "/a", "/b/1", "/a0"):
            await coordination.put(key, b"")
        assert [entry.key for entry in (await coordination.list("/a/")).entries] == ["/a/1", "/a/2"]
        assert (await coordination.list("/none/")).entries == ()

    async def test_create_makes_a_key_once(
        self, coordination: Coordination, other: Coordination
    ) -> None:
        lease = await coordination.grant(TTL_S)
        made = await coordination.create("/a/k", b"ann", lease.id)
        assert (made.value, made.lease) == (b"ann", lease.id)
        assert made.create_revision == made.mod_revision
        assert await other.create("/a/k", b"bob") == made
        assert (await other.list("/a/")).entries == (made,)

    async def test_one_of_many_at_once_makes_it(
        self, coordination: Coordination, other: Coordination
    ) -> None:
        clients = [coordination, other] * 10
        made = await asyncio.gather(
            *(client.create("/a/k", b"%d" % n) for n, client in enumerate(clients))
        )
        assert len(set(made)) == 1

    async def test_a_key_made_again_has_a_greater_revision(
        self, coordination: Coordination
    ) -> None:
        first = await coordination.create("/a/k", b"ann")
        await coordination.delete_if("/a/k", first.create_revision, b"ann")
        second = await coordination.create("/a/k", b"ann")
        assert second.create_revision > first.create_revision

    async def test_delete_if_wants_revision_and_value(self, coordination: Coordination) -> None:
        made = await coordination.create("/a/k", b"ann")
        await coordination.delete_if("/a/k", made.create_revision + 1, b"ann")
        await coordination.delete_if("/a/k", made.create_revision, b"bob")
        assert (await coordination.list("/a/")).entries == (made,)
        await coordination.delete_if("/a/k", made.create_revision, b"ann")
        await coordination.delete_if("/a/k", made.create_revision, b"ann")
        assert (await coordination.list("/a/")).entries == ()

    async def test_replace_wants_the_last_revision(self, coordination: Coordination) -> None:
        made = await coordination.create("/a/k", b"one")
        changed = await coordination.replace("/a/k", made.mod_revision, b"two")
        assert changed is not None
        assert changed.value == b"two"
        assert changed.create_revision == made.create_revision
        assert changed.mod_revision > made.mod_revision
        assert await coordination.replace("/a/k", made.mod_revision, b"three") == changed
        await coordination.delete_if("/a/k", made.create_revision, b"two")
        assert await coordination.replace("/a/k", changed.mod_revision, b"four") is None

    async def test_a_lease_ends_with_its_keys(
        self, coordination: Coordination, other: Coordination
    ) -> None:
        lease = await coordination.grant(TTL_S)
        assert lease.ttl_s >= TTL_S
        await coordination.create("/a/k", b"ann", lease.id)
        async with aclosing(other.watch("/a/")) as watch, asyncio.timeout(WAIT_S):
            await anext(watch)
            change = await anext(watch)
        assert isinstance(change, Changes)
        assert change.changes == (Deleted("/a/k", change.revision),)
        # Not before its time.
        assert time.monotonic() - lease.sent >= lease.ttl_s

    async def test_a_lease_that_is_kept_alive_stays(self, coordination: Coordination) -> None:
        lease = await coordination.grant(TTL_S)
        await coordination.create("/a/k", b"ann", lease.id)
        sent = lease.sent
        while time.monotonic() < lease.sent + 2 * lease.ttl_s:
            before = time.monotonic()
            renewed = await coordination.keep_alive(lease.id)
            assert before <= renewed <= time.monotonic()
            assert renewed > sent
            sent = renewed
            await asyncio.sleep(0.4)
        assert len((await coordination.list("/a/")).entries) == 1

    async def test_a_key_written_under_another_lease_leaves_the_first(
        self, coordination: Coordination
    ) -> None:
        first, second = await coordination.grant(60), await coordination.grant(60)
        made = await coordination.create("/a/k", b"ann", first.id)
        moved = await coordination.replace("/a/k", made.mod_revision, b"ann", second.id)
        await coordination.revoke(first.id)
        assert (await coordination.list("/a/")).entries == (moved,)
        await coordination.revoke(second.id)
        assert (await coordination.list("/a/")).entries == ()

    async def test_a_lease_that_is_gone_is_refused(self, coordination: Coordination) -> None:
        lease = await coordination.grant(60)
        await coordination.revoke(lease.id)
        await coordination.revoke(lease.id)
        with pytest.raises(LeaseGone):
            await coordination.keep_alive(lease.id)
        with pytest.raises(LeaseGone):
            await coordination.put("/a/k", b"ann", lease.id)
        with pytest.raises(LeaseGone):
            await coordination.create("/a/k", b"ann", lease.id)
        assert (await coordination.list("/a/")).entries == ()

    async def test_a_watch_gives_the_state_and_then_changes(
        self, coordination: Coordination, other: Coordination
    ) -> None:
        made = await other.create("/a/1", b"ann")
        async with aclosing(coordination.watch("/a/")) as watch, asyncio.timeout(WAIT_S):
            assert await anext(watch) == Snapshot(made.mod_revision, (made,))
            await other.put("/b/1", b"not ours")
            second = await other.create("/a/2", b"bob")
            assert await anext(watch) == Changes(second.mod_revision, (second,))
            await other.delete_if("/a/1", made.create_revision, b"ann")
            gone = await anext(watch)
            assert gone == Changes(gone.revision, (Deleted("/a/1", gone.revision),))
            assert gone.revision > second.mod_revision

    async def test_changes_of_one_revision_come_together(
        self, coordination: Coordination, other: Coordination
    ) -> None:
        lease = await other.grant(60)
        for number in range(5):
            await other.create(f"/a/{number}", b"", lease.id)
        async with aclosing(coordination.watch("/a/")) as watch, asyncio.timeout(WAIT_S):
            await anext(watch)
            await other.revoke(lease.id)
            seen: list[object] = []
            while len(seen) < 5:
                changes = await anext(watch)
                assert isinstance(changes, Changes)
                seen += changes.changes
        assert len(seen) == 5

    async def test_a_watch_misses_nothing_under_load(
        self, coordination: Coordination, other: Coordination
    ) -> None:
        seen: list[bytes] = []
        async with aclosing(coordination.watch("/a/")) as watch, asyncio.timeout(WAIT_S):
            await anext(watch)
            writing = asyncio.create_task(_count(other, 300))
            while len(seen) < 300:
                changes = await anext(watch)
                assert isinstance(changes, Changes)
                seen += [change.value for change in changes.changes if isinstance(change, Entry)]
            await writing
        assert seen == [b"%d" % number for number in range(300)]

    async def test_close_ends_watches_and_calls(self, coordination: Coordination) -> None:
        started = asyncio.Event()

        async def follow() -> None:
            async with aclosing(coordination.watch("/a/")) as watch:
                async for _ in watch:
                    started.set()

        async with asyncio.timeout(WAIT_S):
            following = asyncio.create_task(follow())
            await started.wait()
            await asyncio.sleep(0.1)
            await coordination.close()
            await following
        with pytest.raises(CoordinationUnavailable, match="closed"):
            await coordination.list("/a/")


async def _count(coordination: Coordination, to: int) -> None:
    for number in range(to):
        await coordination.put("/a/k", b"%d" % number)
