"""A mesh of three nodes: what a durable send costs, and what it adds that another node owns the
channel."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench import drive
from bench.drive import Run, Spec
from bench.measures.common import Bench, cpu_us, late, user_ids
from bench.mesh import BenchMesh, bench_mesh
from bench.process import WIRE_VARIABLE
from bench.report import Row

PAIRS = 100
RATE = 150
WINDOW = 5  # sends of one sender without an answer
REACH_CPU_US = 400.0
REACH_HOP_MS = 2.0
ROUNDS = 3
COUNT = 200
SATURATED = f"-window={WINDOW}"
KINDS = {f"{RATE} sends/s": f"-rate={RATE}", f"saturated, {PAIRS} senders": SATURATED}


def measure(bench: Bench) -> list[Row]:
    """Rows: CPU of a send at a modest rate and saturated, both also in parts of the embedded
    server; sends a second; the time that another owner adds."""
    with bench_mesh() as mesh:
        runs = {kind: _mesh_run(bench, mesh, flag) for kind, flag in KINDS.items()}
        hop = _hop(mesh)
    embedded = _embedded(bench)
    rows = []
    for kind, run in runs.items():
        rows += _cost(kind, run, embedded[kind])
    saturated = list(runs.values())[-1]
    alone = list(embedded.values())[-1]
    rate, alone_rate = (one.result["sends"] / one.result["window_s"] for one in (saturated, alone))
    rows.append(
        Row(
            "durable sends/s through 3 nodes and one Cassandra, all on this machine",
            rate,
            "/s",
            wrong=saturated.problems[:3],
            detail=f"embedded server in this run {alone_rate:,.0f}/s",
        )
    )
    return [*rows, hop]


def _pairs() -> list[tuple[int, int]]:
    return [(2 * number, 2 * number + 1) for number in range(PAIRS)]


def _mesh_run(bench: Bench, mesh: BenchMesh, flag: str) -> Run:
    """Pairs whose two devices, and their channel's owner, are on any of the nodes."""
    # Other people each time: a direct channel is made once.
    people = [f"{user_id}{flag.replace('=', '-')}" for user_id in user_ids(2 * PAIRS)]
    devices = mesh.backend.users(people)
    places = [mesh.backend.direct(people, *pair) for pair in _pairs()]
    addresses = [
        mesh.targets[node % len(mesh.targets)]
        for number in range(PAIRS)
        for node in (number, number // 3)
    ]
    spec = Spec(mesh.targets[0], devices, places, addresses)
    return drive.run(
        "traffic", spec, mesh, "-senders=1", flag, *bench.times, beside=mesh.database()
    )


def _embedded(bench: Bench) -> dict[str, Run]:
    """The same traffic into one process on SQLite."""
    one = bench.with_settings(**{WIRE_VARIABLE: bench.wires[0]}) if bench.wires[0] else bench
    people = user_ids(2 * PAIRS)
    runs = {}
    for kind, flag in KINDS.items():
        with one.fresh() as (server, backend):
            devices = backend.users(people)
            places = [backend.direct(people, *pair) for pair in _pairs()]
            spec = Spec(server.address, devices, places)
            runs[kind] = drive.run("traffic", spec, server, "-senders=1", flag, *bench.times)
    return runs


def _cost(kind: str, run: Run, alone: Run) -> list[Row]:
    result = run.result
    sends = result["sends"]
    us, alone_us = (cpu_us(one, one.result["sends"]) for one in (run, alone))
    behind = late(run, RATE) if kind == next(iter(KINDS)) else ""
    wrong = run.problems[:3] + ((behind,) if behind else ())
    return [
        Row(
            f"CPU a durable 1:1 send, all three nodes together, {kind}",
            us,
            "us",
            REACH_CPU_US,
            wrong=wrong,
            detail=f"{sends / result['window_s']:,.0f}/s; ack p50 {result['ack']['p50_ms']:.1f} "
            f"p99 {result['ack']['p99_ms']:.0f} ms; Cassandra itself "
            f"{run.beside_cpu_s * 1e6 / max(sends, 1):,.0f} us",
        ),
        Row(
            f"the same in parts of the embedded server, {kind}",
            us / alone_us,
            "x",
            wrong=alone.problems[:3],
            detail=f"embedded {alone_us:,.0f} us; ack p50 {alone.result['ack']['p50_ms']:.1f} "
            f"p99 {alone.result['ack']['p99_ms']:.0f} ms",
        ),
    ]


def _hop(mesh: BenchMesh) -> Row:
    """A lone pair at the first node, in channels of its own and in those of the second."""
    people = ["hop-1", "hop-2"]
    devices = mesh.backend.users(people)
    runs: dict[int, list[Run]] = {0: [], 1: []}
    places = mesh.groups(people, 12 * ROUNDS)
    channels = {node: mesh.of(node, places) for node in runs}
    for turn in range(ROUNDS):
        for node, done in runs.items():
            spec = Spec(mesh.targets[0], devices, [channels[node][turn]])
            done.append(drive.run("oneone", spec, mesh, f"-count={COUNT}", "-gap=5ms"))
    own, other = (_p50s(done) for done in runs.values())
    return Row(
        "added p50 of a send to a channel that another node owns, idle mesh",
        statistics.median(other) - statistics.median(own),
        "ms",
        REACH_HOP_MS,
        wrong=tuple(text for done in runs.values() for run in done for text in run.problems[:1]),
        detail=f"ack p50 of {ROUNDS} rounds: own {_listed(own)}; another's {_listed(other)} ms",
    )


def _p50s(runs: Sequence[Run]) -> list[float]:
    return [run.result["ack"]["p50_ms"] for run in runs]


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)
