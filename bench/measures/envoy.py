"""One group of 100 behind Envoy: the streams of all devices on one connection to the node."""

from __future__ import annotations

from bench.drive import Run, Spec
from bench.envoy import envoy
from bench.measures.common import Bench, each_wire, late, user_ids, wrong_with
from bench.measures.group import MEMBERS, Traffic, delivery_us, run_in, told
from bench.report import Row

TRAFFIC = Traffic(100)
REACH_US = 4.0


def measure(bench: Bench) -> list[Row]:
    """The row: the node's CPU of a delivery."""
    behind = bench.with_settings(CHINWAG_LISTEN_TRUSTED_PROXIES="127.0.0.0/8")
    runs = each_wire(behind, _run)
    value, reference = runs.figures(delivery_us)
    ours = runs.ours
    fell_behind = late(ours, TRAFFIC.rate)
    proxy_us = ours.beside_cpu_s * 1e6 / max(ours.result["deliveries"], 1)
    return [
        Row(
            f"CPU a delivery of the node behind Envoy, group of {MEMBERS}, {TRAFFIC}",
            value,
            "us",
            REACH_US,
            reference=reference,
            wrong=wrong_with(runs) + ((fell_behind,) if fell_behind else ()),
            detail=f"Envoy's own {proxy_us:.1f} us; {told(ours)}",
        )
    ]


def _run(bench: Bench) -> Run:
    people = user_ids(MEMBERS)
    with bench.fresh() as (server, backend):
        devices = backend.users(people)
        place = backend.group(people, range(MEMBERS), "behind Envoy")
        with envoy(bench.folder, server) as proxy:
            spec = Spec(proxy.address, devices, [place])
            return run_in(bench, spec, server, TRAFFIC, beside=proxy)
