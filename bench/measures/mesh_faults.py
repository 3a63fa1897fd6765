"""A node of a mesh drains, or is killed: how long its channels take no sends."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence

from bench.drive import Place
from bench.measures.common import Bench
from bench.mesh import BenchMesh, bench_mesh
from bench.probe import Probe, Sent
from bench.report import Row

CHANNELS = 150  # a third of them are the node's that goes
EVERY_S = 0.25
BEFORE_S = 3.0
AFTER_S = 3.0
LEASE_S = 10
AFTER_LEASE_S = 2.0
REACH_DRAIN_MS = 500.0
BACK_S = 40.0  # by then a channel takes sends again, or never
SAMPLE_S = 1.0
LEAVES = 2  # the node that goes; the clients are at the others


def measure(bench: Bench) -> list[Row]:
    """Rows: the longest that a send waits while a node drains; the time from a kill until all
    channels take sends again, and what that asks of Cassandra."""
    with bench_mesh({"CHINWAG_MESH_LEASE_S": str(LEASE_S)}) as mesh:
        people = ["probe-1", "probe-2"]
        (_, token), _ = mesh.backend.users(people)
        places = mesh.groups(people, CHANNELS)
        node = mesh.nodes[LEAVES]
        drained = asyncio.run(_during(mesh, mesh.of(LEAVES, places), token, node.stop))
        mesh.restart(LEAVES)
        # It is another node now, and owns others than before.
        killed = asyncio.run(_during(mesh, mesh.of(LEAVES, places), token, node.kill))
    return [_drain_row(drained), *_kill_rows(killed)]


class During:
    """What clients saw while something happened.

    Attributes:
        began, ended: When it was done, by `time.monotonic`.
        rates: Reads and writes a second of Cassandra since, in samples of a second.
    """

    def __init__(self, probe: Probe, places: Sequence[Place]) -> None:
        self.probe = probe
        self.channels = [place.channel_id for place in places]
        self.began = self.ended = 0.0
        self.rates: list[tuple[float, float]] = []

    def back(self) -> dict[str, Sent]:
        """The first send of each channel that began afterwards and was acked."""
        first: dict[str, Sent] = {}
        for sent in self.probe.sent:
            if sent.begun > self.began:
                first.setdefault(sent.channel_id, sent)
        return first

    @property
    def wrong(self) -> tuple[str, ...]:
        lost = len(self.channels) - len(self.back())
        missing = (f"{lost} channels take no sends after {BACK_S:.0f} s",) if lost else ()
        return (*self.probe.refused[:3], *missing)


async def _during(
    mesh: BenchMesh, places: Sequence[Place], token: str, event: Callable[[], None]
) -> During:
    targets = [target for number, target in enumerate(mesh.targets) if number != LEAVES]
    async with Probe(targets, places, token, EVERY_S) as probe:
        seen = During(probe, places)
        await asyncio.sleep(BEFORE_S)
        before = await asyncio.to_thread(_operations, mesh)
        seen.began = at = time.monotonic()
        happening = asyncio.ensure_future(asyncio.to_thread(event))
        while time.monotonic() < seen.began + BACK_S:
            await asyncio.sleep(SAMPLE_S)
            now, counts = time.monotonic(), await asyncio.to_thread(_operations, mesh)
            reads, writes = ((counts[kind] - before[kind]) / (now - at) for kind in ("r", "w"))
            seen.rates.append((reads, writes))
            before, at = counts, now
            if happening.done() and len(seen.back()) == len(places):
                break
        await happening
        seen.ended = time.monotonic()
        await asyncio.sleep(AFTER_S)
    return seen


def _operations(mesh: BenchMesh) -> Counter[str]:
    return Counter(r=mesh.cassandra.reads().total(), w=mesh.cassandra.writes().total())


def _drain_row(seen: During) -> Row:
    """Of all sends that were under way while the node drained."""
    longest: dict[str, float] = {}
    took = []
    for sent in seen.probe.sent:
        if sent.ended > seen.began and sent.begun < seen.ended:
            took.append(sent.took_s)
            longest[sent.channel_id] = max(longest.get(sent.channel_id, 0.0), sent.took_s)
    by_channel = list(longest.values())
    calm = [sent.took_s for sent in seen.probe.sent if sent.ended < seen.began]
    return Row(
        f"node drained: longest a send waits, p99 over {len(longest)} of its channels",
        _quantile(by_channel, 0.99) * 1000,
        "ms",
        REACH_DRAIN_MS,
        wrong=seen.wrong,
        detail=f"p50 of the channels {_quantile(by_channel, 0.5) * 1000:.0f} ms; of all "
        f"{len(took)} sends p99 {_quantile(took, 0.99) * 1000:.0f} ms, before "
        f"{_quantile(calm, 0.99) * 1000:.0f} ms; the drain took {seen.ended - seen.began:.1f} s",
    )


def _kill_rows(seen: During) -> list[Row]:
    back = sorted(sent.ended - seen.began for sent in seen.back().values())
    rates = [reads + writes for reads, writes in seen.rates]
    return [
        Row(
            f"node killed (lease of {LEASE_S} s): all {len(back)} of its channels take sends again",
            back[-1] if back else float("nan"),
            "s",
            LEASE_S + AFTER_LEASE_S,
            wrong=seen.wrong,
            detail=f"first after {back[0]:.1f} s, half after {_quantile(back, 0.5):.1f} s"
            if back
            else "",
        ),
        Row(
            "node killed: rows that Cassandra reads and writes, busiest second",
            max(rates, default=float("nan")),
            "/s",
            detail=f"median {_quantile(rates, 0.5):.0f}/s; with the clients' own sends",
        ),
    ]


def _quantile(values: Sequence[float], q: float) -> float:
    """The value below which so many lie; NaN without values."""
    ordered = sorted(values)
    return ordered[round(q * (len(ordered) - 1))] if ordered else float("nan")
