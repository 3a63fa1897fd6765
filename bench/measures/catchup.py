"""20 devices that each missed 1,000 messages come back at once."""

from __future__ import annotations

from bench import drive
from bench.backend import backend, make_key
from bench.drive import Place, Run, Spec
from bench.fill import fill
from bench.measures.common import Bench, each_wire, per_core, user_ids, wrong_with
from bench.report import Row

DEVICES = 20
MISSED = 1000
ROUNDS = 20
REACH_PER_CORE = 300_000


def measure(bench: Bench) -> list[Row]:
    """The row: messages a second of the server's CPU."""
    runs = each_wire(bench, _run)
    value, reference = runs.figures(lambda run: per_core(run, DEVICES * MISSED * ROUNDS))
    times = runs.ours.result["times"]
    per_s = DEVICES * MISSED * ROUNDS / runs.ours.result["total_s"]
    return [
        Row(
            f"catch-up of {MISSED:,} messages by {DEVICES} devices at once: messages/s a core",
            value,
            "/s",
            REACH_PER_CORE,
            more=True,
            reference=reference,
            wrong=wrong_with(runs),
            detail=f"{per_s:,.0f}/s; hello to caught up p50 {times['p50_ms']:.0f} "
            f"slowest {times['max_ms']:.0f} ms; mean of {ROUNDS}",
        )
    ]


def _run(bench: Bench) -> Run:
    people = user_ids(DEVICES)
    data = bench.new_data()
    key = make_key(data)
    with bench.serve(data) as server, backend(server, key) as caller:
        caller.users(people)
        place: Place = caller.group(people, range(DEVICES), "catch-up")
    place = fill(data, people, place, MISSED)
    with bench.serve(data) as server, backend(server, key) as caller:
        devices = caller.users(people)
        spec = Spec(server.address, devices, [place])
        return drive.run("resume", spec, server, f"-count={ROUNDS}")
