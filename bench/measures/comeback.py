"""10,000 devices whose server is killed, and started again on the same port and data."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from bench import drive
from bench.drive import Run
from bench.measures.common import Bench, each_wire
from bench.measures.crowd import crowd
from bench.process import free_port
from bench.report import Row

REACH_S = 15.0
MISSED = 3


@dataclass(frozen=True, slots=True)
class Comeback:
    """How a run went.

    Attributes:
        took_s: From the kill until the last device was caught up.
        start_s: From the kill until the new server listened.
    """

    run: Run
    took_s: float
    first_s: float
    start_s: float


def measure(bench: Bench) -> list[Row]:
    """The row: seconds from the kill until all are caught up."""
    crowd(bench)
    both = each_wire(bench, _killed)
    value, reference = both.figures(lambda one: one.took_s)
    ours = both.ours
    result = ours.run.result
    wrong = ours.run.problems[:5]
    if both.grpcio is not None:
        wrong += tuple(f"--wire grpcio: {text}" for text in both.grpcio.run.problems[:3])
    return [
        Row(
            f"{bench.devices:,} devices come back after a kill -9: all are caught up after",
            value,
            "s",
            REACH_S,
            reference=reference,
            wrong=wrong,
            detail=f"listens after {ours.start_s:.1f} s, first device after {ours.first_s:.1f} s, "
            f"half after {result['times']['p50_ms'] / 1000:.1f} s; "
            f"{MISSED} messages missed by each, {result['attempts'] / bench.devices:.1f} attempts "
            f"a device; server CPU {ours.run.window_cpu_s:.1f} s",
        )
    ]


def _killed(bench: Bench) -> Comeback:
    people = crowd(bench)
    data = people.copy(bench)
    port = free_port()
    killed_at = listening_at = 0.0
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(bench.serve(data, port=port, mortal=True))

        def restart() -> None:
            nonlocal killed_at, listening_at
            killed_at = time.time()
            server.kill()
            successor = stack.enter_context(bench.serve(data, port=port))
            listening_at = time.time()
            # From here on its CPU is the server's: the end mark shows all that it took.
            server.become(successor)

        run = drive.run(
            "comeback", people.at(server.address), server, f"-count={MISSED}", on_ready=restart
        )
    return Comeback(
        run,
        run.result["last_unix_s"] - killed_at,
        run.result["first_unix_s"] - killed_at,
        listening_at - killed_at,
    )
