"""2,000 devices that are connected and quiet: memory, and the CPU to open a stream."""

from __future__ import annotations

import time

from bench import drive
from bench.drive import Run, Spec
from bench.measures.common import Bench, stranger, user_ids
from bench.process import Server
from bench.report import Row

DEVICES = 2000
GROUP = 100
REACH_KIB = 60
SETTLE_S = 2.0


def measure(bench: Bench) -> list[Row]:
    """Rows: KiB a device, its own TCP connection and all state included; CPU to open one."""
    people = user_ids(DEVICES)
    groups = [range(first, first + GROUP) for first in range(0, DEVICES, GROUP)]
    with bench.fresh() as (server, backend):
        devices = backend.users(people)
        places = [backend.group(people, members, "bench") for members in groups]
        ours = _run(Spec(server.address, devices, places), server)
    with bench.reference() as server:
        theirs = _run(stranger(server.address, DEVICES, groups), server)
    return [
        Row(
            f"memory of a connected idle device, {DEVICES:,} of them",
            _kib(ours),
            "KiB",
            REACH_KIB,
            reference=_kib(theirs),
            wrong=ours.problems[:5],
            detail=f"each in a group of {GROUP}; server {ours.rss_kib['ready'] / 1024:.0f} MiB",
        ),
        Row(
            "CPU to open a device's stream",
            _cpu_us(ours),
            "us",
            reference=_cpu_us(theirs),
            wrong=ours.problems[:5],
            detail=f"{DEVICES / ours.result['connect_s']:,.0f} devices/s",
        ),
    ]


def _run(spec: Spec, server: Server) -> Run:
    return drive.run("idle", spec, server, on_ready=lambda: time.sleep(SETTLE_S))


def _kib(run: Run) -> float:
    return (run.rss_kib["ready"] - run.rss_kib["begin"]) / DEVICES


def _cpu_us(run: Run) -> float:
    return (run.cpu_s["ready"] - run.cpu_s["begin"]) * 1e6 / DEVICES
