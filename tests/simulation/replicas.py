"""`Tables` on three replicas that behave as Cassandra's do at QUORUM, in virtual time.

A write reaches each replica at another moment, or late, or never; it is acked when two have it,
and the ack may be lost. A read asks two, merges by timestamp and may repair. A replica that is down
misses what is written meanwhile.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from chinwag_server.chat.sequenced.cells import Partition, Replica
from chinwag_server.chat.sequenced.tables import (
    Delete,
    Key,
    Put,
    Row,
    Table,
    TablesUnavailable,
    one_by_one,
)
from tests.simulation.loop import Loop

QUORUM = 2


@dataclass(slots=True)
class Faults:
    """How bad the world is: chances of each message.

    Attributes:
        late: That a write lands on a replica only after up to `late_s`.
        lost: That it never does, or a read's answer.
        no_ack: That a write's answer is lost.
        repair: That a read writes back what it merged.
        twice: That a write lands once more, late.
    """

    late: float = 0.0
    late_s: float = 20.0
    lost: float = 0.0
    no_ack: float = 0.0
    repair: float = 0.5
    twice: float = 0.0
    delay_s: float = 0.002


class Cluster:
    """Three replicas, and the stored epochs, which are linearizable."""

    def __init__(self, loop: Loop, rng: random.Random, faults: Faults) -> None:
        self.loop = loop
        self.rng = rng
        self.faults = faults
        self.replicas = [Replica(lambda: loop.now) for _ in range(3)]
        self.down: set[int] = set()
        self.cut_off: set[str] = set()
        self.epochs: dict[int, tuple[int, bytes]] = {}
        # Asked of every write that a node sends out: how many replicas it does not reach in time.
        self.on_write: Callable[[str, Sequence[Put | Delete]], int] = lambda _name, _batch: 0

    def delay(self) -> float:
        """How long a message takes."""
        return self.rng.expovariate(1 / self.faults.delay_s)

    def at(self, delay_s: float, act: Callable[[], None]) -> None:
        """Something happens in the world, whoever lives by then."""
        self.loop.happen(delay_s, act)

    def merged(self, table: Table, partition: Key, limit: int = 1_000_000) -> list[Row]:
        """What all replicas together hold: for the checker."""
        whole = Partition()
        for replica in self.replicas:
            whole.merge(replica.partition(table.name, partition))
        return whole.select((), (), limit, False, self.loop.now)


class SimTables:
    """The cluster as one node sees it.

    Args:
        name: Of the node, which may be cut off.
        timeout_s: Of a read or write.
    """

    def __init__(self, cluster: Cluster, name: str, timeout_s: float = 2.0) -> None:
        self._cluster = cluster
        self._name = name
        self._timeout_s = timeout_s

    async def write(self, writes: Sequence[Put | Delete]) -> None:
        cluster, faults, rng = self._cluster, self._cluster.faults, self._cluster.rng
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        acks: set[int] = set()
        batch = tuple(writes)

        def acked(place: int) -> None:
            acks.add(place)
            if len(acks) == QUORUM and not done.done():
                done.set_result(None)

        def land(place: int) -> None:
            if place in cluster.down:
                return
            cluster.replicas[place].apply(batch)
            if rng.random() >= faults.no_ack:
                cluster.at(cluster.delay(), lambda: acked(place))

        withheld = cluster.on_write(self._name, batch)
        if self._name not in cluster.cut_off:
            for number, place in enumerate(rng.sample(range(3), 3)):
                draw = rng.random() * (0.5 if number < withheld else 1)
                if draw < (0.2 if number < withheld else faults.lost):
                    continue
                late = number < withheld or draw < faults.lost + faults.late
                delay = rng.uniform(0, faults.late_s) if late else cluster.delay()
                cluster.at(delay, lambda place=place: land(place))  # type: ignore[misc]
                if faults.twice and rng.random() < faults.twice:
                    again = rng.uniform(0, faults.late_s)
                    cluster.at(again, lambda place=place: land(place))  # type: ignore[misc]
        await self._in_time(done)

    async def write_each(self, batches: Sequence[Sequence[Put | Delete]]) -> None:
        await one_by_one(self.write, batches)

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
        cluster, faults, rng = self._cluster, self._cluster.faults, self._cluster.rng
        done: asyncio.Future[Partition] = asyncio.get_running_loop().create_future()
        answers: list[Partition] = []
        asked = [place for place in range(3) if place not in cluster.down]
        rng.shuffle(asked)

        def answered(copy: Partition) -> None:
            answers.append(copy)
            if len(answers) == QUORUM and not done.done():
                whole, other = answers
                whole.merge(other)
                done.set_result(whole)

        def ask(place: int) -> None:
            if place in cluster.down or rng.random() < faults.lost:
                return
            copy = cluster.replicas[place].partition(table.name, partition).part(after, to)
            cluster.at(cluster.delay(), lambda: answered(copy))

        if self._name not in cluster.cut_off:
            for place in asked[:QUORUM]:
                cluster.at(cluster.delay(), lambda place=place: ask(place))  # type: ignore[misc]
        await self._in_time(done)
        whole = done.result()
        if rng.random() < faults.repair:
            for place in asked[:QUORUM]:
                cluster.at(
                    cluster.delay(),
                    lambda place=place: cluster.replicas[place].repair(  # type: ignore[misc]
                        table.name, partition, whole
                    ),
                )
        return whole.select(after, to, limit, newest_first, cluster.loop.now)

    async def claim(self, shard: int, epoch: int, nonce: bytes) -> tuple[int, bytes]:
        cluster, faults, rng = self._cluster, self._cluster.faults, self._cluster.rng
        done: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

        def act() -> None:
            stored = cluster.epochs.get(shard, (0, b""))
            if epoch > stored[0]:
                stored = cluster.epochs[shard] = (epoch, nonce)
            if rng.random() >= faults.no_ack:
                cluster.at(
                    cluster.delay(), lambda: None if done.done() else done.set_result(stored)
                )

        if self._name not in cluster.cut_off and rng.random() >= faults.lost:
            cluster.at(cluster.delay(), act)
        await self._in_time(done)
        return done.result()

    async def _in_time(self, done: asyncio.Future[Any]) -> None:
        await asyncio.wait([done], timeout=self._timeout_s)
        if not done.done():
            done.cancel()
            raise TablesUnavailable(f"no quorum within {self._timeout_s} s")
