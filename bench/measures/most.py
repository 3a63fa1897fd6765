"""One group of 100: the most durable sends a second that it keeps."""

from __future__ import annotations

from dataclasses import dataclass

from bench.drive import Run, Spec
from bench.measures.common import Bench, Both, cores, each_wire, late, user_ids
from bench.measures.group import MEMBERS, Traffic, run_in
from bench.report import Row

RATES = (1000, 2000, 3000, 4500, 6000)
SENDERS = 20
REACH = 3000


@dataclass(frozen=True, slots=True)
class Search:
    """The runs at rising rates, the last one perhaps not kept."""

    runs: dict[int, Run]

    @property
    def best(self) -> float:
        """Sends a second that were answered at the highest rate that was kept."""
        kept = [run for rate, run in self.runs.items() if not late(run, rate)]
        return kept[-1].result["sends"] / kept[-1].result["window_s"] if kept else 0.0

    @property
    def problems(self) -> tuple[str, ...]:
        """What was wrong with deliveries, at any rate."""
        return tuple(
            f"{rate:,} msg/s: {problem}"
            for rate, run in self.runs.items()
            for problem in run.problems[:3]
        )

    def __str__(self) -> str:
        return "; ".join(_told(rate, run) for rate, run in self.runs.items())


def measure(bench: Bench) -> list[Row]:
    """The row: the rate, by a search upwards that ends where p99 of delivery passes 1 s."""
    both: Both[Search] = each_wire(bench, _search)
    value, reference = both.figures(lambda search: search.best)
    wrong = both.ours.problems
    detail = str(both.ours)
    if both.grpcio is not None:
        wrong += tuple(f"--wire grpcio: {problem}" for problem in both.grpcio.problems)
        detail += f"; grpcio kept {both.grpcio.best:,.0f}/s"
    return [
        Row(
            f"most durable sends/s into one group of {MEMBERS} before p99 passes 1 s",
            value,
            "/s",
            REACH,
            # 95 percent of a rate that was offered is the rate.
            tolerance=0.05,
            more=True,
            reference=reference,
            wrong=wrong,
            detail=detail,
        )
    ]


def _search(bench: Bench) -> Search:
    people = user_ids(MEMBERS)
    runs = {}
    with bench.fresh() as (server, backend):
        devices = backend.users(people)
        for rate in RATES:
            place = backend.group(people, range(MEMBERS), f"bench {rate}")
            spec = Spec(server.address, devices, [place])
            run = runs[rate] = run_in(bench, spec, server, Traffic(rate, SENDERS))
            if late(run, rate):
                break
    return Search(runs)


def _told(rate: int, run: Run) -> str:
    length_s = run.result["window_s"]
    why = late(run, rate)
    text = f"{rate:,}: p99 {run.result['delivery']['p99_ms']:,.0f} ms, {cores(run):.2f} cores"
    return f"{text}, {why}; load {run.load_cpu_s / length_s:.1f} cores" if why else text
