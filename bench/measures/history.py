"""A store with 1,000,000 messages: pages, a device that comes back, the start."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from bench import drive
from bench.backend import backend, make_key
from bench.drive import Place, Run, Spec
from bench.fill import fill
from bench.measures.common import Bench, Both, each_wire, per_core, user_ids, wrong_with
from bench.report import Row

LONG = 1_000_000
SHORT = 1000
MISSED = 10_000
REACH_PAGE_MS = 2.0
REACH_PAGE_RATIO = 1.5
REACH_RESUME_S = 0.5
REACH_START_S = 2.0
PAGES = 2000
RESUMES = 10
STARTS = 3


def measure(bench: Bench) -> list[Row]:
    """Rows: a page anywhere, in a long and a short channel; a resume; start to first answer."""
    people = user_ids(2)
    data = bench.new_data()
    key = make_key(data)
    with bench.serve(data) as server, backend(server, key) as caller:
        caller.users(people)
        long, short, missed = (
            caller.group(people, (0, 1), name) for name in ("long", "short", "missed")
        )
    empty = [_start(bench, data, key, people[0], short) for _ in range(STARTS)]
    short = fill(data, people, short, SHORT)
    missed = fill(data, people, missed, MISSED)
    long = fill(data, people, long, LONG)
    full = [_start(bench, data, key, people[0], long) for _ in range(STARTS)]

    def loaded(one: Bench) -> tuple[Run, Run]:
        with one.serve(data) as server, backend(server, key) as caller:
            devices = caller.users(people)
            spec = Spec(server.address, devices, [short, long])
            pages = drive.run("pages", spec, server, f"-count={PAGES}")
            place = Place(missed.channel_id, [1], missed.generation, missed.cursor, missed.head)
            spec = Spec(server.address, devices, [place])
            return pages, drive.run("resume", spec, server, f"-count={RESUMES}")

    both = each_wire(bench, loaded)
    return [
        *_page_rows(Both(both.ours[0], both.grpcio and both.grpcio[0])),
        _resume_row(Both(both.ours[1], both.grpcio and both.grpcio[1])),
        _start_row("empty store", empty, "it has two users, and channels without a message"),
        _start_row(f"{LONG:,} messages", full, "read before, so in the page cache"),
    ]


def _start(bench: Bench, data: Path, key: str, user_id: str, place: Place) -> float:
    """Seconds from the start of the process until it has answered with a page."""
    with bench.serve(data) as server, backend(server, key) as caller:
        head = caller.newest(user_id, place.channel_id)
        took = time.perf_counter() - server.started_at
    if head < place.head:
        raise RuntimeError(f"the head is {head}, want {place.head}")
    return took


def _start_row(store: str, times: list[float], detail: str) -> Row:
    return Row(
        f"start to first answer, {store}, median",
        statistics.median(times),
        "s",
        REACH_START_S,
        detail=f"slowest of {STARTS}: {max(times):.2f} s; {detail}",
    )


def _page_rows(runs: Both[Run]) -> list[Row]:
    short, long = (one["times"] for one in runs.ours.result)
    value, reference = runs.figures(lambda run: float(run.result[1]["times"]["p50_ms"]))
    return [
        Row(
            f"page of 50 anywhere in {LONG:,} messages, p50",
            value,
            "ms",
            REACH_PAGE_MS,
            reference=reference,
            wrong=wrong_with(runs),
            detail=f"p99 {long['p99_ms']:.2f} ms",
        ),
        Row(
            f"the same, in parts of that in {SHORT:,} messages",
            long["p50_ms"] / short["p50_ms"],
            "x",
            REACH_PAGE_RATIO,
            wrong=wrong_with(runs),
            detail=f"there p50 {short['p50_ms']:.2f} p99 {short['p99_ms']:.2f} ms",
        ),
    ]


def _resume_row(runs: Both[Run]) -> Row:
    run = runs.ours
    missed = run.result["missed"]
    value, reference = runs.figures(lambda run: run.result["times"]["p50_ms"] / 1000)
    return Row(
        f"resume of a device that missed {missed:,} messages, p50",
        value,
        "s",
        REACH_RESUME_S,
        reference=reference,
        wrong=wrong_with(runs),
        detail=f"slowest {run.result['times']['max_ms'] / 1000:.2f} s; "
        f"{per_core(run, missed * RESUMES):,.0f} messages/s a core",
    )
