"""1:1 channels: what a durable send costs, a pair at a time or saturated."""

from __future__ import annotations

from collections.abc import Sequence

from bench import drive
from bench.drive import Run, Spec
from bench.measures.common import (
    Bench,
    Both,
    cores,
    cpu_us,
    each_wire,
    late,
    per_core,
    user_ids,
    wrong_with,
)
from bench.report import Row

SATURATED_SENDERS = 20
SATURATED = ("-batch=10", "-window=100")
REACH_PER_CORE = 20_000
CALM_PAIRS = 50
CALM_RATE = 500
REACH_CPU_US = 400.0
REACH_MS = {"p50": 1.5, "p99": 5.0}


def measure(bench: Bench) -> list[Row]:
    """Rows: the CPU and the time of a send while nobody is in a hurry, and saturated sends a
    core."""
    calm = _both(bench, CALM_PAIRS, (f"-rate={CALM_RATE}",))
    saturated = _both(bench, SATURATED_SENDERS, SATURATED)
    name = f"1:1, {CALM_PAIRS} pairs, {CALM_RATE} sends/s, durable"
    value, reference = calm.figures(lambda run: cpu_us(run, run.result["sends"]))
    fell_behind = late(calm.ours, CALM_RATE)
    rows = [
        Row(
            f"CPU a send, {name}",
            value,
            "us",
            REACH_CPU_US,
            reference=reference,
            wrong=wrong_with(calm) + ((fell_behind,) if fell_behind else ()),
            detail=_told(calm.ours),
        )
    ]
    for quantile, reach in REACH_MS.items():

        def delivered(run: Run, key: str = f"{quantile}_ms") -> float:
            value: float = run.result["delivery"][key]
            return value

        value, reference = calm.figures(delivered)
        rows.append(
            Row(
                f"send to delivered, {name}, {quantile}",
                value,
                "ms",
                reach,
                reference=reference,
                wrong=wrong_with(calm),
            )
        )
    value, reference = saturated.figures(lambda run: per_core(run, run.result["sends"]))
    rows.append(
        Row(
            f"durable sends/s per server core, 1:1, {SATURATED_SENDERS} senders, 10 a frame",
            value,
            "/s",
            REACH_PER_CORE,
            more=True,
            reference=reference,
            wrong=wrong_with(saturated),
            detail=_told(saturated.ours),
        )
    )
    return rows


def _both(bench: Bench, pairs: int, flags: Sequence[str]) -> Both[Run]:
    members = [(2 * number, 2 * number + 1) for number in range(pairs)]
    people = user_ids(2 * pairs)

    def run(one: Bench) -> Run:
        with one.fresh() as (server, backend):
            devices = backend.users(people)
            places = [backend.direct(people, *pair) for pair in members]
            spec = Spec(server.address, devices, places)
            return drive.run("traffic", spec, server, "-senders=1", *flags, *one.times)

    return each_wire(bench, run)


def _told(run: Run) -> str:
    result = run.result
    return (
        f"{result['sends'] / result['window_s']:,.0f}/s on {cores(run):.2f} cores; "
        f"ack p50 {result['ack']['p50_ms']:.1f} p99 {result['ack']['p99_ms']:.1f} ms"
    )
