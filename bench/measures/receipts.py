"""100 members of a group mark one message read, all at once."""

from __future__ import annotations

from bench import drive
from bench.drive import Run, Spec
from bench.measures.common import Bench, each_wire, user_ids, wrong_with
from bench.measures.group import MEMBERS
from bench.report import Row

ROUNDS = 20
REACH_MS = 8.0


def measure(bench: Bench) -> list[Row]:
    """The row: the server's CPU for all of it, until all members know."""
    runs = each_wire(bench, _run)
    value, reference = runs.figures(lambda run: run.window_cpu_s * 1000 / ROUNDS)
    result = runs.ours.result
    return [
        Row(
            f"{MEMBERS} members mark one message read: CPU in all",
            value,
            "ms",
            REACH_MS,
            reference=reference,
            wrong=wrong_with(runs),
            detail=f"{result['frames_a_member']:.2f} frames with receipts a member, at most "
            f"{result['most_frames']}; all known p50 {result['told']['p50_ms']:.0f} ms; "
            f"mean of {ROUNDS}",
        )
    ]


def _run(bench: Bench) -> Run:
    people = user_ids(MEMBERS)
    with bench.fresh() as (server, backend):
        devices = backend.users(people)
        place = backend.group(people, range(MEMBERS), "receipts")
        spec = Spec(server.address, devices, [place])
        return drive.run("receipts", spec, server, f"-count={ROUNDS}")
