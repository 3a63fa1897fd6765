"""The rules of the feed, taken out one by one: the simulation has to notice.

`python -m tests.simulation.feed_teeth [COUNT]` looks for seeds; a test repeats those in SEEDS.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any
from unittest import mock

from chinwag_server.chat.routed import feed as routed
from chinwag_server.chat.sequenced import feed_rows
from chinwag_server.chat.sequenced.feed import Place, ShardFeed
from chinwag_server.chat.sequenced.sequencer import Sequencer
from chinwag_server.chat.sequenced.tables import Put
from tests.simulation import feed, run

# Another Python may run the same seed another way: so many more are tried.
MORE = 40
# Which seed notices that a rule is not there.
SEEDS: dict[str, int] = {
    "ack_before_row": 2,
    "end_before_rows": 14,
    "nothing_for_kept": 2,
    "end_is_left": 1,
    "epochs_are_skipped": 16,
    "bucket_after_row": 8,
}


@contextmanager
def _ack_before_row() -> Iterator[None]:
    """An ack does not wait for its row."""
    row = ShardFeed.row
    tasks = []

    async def write(self: ShardFeed, put: Put) -> None:
        await asyncio.sleep(0.2)
        await self._write([put])

    async def later(self: ShardFeed, *what: Any) -> tuple[int, Put]:
        number, put = await row(self, *what)
        tasks.append(asyncio.ensure_future(write(self, put)))
        # Another row, which nobody reads.
        return number, Put(put.table, ("", *put.partition[1:]), put.key, put.cells, put.timestamp)

    with mock.patch.object(ShardFeed, "row", later):
        yield


@contextmanager
def _end_before_rows() -> Iterator[None]:
    """An owner says how far its numbers go, not its rows."""
    row = ShardFeed.row

    async def said(self: ShardFeed, *what: Any) -> tuple[int, Put]:
        found = await row(self, *what)
        self._ends.set(self._epoch.shard, Place(self._epoch.number, self._given))
        return found

    with mock.patch.object(ShardFeed, "row", said):
        yield


@contextmanager
def _nothing_for_kept() -> Iterator[None]:
    """Whoever takes over writes no row for what it keeps."""
    feed_row = Sequencer._feed_row

    async def some(self: Sequencer, first_id: int, last_id: int) -> tuple[int, list[Any]]:
        if not self._taken:
            return 0, []
        found = await feed_row(self, first_id, last_id)
        return found[0], list(found[1])

    with mock.patch.object(Sequencer, "_feed_row", some):
        yield


@contextmanager
def _end_is_left() -> Iterator[None]:
    """A reader leaves an epoch as soon as there is a later one."""
    rows_after = feed_rows.rows_after

    async def left(tables: Any, shard: int, place: Place, end: Place, limit: int) -> Any:
        if 0 < place.epoch < end.epoch:
            return (), await feed_rows._next(tables, shard, (place.epoch, 1 << 40), end)
        return await rows_after(tables, shard, place, end, limit)

    with mock.patch.object(routed, "rows_after", left):
        yield


@contextmanager
def _epochs_are_skipped() -> Iterator[None]:
    """A reader goes to the newest epoch at once."""

    async def last(_tables: Any, _shard: int, _after: Any, end: Place) -> Place:
        return Place(end.epoch, 0)

    with mock.patch.object(feed_rows, "_next", last):
        yield


@contextmanager
def _bucket_after_row() -> Iterator[None]:
    """A partition is noted when it is too late."""

    async def noted(_self: ShardFeed, _bucket: int) -> None:
        pass

    with mock.patch.object(ShardFeed, "_open", noted):
        yield


RULES: dict[str, Callable[[], Any]] = {
    rule.__name__.strip("_"): rule
    for rule in (
        _ack_before_row,
        _end_before_rows,
        _nothing_for_kept,
        _end_is_left,
        _epochs_are_skipped,
        _bucket_after_row,
    )
}


def noticed(rule: str, seeds: Iterable[int]) -> tuple[int, str]:
    """The first seed that notices, and what it says; 0: none does."""
    with feed.written(), RULES[rule]():
        for outcome in run.simulate(seeds):
            if outcome.violation is not None:
                return outcome.seed, outcome.violation
    return 0, ""


def main() -> int:
    """Looks for seeds, or repeats the recorded ones."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(
            sys.executable, [sys.executable, "-m", "tests.simulation.feed_teeth", *sys.argv[1:]]
        )
    for rule in RULES:
        if len(sys.argv) > 1:
            seeds = chain(range(1, 1 + int(sys.argv[1])))
        else:
            seeds = chain([SEEDS[rule]], range(1, MORE))
        seed, text = noticed(rule, seeds)
        print(f"{rule}: " + (f"noticed by seed {seed}: {text}" if seed else "missed"), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
