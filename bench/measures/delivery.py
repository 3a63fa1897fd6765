"""A lone pair on an idle server: how long from send to delivered."""

from __future__ import annotations

from bench import drive
from bench.drive import Run, Spec
from bench.measures.common import Bench, stranger, user_ids
from bench.process import Server
from bench.report import Row

REACH_P50_MS = 3.0
REACH_P99_MS = 10.0
COUNT = 1000


def measure(bench: Bench) -> list[Row]:
    """Rows: p50 and p99."""
    people = user_ids(2)
    with bench.fresh() as (server, backend):
        devices = backend.users(people)
        spec = Spec(server.address, devices, [backend.direct(people, 0, 1)])
        ours = _run(spec, server)
    with bench.reference() as server:
        theirs = _run(stranger(server.address, 2, [(0, 1)]), server)
    rows = []
    for quantile, reach in (("p50", REACH_P50_MS), ("p99", REACH_P99_MS)):
        key = f"{quantile}_ms"
        rows.append(
            Row(
                f"1:1 send to delivered, idle server, {quantile}",
                ours.result["delivery"][key],
                "ms",
                reach,
                reference=theirs.result["delivery"][key],
                wrong=ours.problems,
                detail=f"ack {ours.result['ack'][key]:.2f} ms",
            )
        )
    return rows


def _run(spec: Spec, server: Server) -> Run:
    return drive.run("oneone", spec, server, f"-count={COUNT}", "-gap=5ms")
