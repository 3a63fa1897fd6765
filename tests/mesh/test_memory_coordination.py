"""The in-memory coordination keeps the contract."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from chinwag_server.clock import SystemClock
from chinwag_server.mesh.coordination import CoordinationUnavailable, LeaseGone, Snapshot
from chinwag_server.mesh.memory_coordination import (
    MAX_PENDING,
    MemoryCluster,
    MemoryCoordination,
)
from tests.mesh.coordination_contract import CoordinationContract


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(SystemClock())


@pytest.fixture
def coordination(cluster: MemoryCluster) -> MemoryCoordination:
    return MemoryCoordination(cluster, SystemClock())


@pytest.fixture
def other(cluster: MemoryCluster) -> MemoryCoordination:
    return MemoryCoordination(cluster, SystemClock())


class TestMemoryCoordination(CoordinationContract):
    pass


async def test_a_watcher_that_is_far_behind_gets_the_whole_state(
    coordination: MemoryCoordination,
) -> None:
    async with aclosing(coordination.watch("/a/")) as watch:
        await anext(watch)
        for _ in range(MAX_PENDING):
            await coordination.put("/a/k", b"")
        last = await coordination.put("/a/k", b"")
        snapshot = await anext(watch)
    assert isinstance(snapshot, Snapshot)
    assert snapshot.revision == last


async def test_forgotten_history_gives_the_whole_state(
    cluster: MemoryCluster, coordination: MemoryCoordination
) -> None:
    async with aclosing(coordination.watch("/a/")) as watch:
        await anext(watch)
        cluster.forget_history()
        assert isinstance(await anext(watch), Snapshot)


async def test_a_way_that_is_cut_loses_requests_and_answers(cluster: MemoryCluster) -> None:
    legs = 0

    async def lose_the_answer() -> None:
        nonlocal legs
        legs += 1
        if legs == 2:
            raise CoordinationUnavailable("cut")

    coordination = MemoryCoordination(cluster, SystemClock(), lose_the_answer)
    with pytest.raises(CoordinationUnavailable):
        await coordination.put("/a/k", b"ann")
    # It happened, and nobody was told.
    assert (await coordination.list("/a/")).entries[0].value == b"ann"


async def test_a_watch_over_a_way_that_was_cut_gives_the_whole_state(
    cluster: MemoryCluster, coordination: MemoryCoordination
) -> None:
    cut = False

    async def travel() -> None:
        if cut:
            raise CoordinationUnavailable("cut")

    watched = MemoryCoordination(cluster, SystemClock(), travel)
    async with aclosing(watched.watch("/a/")) as watch, asyncio.timeout(5):
        await anext(watch)
        cut = True
        await coordination.put("/a/k", b"ann")
        following = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0.3)
        assert not following.done()
        cut = False
        snapshot = await following
    assert isinstance(snapshot, Snapshot)
    assert [entry.value for entry in snapshot.entries] == [b"ann"]


async def test_a_restored_cluster_is_as_it_was(
    cluster: MemoryCluster, coordination: MemoryCoordination
) -> None:
    lease = await coordination.grant(60)
    made = await coordination.create("/a/1", b"ann", lease.id)
    saved = cluster.save()
    async with aclosing(coordination.watch("/a/")) as watch:
        await anext(watch)
        await coordination.create("/a/2", b"bob")
        cluster.restore(saved)
        assert await anext(watch) == Snapshot(made.mod_revision, (made,))
    await coordination.keep_alive(lease.id)
    # Its revisions come again.
    again = await coordination.create("/a/3", b"bob")
    assert again.create_revision == made.create_revision + 1


async def test_a_cluster_restored_without_leases_has_none_of_their_keys(
    cluster: MemoryCluster, coordination: MemoryCoordination
) -> None:
    lease = await coordination.grant(60)
    await coordination.create("/a/1", b"ann", lease.id)
    cluster.restore(cluster.save(), leases=False)
    assert (await coordination.list("/a/")).entries == ()
    with pytest.raises(LeaseGone):
        await coordination.keep_alive(lease.id)
