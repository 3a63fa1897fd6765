"""Many seeds over two processes."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.run import Outcome, simulate

PROCESSES = 2
CHUNK = 20


def in_chunks(first: int, count: int, flavour: str) -> Iterator[tuple[str, list[str], int]]:
    """Some seeds after the other, in order: digest, violations and number of each."""
    end = first + count
    work = [(range(start, min(start + CHUNK, end)), flavour) for start in range(first, end, CHUNK)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, spawn, _end_with_parent) as pool:
        yield from pool.map(_chunk, work)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _chunk(work: tuple[range, str]) -> tuple[str, list[str], int]:
    seeds, flavour = work
    outcomes = list(simulate(seeds, flavour))
    violations = [
        f"seed {outcome.seed}, {outcome.flavour}: {outcome.violation}"
        for outcome in outcomes
        if outcome.violation is not None
    ]
    return digest(outcomes), violations, len(seeds)


def digest(outcomes: Sequence[Outcome]) -> str:
    """What tells whether seeds went as before."""
    text = "\n".join(line for outcome in outcomes for line in outcome.history)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
