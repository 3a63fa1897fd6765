"""The feed under the same troubles: `python -m tests.simulation.feed FIRST [COUNT]`.

A backend reads it all the while, now and then anew from its last cursor, and what it is told of
the feeds' ends may be old or get lost. Nothing of a log may be missing, or come too early.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from chinwag.chat.v1 import chat_service_pb2
from chinwag_server.chat.routed.feed import FeedReader
from chinwag_server.chat.routed.feed_cursor import Position
from chinwag_server.chat.sequenced import schema
from chinwag_server.chat.sequenced.committed import CommittedReads
from chinwag_server.chat.sequenced.feed import FeedEnds, Place
from chinwag_server.chat.sequenced.store import SequencedStore
from chinwag_server.chat.sequenced.tables import Delete, Put
from chinwag_server.chat.store import StoreUnavailable
from tests.simulation import run, world
from tests.simulation.checker import Violation
from tests.simulation.replicas import SimTables
from tests.simulation.scenario import Scenario
from tests.simulation.troubles import Troubles

# How long the backend may need once all is quiet.
LAST_S = 120.0


class Known:
    """What the backend's node knows of the feeds' ends."""

    def __init__(self) -> None:
        self._ends: dict[int, Place] = {}

    def __getitem__(self, shard: int) -> Place:
        return self._ends.get(shard, Place(0, 0))

    def tell(self, ends: Sequence[tuple[int, Place]]) -> None:
        """An owner said so, some time ago."""
        for shard, place in ends:
            self._ends[shard] = max(self[shard], place)


class FeedTroubles(Troubles):
    """Rows of the feed are ambushed too."""

    def _written(self, name: str, batch: Sequence[Put | Delete]) -> int:
        if batch[0].table is schema.FEED:
            batch = [replace(batch[0], table=schema.ENTRIES)]
        return super()._written(name, batch)


class FeedScenario(Scenario):
    """A scenario with a backend that reads the feed."""

    def __init__(self, seed: int, flavour: str = "") -> None:
        super().__init__(seed, flavour)
        self.troubles = FeedTroubles(self)
        self.random = random.Random(f"feed {seed}")
        self.bucket = self.random.choice((10_000, 7))
        self.known = Known()
        self.read: dict[str, int] = {}  # by channel: the last entry that was handed out
        self.cursor = ""

    async def main(self) -> None:
        """The whole of it."""
        work: list[Callable[[], Any]] = [self._hear, self._follow]
        tasks = [self.world.loop.create_task(some()) for some in work]
        with mock.patch.object(schema, "FEED_BUCKET", self.bucket):
            await super().main()
            for channel_id in self.channels.values():
                log = await self.whole_log(channel_id)
                until = self.world.loop.now + LAST_S
                self._check(tasks)
                while self.read.get(channel_id, 0) < len(log):
                    if self.world.loop.now > until:
                        raise Violation(
                            f"{channel_id}: the log has {len(log)} entries, the feed ended at "
                            f"{self.read.get(channel_id, 0)}"
                        )
                    await asyncio.sleep(0.5)
                    self._check(tasks)
        for task in tasks:
            task.cancel()

    @staticmethod
    def _check(tasks: Sequence[asyncio.Task[None]]) -> None:
        for task in tasks:
            if task.done():
                task.result()

    async def _hear(self) -> None:
        """News of the ends come late, or not."""
        while True:
            await asyncio.sleep(self.random.uniform(0.01, 0.5))
            for node in self.world.nodes:
                if not node.up or node.process is None or node.process.paused:
                    continue
                ends = node.store._ends
                if ends is not None and self.random.random() < 0.7:
                    delay_s = self.random.choice((0.01, 0.2, 5.0))
                    told = ends.after(0)
                    self.world.tables.at(delay_s, lambda told=told: self.known.tell(told))  # type: ignore[misc]

    async def _follow(self) -> None:
        while True:
            position = Position(world.GENERATION)
            if self.cursor:
                parsed = Position.parse(self.cursor, world.GENERATION)
                assert parsed is not None, self.cursor
                position = parsed
            tables = SimTables(self.world.tables, "backend")
            reads = CommittedReads(tables, world.GENERATION)
            reader = FeedReader(tables, reads, self.known, position, ())
            try:
                # For a while.
                while self.random.random() > 0.05:
                    async for batch in reader.batches():
                        self._take(batch)
                    await asyncio.sleep(self.random.uniform(0.01, 0.5))
            except StoreUnavailable:
                await asyncio.sleep(0.2)
            self.note("backend", "reads from its cursor")

    def _take(self, batch: chat_service_pb2.StreamEventsResponse) -> None:
        for entry in batch.entries:
            last = self.read.get(entry.channel_id, 0)
            if entry.id > last + 1:
                raise Violation(f"{entry.channel_id}: the feed has {entry.id} after {last}")
            self.read[entry.channel_id] = max(last, entry.id)
            self.world.history.show(
                "the feed", entry.channel_id, [(entry.id, entry.SerializeToString())]
            )
        self.cursor = batch.cursor


def with_feed(*args: Any, **parts: Any) -> SequencedStore:
    """A store that writes a feed."""
    return SequencedStore(*args, feed=FeedEnds(), **parts)


@contextmanager
def written() -> Iterator[None]:
    """All nodes write feeds."""
    with (
        mock.patch.object(world, "SequencedStore", with_feed),
        mock.patch.object(run, "Scenario", FeedScenario),
    ):
        yield


def main() -> int:
    """Prints what breaks, and how many seeds hold."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation.feed", *sys.argv[1:]])
    first = int(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    held = 0
    with written():
        for outcome in run.simulate(range(first, first + count)):
            held += outcome.violation is None
            if outcome.violation is not None or count == 1:
                if count == 1:
                    print("\n".join(outcome.history))
                print(f"seed {outcome.seed}, {outcome.flavour}: {outcome.violation or 'holds'}")
    print(f"{held} of {count} seeds hold")
    return 0 if held == count else 1


if __name__ == "__main__":
    sys.exit(main())
