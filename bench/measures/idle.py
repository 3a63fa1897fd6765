"""10,000 devices that are connected and quiet: memory, and the CPU to open a stream."""

from __future__ import annotations

import time

from bench import drive
from bench.drive import Run
from bench.measures.common import Bench, cpu_us, each_wire, wrong_with
from bench.measures.crowd import GROUP, crowd
from bench.report import Row

REACH_KIB = 10.0
REACH_OPEN_US = 600.0
SETTLE_S = 2.0


def measure(bench: Bench) -> list[Row]:
    """Rows: KiB a device, its own TCP connection and all state included; CPU to open one."""
    crowd(bench)
    runs = each_wire(bench, _run)
    count = bench.devices
    kib = runs.figures(lambda run: (run.rss_kib["ready"] - run.rss_kib["empty"]) / count)
    opening = runs.figures(lambda run: cpu_us(run, count))
    ours = runs.ours
    return [
        Row(
            f"memory of a connected idle device, {count:,} of them",
            kib[0],
            "KiB",
            REACH_KIB,
            reference=kib[1],
            wrong=wrong_with(runs),
            detail=f"a connection each, in groups of {GROUP}; "
            f"server {ours.rss_kib['empty'] / 1024:.0f} to {ours.rss_kib['ready'] / 1024:.0f} MiB",
        ),
        Row(
            "CPU to open a device's stream, connection to caught up, token known",
            opening[0],
            "us",
            REACH_OPEN_US,
            reference=opening[1],
            wrong=wrong_with(runs),
            detail=f"{count / ours.result['connect_s']:,.0f} devices/s, 32 at a time",
        ),
    ]


def _run(bench: Bench) -> Run:
    people = crowd(bench)
    with bench.serve(people.copy(bench)) as server:
        time.sleep(SETTLE_S)
        empty = server.rss_kib()
        run = drive.run(
            "idle", people.at(server.address), server, on_ready=lambda: time.sleep(SETTLE_S)
        )
        run.rss_kib["empty"] = empty
        return run
