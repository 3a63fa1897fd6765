"""1:1 channels: what a durable send costs, a pair at a time or saturated."""

from __future__ import annotations

from collections.abc import Sequence

from bench import drive
from bench.drive import Run, Spec
from bench.measures.common import Bench, stranger, user_ids, wrong_with
from bench.process import Server
from bench.report import Row

SATURATED_SENDERS = 20
SATURATED = ("-batch=10", "-window=100")
REACH_PER_CORE = 8_000
CALM_PAIRS = 50
CALM_RATE = 500


def measure(bench: Bench) -> list[Row]:
    """Rows: saturated sends a core, and the CPU of a send while nobody is in a hurry."""
    saturated = _both(bench, SATURATED_SENDERS, SATURATED)
    calm = _both(bench, CALM_PAIRS, (f"-rate={CALM_RATE}",))
    delivery = calm[0].result["delivery"]
    return [
        Row(
            "durable sends/s per server core, 1:1, 20 senders, 10 a frame",
            _per_core(saturated[0]),
            "/s",
            REACH_PER_CORE,
            more=True,
            reference=_per_core(saturated[1]),
            wrong=wrong_with(saturated[0]),
            detail=_told(saturated[0]),
        ),
        Row(
            f"CPU a send, 1:1, {CALM_PAIRS} pairs, {CALM_RATE} sends/s",
            1e6 / _per_core(calm[0]),
            "us",
            reference=1e6 / _per_core(calm[1]),
            wrong=wrong_with(calm[0]),
            detail=f"p50 {delivery['p50_ms']:.2f} p99 {delivery['p99_ms']:.1f} ms",
        ),
    ]


def _both(bench: Bench, pairs: int, flags: Sequence[str]) -> tuple[Run, Run]:
    members = [(2 * number, 2 * number + 1) for number in range(pairs)]
    people = user_ids(2 * pairs)
    with bench.fresh() as (server, backend):
        devices = backend.users(people)
        places = [backend.direct(people, *pair) for pair in members]
        ours = _run(bench, Spec(server.address, devices, places), server, flags)
    with bench.reference() as server:
        theirs = _run(bench, stranger(server.address, 2 * pairs, members), server, flags)
    return ours, theirs


def _run(bench: Bench, spec: Spec, server: Server, flags: Sequence[str]) -> Run:
    return drive.run("traffic", spec, server, "-senders=1", *flags, *bench.times)


def _per_core(run: Run) -> float:
    sends: float = run.result["sends"]
    return sends / max(run.window_cpu_s, 0.01)


def _told(run: Run) -> str:
    result = run.result
    return (
        f"{result['sends'] / result['window_s']:,.0f}/s on "
        f"{run.window_cpu_s / result['window_s']:.2f} cores; "
        f"ack p50 {result['ack']['p50_ms']:.1f} p99 {result['ack']['p99_ms']:.1f} ms"
    )
