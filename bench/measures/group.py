"""One group of 100: what a delivery costs, from quiet to busy."""

from __future__ import annotations

from dataclasses import dataclass

from bench import drive
from bench.drive import Run, Spec
from bench.measures.common import (
    Bench,
    Both,
    cores,
    cpu_us,
    each_wire,
    late,
    stranger,
    user_ids,
    wrong_with,
)
from bench.process import Server
from bench.report import Row

MEMBERS = 100


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
        text = f"{self.rate:,} msg/s of {self.senders}"
        text += f", {self.batch} a frame" if self.batch > 1 else ""
        text += ", probing clients" if self.probe else ""
        return text + (", read marks and receipts" if self.marks else "")

    @property
    def flags(self) -> list[str]:
        """As bench/load takes it."""
        flags = [f"-rate={self.rate}", f"-senders={self.senders}", f"-batch={self.batch}"]
        flags += ["-probe"] if self.probe else []
        return flags + (["-marks=1s"] if self.marks else [])


# In the order of the table, with the CPU of a delivery to reach; None: shown beside the others.
REACH_US: dict[Traffic, float | None] = {
    Traffic(20): 20,
    Traffic(20, probe=True): None,
    Traffic(100): 13,
    Traffic(100, probe=True): None,
    Traffic(100, marks=True): None,
    Traffic(300): 11,
    Traffic(1000): 8,
    Traffic(3000, 20): 2.5,
    Traffic(3000, 20, batch=10): None,
}
REACH_RATIO = {Traffic(20): 0.35, Traffic(100): 0.35}
REACH_MS = {"p50": 2.0, "p99": 6.0}
CALM = Traffic(100)


def measure(bench: Bench) -> list[Row]:
    """Rows: what a delivery costs at each rate, its ratio at the quiet ones, and how long it
    takes."""
    by_wire = each_wire(bench, _group)
    runs = {
        traffic: Both(by_wire.ours[traffic], by_wire.grpcio[traffic] if by_wire.grpcio else None)
        for traffic in REACH_US
    }
    rows = []
    for traffic, both in runs.items():
        rows.append(_cost(traffic, both))
        if traffic in REACH_RATIO and both.grpcio is not None:
            rows.append(_ratio(traffic, both))
    return [*rows, *_latency(runs[CALM]), _bare(bench)]


def _group(bench: Bench) -> dict[Traffic, Run]:
    people = user_ids(MEMBERS)
    with bench.fresh() as (server, backend):
        devices = backend.users(people)

        def one(traffic: Traffic) -> Run:
            place = backend.group(people, range(MEMBERS), f"bench {traffic}")
            return run_in(bench, Spec(server.address, devices, [place]), server, traffic)

        return {traffic: one(traffic) for traffic in REACH_US}


def run_in(
    bench: Bench, spec: Spec, server: Server, traffic: Traffic, beside: Server | None = None
) -> Run:
    """Puts the traffic into the group of a spec."""
    return drive.run("traffic", spec, server, *traffic.flags, *bench.times, beside=beside)


def delivery_us(run: Run) -> float:
    """The server's CPU of a delivery."""
    return cpu_us(run, run.result["deliveries"])


def told(run: Run) -> str:
    """How a run went."""
    result = run.result
    ack, delivery = result["ack"], result["delivery"]
    return (
        f"{result['deliveries'] / result['window_s']:,.0f}/s on {cores(run):.2f} cores; "
        f"p50 {delivery['p50_ms']:.1f} p99 {delivery['p99_ms']:.1f} ms; "
        f"ack p99 {ack['p99_ms']:.1f} ms"
    )


def _cost(traffic: Traffic, both: Both[Run]) -> Row:
    reach = REACH_US[traffic]
    value, reference = both.figures(delivery_us)
    fell_behind = late(both.ours, traffic.rate)
    # A server that falls behind has more to join and so costs less: such a figure is none.
    wrong = (fell_behind,) if fell_behind and reach is not None else ()
    notes = [told(both.ours), fell_behind]
    if both.grpcio is not None and (grpcio_late := late(both.grpcio, traffic.rate)):
        notes.append(f"grpcio: {grpcio_late}")
    return Row(
        f"CPU a delivery, group of {MEMBERS}, {traffic}",
        value,
        "us",
        reach,
        reference=reference,
        wrong=wrong_with(both) + wrong,
        detail=", ".join(filter(None, notes)),
    )


def _ratio(traffic: Traffic, both: Both[Run]) -> Row:
    value, reference = both.figures(delivery_us)
    assert reference is not None
    return Row(
        f"the same in parts of --wire grpcio, {traffic.rate} msg/s",
        value / reference,
        "x",
        REACH_RATIO[traffic],
        wrong=wrong_with(both),
        detail=f"{value:.1f} of {reference:.1f} us",
    )


def _latency(both: Both[Run]) -> list[Row]:
    rows = []
    for quantile, reach in REACH_MS.items():

        def figure(run: Run, key: str = f"{quantile}_ms") -> float:
            value: float = run.result["delivery"][key]
            return value

        value, reference = both.figures(figure)
        rows.append(
            Row(
                f"send to delivered, group of {MEMBERS}, {CALM}, {quantile}",
                value,
                "ms",
                reach,
                reference=reference,
                wrong=wrong_with(both),
                detail="" if reference is None else f"grpcio {reference:.1f} ms",
            )
        )
    return rows


def _bare(bench: Bench) -> Row:
    with bench.reference() as server:
        spec = stranger(server.address, MEMBERS, [range(MEMBERS)])
        run = run_in(bench, spec, server, CALM)
    return Row(
        f"CPU a delivery, bare grpc.aio without a store, {CALM}",
        delivery_us(run),
        "us",
        detail=told(run),
    )
