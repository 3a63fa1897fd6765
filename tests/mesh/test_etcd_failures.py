"""The coordination on etcds that die, freeze, forget, move their leader and refuse."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from chinwag_server.clock import SystemClock
from chinwag_server.mesh.coordination import (
    Changes,
    CoordinationRefused,
    CoordinationUnavailable,
    Deleted,
    Entry,
    LeaseGone,
    Snapshot,
)
from chinwag_server.mesh.etcd import EtcdClient, EtcdCoordination, EtcdTls
from chinwag_server.mesh.lease import HeldLease, keep
from tests.mesh import certificates
from tests.mesh.etcd_fixtures import Connect
from tools.engines.etcd import Etcd, EtcdCluster
from tools.engines.process import free_port

WAIT_S = 20.0


class Follower:
    """Follows a prefix as a consumer does; knows what it holds now."""

    def __init__(self, coordination: EtcdCoordination, prefix: str) -> None:
        self.state: dict[str, bytes] = {}
        self.seen: list[bytes] = []
        self.snapshots = 0
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._follow(coordination, prefix))

    async def _follow(self, coordination: EtcdCoordination, prefix: str) -> None:
        async with aclosing(coordination.watch(prefix)) as watch:
            async for news in watch:
                if isinstance(news, Snapshot):
                    self.snapshots += 1
                    self.state = {entry.key: entry.value for entry in news.entries}
                else:
                    self._apply(news)
                self._news.set()

    def _apply(self, news: Changes) -> None:
        for change in news.changes:
            if isinstance(change, Deleted):
                self.state.pop(change.key, None)
            else:
                self.state[change.key] = change.value
                self.seen.append(change.value)

    async def until(self, key: str, value: bytes) -> None:
        """Waits until it has seen a key with this value."""
        async with asyncio.timeout(WAIT_S):
            while self.state.get(key) != value:
                self._news.clear()
                await self._news.wait()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def put_again(coordination: EtcdCoordination, key: str, value: bytes) -> None:
    """Puts until it succeeds."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await coordination.put(key, value)
            except CoordinationUnavailable:
                continue
            return


async def test_a_member_killed_and_started_again_loses_nothing(
    etcd: Etcd, connect: Connect
) -> None:
    writer, reader = connect(etcd.endpoint), connect(etcd.endpoint)
    follower = Follower(reader, "/a/")
    await writer.put("/a/k", b"0")
    await follower.until("/a/k", b"0")
    for number in range(1, 4):
        etcd.kill()
        await asyncio.to_thread(etcd.start)
        await put_again(writer, "/a/k", b"%d" % number)
        await follower.until("/a/k", b"%d" % number)
    assert follower.snapshots == 1
    # The first may have come with the state; a put whose answer was lost is there twice.
    assert sorted({*follower.seen, b"0"}) == [b"0", b"1", b"2", b"3"]
    await follower.stop()


async def test_writes_under_kills_arrive_in_order(etcd: Etcd, connect: Connect) -> None:
    writer, reader = connect(etcd.endpoint), connect(etcd.endpoint)
    follower = Follower(reader, "/a/")
    await writer.put("/a/k", b"0000")
    await follower.until("/a/k", b"0000")

    async def write() -> None:
        for number in range(1, 201):
            await put_again(writer, "/a/k", b"%04d" % number)
            await asyncio.sleep(0.005)

    writing = asyncio.create_task(write())
    for _ in range(2):
        await asyncio.sleep(0.3)
        etcd.kill()
        await asyncio.to_thread(etcd.start)
    await writing
    await follower.until("/a/k", b"0200")
    # A put whose answer was lost may be there twice; nothing is missing and nothing goes back.
    assert follower.seen == sorted(follower.seen)
    assert len({*follower.seen} - {b"0000"}) == 200
    assert follower.snapshots == 1
    await follower.stop()


async def test_a_compaction_behind_a_stopped_watch_gives_the_whole_state(
    etcd: Etcd, connect: Connect
) -> None:
    writer, reader = connect(etcd.endpoint), connect(etcd.endpoint)
    await writer.create("/a/gone", b"ann")
    async with aclosing(reader.watch("/a/")) as watch, asyncio.timeout(WAIT_S):
        await anext(watch)
        first = await writer.put("/a/k", b"1")
        assert await anext(watch) == Changes(first, (Entry("/a/k", b"1", first, first),))
        _compact_before_it_is_back(etcd)
        news = await anext(watch)
    # The deletion in between is told by its absence.
    assert isinstance(news, Snapshot)
    assert {entry.key: entry.value for entry in news.entries} == {"/a/k": b"3"}


async def test_a_restored_etcd_that_has_come_past_what_was_known(
    etcd: Etcd, connect: Connect, tmp_path: Path
) -> None:
    """Its revision alone would not tell."""
    writer, reader = connect(etcd.endpoint), connect(etcd.endpoint)
    await writer.put("/a/k", b"1")
    _copy(etcd, tmp_path / "etcd" / "data", tmp_path / "backup")
    async with aclosing(reader.watch("/a/")) as watch, asyncio.timeout(WAIT_S):
        await anext(watch)
        await put_again(writer, "/a/k", b"2")
        last = await anext(watch)
        _copy(etcd, tmp_path / "backup", tmp_path / "etcd" / "data")
        for value in ("Mw==", "NA==", "NQ=="):  # 3, 4, 5
            etcd.call("kv/put", {"key": "L2Evbw==", "value": value})  # /a/o
        news = await anext(watch)
    assert isinstance(news, Snapshot)
    assert news.revision > last.revision
    assert {entry.key: entry.value for entry in news.entries} == {"/a/k": b"1", "/a/o": b"5"}


def _copy(etcd: Etcd, source: Path, target: Path) -> None:
    """Puts one folder in another's place while etcd does not run, and blocks the event loop."""
    etcd.kill()
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    etcd.start()


def _compact_before_it_is_back(etcd: Etcd) -> None:
    """Breaks all streams, and blocks the event loop until what they missed is forgotten."""
    etcd.kill()
    etcd.start()
    etcd.call("kv/deleterange", {"key": "L2EvZ29uZQ=="})  # /a/gone
    for value in ("Mg==", "Mw=="):  # 2, 3
        etcd.call("kv/put", {"key": "L2Evaw==", "value": value})
    etcd.compact()


async def test_frozen_longer_than_a_lease(etcd: Etcd, connect: Connect) -> None:
    coordination = connect(etcd.endpoint, timeout_s=1.0)
    lease = await coordination.grant(3)
    held = HeldLease(lease, 1.0, SystemClock())
    await coordination.create("/a/k", b"ann", held.id)
    keeping = asyncio.create_task(keep(held, coordination))
    await asyncio.sleep(1.5)
    assert held.alive()
    etcd.freeze()
    frozen = time.monotonic()
    async with asyncio.timeout(WAIT_S):
        await keeping
    assert time.monotonic() - frozen < 2.2
    await asyncio.sleep(3 - (time.monotonic() - frozen))
    etcd.thaw()
    # Whether etcd ended it yet or not: here it is over.
    assert not held.alive()
    async with asyncio.timeout(WAIT_S), aclosing(coordination.watch("/a/")) as watch:
        news = await anext(watch)
        while not (isinstance(news, Snapshot) and news.entries == ()):
            if isinstance(news, Changes) and isinstance(news.changes[-1], Deleted):
                break
            news = await anext(watch)
    with pytest.raises(LeaseGone):
        await coordination.keep_alive(lease.id)


async def test_a_call_to_a_frozen_member_ends_in_time(etcd: Etcd, connect: Connect) -> None:
    coordination = connect(etcd.endpoint, timeout_s=1.0)
    await coordination.put("/a/k", b"ann")
    etcd.freeze()
    start = time.monotonic()
    with pytest.raises(CoordinationUnavailable, match=f"{etcd.endpoint}: no answer"):
        await coordination.put("/a/k", b"bob")
    assert 0.9 < time.monotonic() - start < 2.0
    etcd.thaw()


async def test_a_cluster_goes_on_when_its_leader_is_killed(
    etcd_cluster: EtcdCluster, connect: Connect
) -> None:
    writer, reader = connect(*etcd_cluster.endpoints), connect(*etcd_cluster.endpoints)
    follower = Follower(reader, "/a/")
    lease = await writer.grant(5)
    made = await writer.create("/a/held", b"ann", lease.id)
    await follower.until("/a/held", b"ann")
    leader = await asyncio.to_thread(etcd_cluster.leader)
    leader.kill()
    start = time.monotonic()
    sent = await writer.keep_alive(lease.id)
    assert sent < start + 4
    await put_again(writer, "/a/k", b"after")
    await follower.until("/a/k", b"after")
    assert time.monotonic() - start < 8
    assert made in (await reader.list("/a/")).entries
    await asyncio.to_thread(leader.start)
    await put_again(writer, "/a/k", b"again")
    await follower.until("/a/k", b"again")
    assert follower.snapshots == 1
    await follower.stop()


async def test_a_cluster_goes_on_when_a_member_freezes(
    etcd_cluster: EtcdCluster, connect: Connect
) -> None:
    clients = [connect(*etcd_cluster.endpoints) for _ in range(3)]
    for number, client in enumerate(clients):
        client._client._current = number
    followers = [Follower(client, "/a/") for client in clients]
    await clients[0].put("/a/k", b"before")
    for follower in followers:
        await follower.until("/a/k", b"before")
    etcd_cluster.members[0].freeze()
    for client in clients:
        await put_again(client, "/a/k", b"after")
    # Also the one that watched the frozen one, when it has not answered pings for 9 s.
    for follower in followers:
        await follower.until("/a/k", b"after")
        assert follower.snapshots == 1
        await follower.stop()
    etcd_cluster.members[0].thaw()


async def test_nobody_there(connect: Connect) -> None:
    endpoints = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    coordination = connect(*endpoints, timeout_s=1.0)
    with pytest.raises(CoordinationUnavailable, match="did not answer within 1 s") as raised:
        await coordination.list("/a/")
    for endpoint in endpoints:
        assert f"{endpoint}: UNAVAILABLE" in str(raised.value)


def test_no_endpoints_are_refused() -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        EtcdClient([])


async def test_users_and_what_they_may(etcd: Etcd, connect: Connect) -> None:
    users = {"ann": ("secret", "/a/"), "bob": ("secret", "/b/")}
    await asyncio.to_thread(etcd.require_users, "root-secret", users)
    ann = connect(etcd.endpoint, user="ann", password="secret")
    await ann.put("/a/k", b"ann")
    follower = Follower(ann, "/a/")
    await follower.until("/a/k", b"ann")

    with pytest.raises(CoordinationRefused, match="'ann': etcdserver: permission denied"):
        await ann.put("/b/k", b"ann")
    wrong = connect(etcd.endpoint, user="ann", password="guess")
    with pytest.raises(CoordinationRefused, match="invalid user ID or password"):
        await wrong.list("/a/")
    nobody = connect(etcd.endpoint)
    with pytest.raises(CoordinationRefused, match="a client without a user"):
        await nobody.list("/a/")

    # A restart forgets all tokens.
    etcd.kill()
    await asyncio.to_thread(etcd.start)
    lease = await ann.grant(60)
    await ann.keep_alive(lease.id)
    await ann.put("/a/k", b"again", lease.id)
    await follower.until("/a/k", b"again")
    assert follower.snapshots == 1
    await ann.revoke(lease.id)
    await follower.stop()


async def test_a_user_where_there_are_none(etcd: Etcd, connect: Connect) -> None:
    ann = connect(etcd.endpoint, user="ann", password="secret")
    with pytest.raises(CoordinationRefused, match="authentication is not enabled"):
        await ann.list("/a/")


async def test_tls(tmp_path: Path, connect: Connect) -> None:
    files = certificates.make(tmp_path)
    etcd = Etcd(tmp_path / "etcd", tls=files)
    await asyncio.to_thread(etcd.start)
    try:
        ann = connect(etcd.endpoint, tls=EtcdTls(ca=files.ca))
        await ann.put("/a/k", b"ann")
        assert (await ann.list("/a/")).entries[0].value == b"ann"
        for stranger in (
            connect(etcd.endpoint, timeout_s=1.0),
            connect(etcd.endpoint, timeout_s=1.0, tls=EtcdTls()),
        ):
            with pytest.raises(CoordinationUnavailable, match="whether it wants TLS"):
                await stranger.list("/a/")
    finally:
        etcd.stop()
