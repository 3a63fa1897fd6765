"""Three real nodes, each row on all of them: what is lost and what stops when some are away."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from chinwag_server.chat.cassandra.migrate import migrate
from chinwag_server.chat.cassandra.tables import TIMEOUT_S, CassandraTables
from chinwag_server.chat.sequenced.tables import TablesUnavailable
from tests.server.chat.cassandra_fixtures import CLUSTER, KEYSPACE, all_keys, opened, quiet
from tests.server.chat.tables_contract import PLAIN, TABLES, put, rows
from tools.engines.cassandra import Cassandra, Node

__all__ = ["quiet"]

WRITERS = 4
BACK_S = 30.0


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cassandra]:
    """A cluster that is whole; who harms it heals it."""
    server = Cassandra(tmp_path_factory.mktemp("three"), nodes=3)
    server.start()
    try:
        asyncio.run(migrate(server.url(KEYSPACE), TABLES, cluster_id=CLUSTER))
        yield server
    finally:
        server.stop()


@dataclass(slots=True)
class Load:
    """Writers, each of rows of its own partition, and what became of their writes.

    Attributes:
        acknowledged: Partition and key.
        slowest_s: Of the writes that were acknowledged.
    """

    tables: CassandraTables
    acknowledged: list[tuple[str, int]] = field(default_factory=list)
    failures: list[TablesUnavailable] = field(default_factory=list)
    slowest_s: float = 0.0
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _over: bool = False

    async def __aenter__(self) -> Load:
        names = [secrets.token_hex(8) for _ in range(WRITERS)]
        self._tasks = [asyncio.create_task(self._write(name)) for name in names]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def run(self, seconds: float) -> int:
        """Lets it go on; how many writes were acknowledged meanwhile."""
        before = len(self.acknowledged)
        await asyncio.sleep(seconds)
        return len(self.acknowledged) - before

    async def stop(self) -> None:
        self._over = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), 4 * TIMEOUT_S)

    async def missing(self) -> set[tuple[str, int]]:
        """What was acknowledged and is not there."""
        found: set[tuple[str, int]] = set()
        until = time.monotonic() + BACK_S
        for name in {name for name, _ in self.acknowledged}:
            found |= {(name, key) for key in await self._keys(name, until)}
        return set(self.acknowledged) - found

    async def _keys(self, name: str, until: float) -> set[int]:
        while True:
            try:
                return await all_keys(self.tables, name)
            except TablesUnavailable:
                assert time.monotonic() < until

    async def _write(self, name: str) -> None:
        key = 0
        while not self._over:
            key += 1
            began = time.monotonic()
            try:
                await self.tables.write([put(name, key, 10, number=key, data=b"x" * 200)])
            except TablesUnavailable as error:
                self.failures.append(error)
                await asyncio.sleep(0.05)
                continue
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            self.acknowledged.append((name, key))


async def kill(*nodes: Node) -> None:
    for node in nodes:
        await asyncio.to_thread(node.kill)


async def heal(three: Cassandra) -> None:
    """Starts what was killed and waits until the cluster is whole."""
    for node in three.nodes:
        if not node.running:
            node.spawn()
    for node in three.nodes:
        await asyncio.to_thread(node.wait_ready)
    await asyncio.to_thread(three.wait_whole)


async def works_again(tables: CassandraTables) -> None:
    """Waits until a write succeeds."""
    until = time.monotonic() + BACK_S
    while True:
        try:
            await tables.write([put(secrets.token_hex(8), 1, 10, number=1)])
        except TablesUnavailable:
            assert time.monotonic() < until
            await asyncio.sleep(0.2)
        else:
            return


async def test_one_of_three_is_killed(three: Cassandra) -> None:
    async with opened(three.url(KEYSPACE)) as tables, Load(tables) as load:
        assert await load.run(1.5) > 0
        await kill(three.nodes[1])
        assert await load.run(3.0) > 0
        shard = secrets.randbits(62)
        assert await tables.claim(shard, 3, b"nonce") == (3, b"nonce")
        await load.stop()
        assert load.failures == []
        assert load.slowest_s < TIMEOUT_S
        assert await load.missing() == set()
        # Whoever comes now finds two nodes that answer.
        async with opened(three.url(KEYSPACE)) as other:
            assert await other.claim(shard, 3, b"other") == (3, b"nonce")
            name, _ = load.acknowledged[0]
            assert await other.read(PLAIN, (name,), limit=1)


@pytest.mark.soak
async def test_each_of_three_is_killed_in_turn(three: Cassandra) -> None:
    await heal(three)
    async with opened(three.url(KEYSPACE)) as tables, Load(tables) as load:
        for node in three.nodes:
            await kill(node)
            assert await load.run(3.0) > 0
            await heal(three)
            assert await load.run(2.0) > 0
        await load.stop()
        assert load.failures == []
        assert await load.missing() == set()


@pytest.mark.soak
async def test_two_of_three_are_killed(three: Cassandra) -> None:
    await heal(three)
    async with opened(three.url(KEYSPACE)) as tables, Load(tables) as load:
        await load.run(1.0)
        await kill(*three.nodes[:2])
        # What was under way may end either way.
        await load.run(TIMEOUT_S)
        shard = secrets.randbits(62)
        for attempt in (
            lambda: tables.write([put("a", 1, 10, number=1)]),
            lambda: rows(tables, "a"),
            lambda: tables.claim(shard, 3, b"nonce"),
        ):
            began = time.monotonic()
            with pytest.raises(TablesUnavailable, match="Cassandra"):
                await attempt()
            assert time.monotonic() - began < TIMEOUT_S + 0.5
        await load.stop()
        assert load.failures
        await heal(three)
        await works_again(tables)
        assert await load.missing() == set()
        # The claim may have taken effect; it is not another's.
        assert await tables.claim(shard, 3, b"nonce") == (3, b"nonce")


@pytest.mark.soak
async def test_all_are_killed_at_once(three: Cassandra) -> None:
    await heal(three)
    async with opened(three.url(KEYSPACE)) as tables, Load(tables) as load:
        await load.run(2.0)
        await asyncio.gather(*(kill(node) for node in three.nodes))
        await load.stop()
        await heal(three)
        await works_again(tables)
        assert await load.missing() == set()


@pytest.mark.soak
async def test_one_of_three_stands_still(three: Cassandra) -> None:
    await heal(three)
    async with opened(three.url(KEYSPACE)) as tables, Load(tables) as load:
        await load.run(1.0)
        node = three.nodes[2]
        node.freeze()
        try:
            assert await load.run(3.0) > 0
            for key in range(6):
                began = time.monotonic()
                await rows(tables, f"{load.acknowledged[0][0]}{key}")
                shard = secrets.randbits(62)
                assert await tables.claim(shard, 3, b"nonce") == (3, b"nonce")
                assert time.monotonic() - began < TIMEOUT_S
            # Until it is no longer spoken to.
            assert await load.run(12.0) > 0
        finally:
            node.thaw()
        assert await load.run(3.0) > 0
        await load.stop()
        assert load.failures == []
        assert load.slowest_s < TIMEOUT_S
        assert await load.missing() == set()
    await asyncio.to_thread(three.wait_whole)


@pytest.mark.soak
async def test_passwords_and_tls(tmp_path_factory: pytest.TempPathFactory) -> None:
    server = Cassandra(tmp_path_factory.mktemp("tls"), passwords=True, tls=True)
    await asyncio.to_thread(server.start)
    try:
        url = server.url(KEYSPACE)
        await migrate(url, TABLES, cluster_id=CLUSTER)
        async with opened(url) as tables:
            await tables.write([put("a", 1, 10, number=1)])
            assert len(await rows(tables, "a")) == 1
        plain = url.partition("&ca=")[0]
        with pytest.raises(Exception, match="no node can be reached"):
            await CassandraTables(plain, TABLES, cluster_id=CLUSTER).open()
    finally:
        server.stop()
