"""One group of 100: what a delivery costs, from quiet to busy."""

from __future__ import annotations

from dataclasses import dataclass

from bench import drive
from bench.drive import Run, Spec
from bench.measures.common import Bench, late, stranger, user_ids, wrong_with
from bench.process import Server
from bench.report import Row

MEMBERS = 100
REACH_PER_CORE = 150_000


@dataclass(frozen=True, slots=True)
class Traffic:
    """What goes into the group.

    Attributes:
        rate: Messages a second, of all senders.
        batch: Messages in one frame.
        probe: Clients that probe the bandwidth, as gRPC's do unless they are told a window.
        marks: All devices mark what they have read once a second, and get receipts.
    """

    rate: int
    senders: int = 10
    batch: int = 1
    probe: bool = False
    marks: bool = False

    def __str__(self) -> str:
        text = f"{self.rate} msg/s of {self.senders}"
        text += f", {self.batch} a frame" if self.batch > 1 else ""
        text += ", probing clients" if self.probe else ""
        return text + (", read marks and receipts" if self.marks else "")

    @property
    def flags(self) -> list[str]:
        """As bench/load takes it."""
        flags = [f"-rate={self.rate}", f"-senders={self.senders}", f"-batch={self.batch}"]
        flags += ["-probe"] if self.probe else []
        return flags + (["-marks=1s"] if self.marks else [])


QUIET = (Traffic(20), Traffic(100), Traffic(300))
# One send a frame: what the figure to reach is of.
BUSY = (Traffic(1000), Traffic(2000, 20), Traffic(3000, 20))
# Shown beside them.
OTHER = (Traffic(3000, 20, batch=10), Traffic(100, probe=True), Traffic(100, marks=True))
ALL = (*QUIET, *BUSY, *OTHER)


def measure(bench: Bench) -> list[Row]:
    """Rows: deliveries a core at the best busy rate, and what a delivery costs at each one."""
    ours = _ours(bench)
    theirs = _theirs(bench)
    busy = {traffic: ours[traffic] for traffic in BUSY}
    # A server that falls behind has more to join and so costs less: such a rate does not count.
    sound = {one: run for one, run in busy.items() if not late(run, one.rate)}
    candidates = sound or busy
    traffic = max(candidates, key=lambda one: _per_core(candidates[one]))
    run = candidates[traffic]
    best = Row(
        "deliveries/s per server core, group of 100, busy, durable",
        _per_core(run),
        "/s",
        REACH_PER_CORE,
        more=True,
        reference=_per_core(theirs[traffic]),
        wrong=wrong_with(run)
        + (() if sound else (f"no rate was kept: {late(run, traffic.rate)}",)),
        detail=f"{traffic}; {_told(run)}",
    )
    return [best, *(_row(one, ours[one], theirs[one]) for one in ALL)]


def _ours(bench: Bench) -> dict[Traffic, Run]:
    people = user_ids(MEMBERS)
    with bench.fresh() as (server, backend):
        devices = backend.users(people)

        def one(traffic: Traffic) -> Run:
            place = backend.group(people, range(MEMBERS), f"bench {traffic}")
            return _run(bench, Spec(server.address, devices, [place]), server, traffic)

        return {traffic: one(traffic) for traffic in ALL}


def _theirs(bench: Bench) -> dict[Traffic, Run]:
    runs = {}
    for traffic in ALL:
        with bench.reference() as server:
            spec = stranger(server.address, MEMBERS, [range(MEMBERS)])
            runs[traffic] = _run(bench, spec, server, traffic)
    return runs


def _run(bench: Bench, spec: Spec, server: Server, traffic: Traffic) -> Run:
    return drive.run("traffic", spec, server, *traffic.flags, *bench.times)


def _per_core(run: Run) -> float:
    deliveries: float = run.result["deliveries"]
    return deliveries / max(run.window_cpu_s, 0.01)


def _row(traffic: Traffic, ours: Run, theirs: Run) -> Row:
    return Row(
        f"CPU a delivery, group of 100, {traffic}",
        1e6 / _per_core(ours),
        "us",
        reference=1e6 / _per_core(theirs),
        wrong=wrong_with(ours),
        detail=", ".join(filter(None, (_told(ours), late(ours, traffic.rate)))),
    )


def _told(run: Run) -> str:
    result = run.result
    ack, delivery = result["ack"], result["delivery"]
    return (
        f"{result['deliveries'] / result['window_s']:,.0f}/s; "
        f"p50 {delivery['p50_ms']:.1f} p99 {delivery['p99_ms']:.1f} ms; "
        f"ack p99 {ack['p99_ms']:.1f} ms"
    )
