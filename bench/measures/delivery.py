"""A lone pair on an idle server: how long from send to delivered."""

from __future__ import annotations

from bench import drive
from bench.drive import Run, Spec
from bench.measures.common import Bench, each_wire, stranger, user_ids, wrong_with
from bench.process import Server
from bench.report import Row

REACH_MS = {"p50": 3.0, "p99": 10.0}
COUNT = 1000


def measure(bench: Bench) -> list[Row]:
    """Rows: p50 and p99."""
    both = each_wire(bench, _pair)
    with bench.reference() as server:
        bare = _run(stranger(server.address, 2, [(0, 1)]), server)
    rows = []
    for quantile, reach in REACH_MS.items():

        def delivered(run: Run, key: str = f"{quantile}_ms") -> float:
            value: float = run.result["delivery"][key]
            return value

        value, reference = both.figures(delivered)
        rows.append(
            Row(
                f"1:1 send to delivered, idle server, {quantile}",
                value,
                "ms",
                reach,
                reference=reference,
                wrong=wrong_with(both),
                detail=f"ack {both.ours.result['ack'][f'{quantile}_ms']:.2f} ms; "
                f"bare grpc.aio without a store {delivered(bare):.2f} ms",
            )
        )
    return rows


def _pair(bench: Bench) -> Run:
    people = user_ids(2)
    with bench.fresh() as (server, backend):
        devices = backend.users(people)
        return _run(Spec(server.address, devices, [backend.direct(people, 0, 1)]), server)


def _run(spec: Spec, server: Server) -> Run:
    return drive.run("oneone", spec, server, f"-count={COUNT}", "-gap=5ms")
