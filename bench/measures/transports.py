"""Polling, long polling and the stream through Envoy, side by side: the textbook's comparison."""

from __future__ import annotations

import asyncio
import random
import ssl
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.backend import backend, make_key
from bench.drive import Place
from bench.measures.common import Bench, user_ids
from bench.process import Behind, Server, behind_envoy
from bench.report import Row
from bench.transports import Cost, JsonLink, Streaming, Syncing, cancelled

PEOPLE = 40
# Every so many seconds somebody writes, to a group in which all devices are.
PACES_S = (2.0, 30.0)
POLL_S = 5.0
LEAST_WINDOW_S = 30.0
READY_S = 60.0
LAST_S = POLL_S + 5.0

Make = Callable[[str, Cost], Syncing | Streaming]


@dataclass(slots=True, frozen=True)
class Run:
    """What all devices took in a window.

    Attributes:
        cpu_s: Of the node and of Envoy.
        missed: Messages that a device was not shown.
    """

    costs: Sequence[Cost]
    window_s: float
    cpu_s: tuple[float, float]
    missed: int

    def an_hour(self, total: float) -> float:
        """What is counted over all devices, for one and an hour."""
        return total / len(self.costs) / self.window_s * 3600


def measure(bench: Bench) -> list[Row]:
    """Rows: for each way and pace the median latency; the rest beside it."""
    data = bench.new_data()
    key = make_key(data)
    people = user_ids(PEOPLE + 1)
    with behind_envoy(data) as place, backend(place.node, key) as caller:
        tokens = [token for _, token in caller.users(people)]
        group = caller.group(people, range(PEOPLE + 1), "three ways")
        tls = ssl.create_default_context(cafile=str(place.ca)) if place.ca else None
        window_s = max(bench.window_s, LEAST_WINDOW_S)
        rows = []
        for pace_s in PACES_S:
            for name, make in _ways(place, tls).items():
                run = asyncio.run(
                    _run(place, tls, group, tokens, make, pace_s, max(window_s, 2 * pace_s))
                )
                rows.append(_row(name, pace_s, run))
        return rows


def _ways(place: Behind, tls: ssl.SSLContext | None) -> dict[str, Make]:
    def link(token: str, cost: Cost) -> JsonLink:
        return JsonLink(place.port, tls, token, cost)

    return {
        f"polling every {POLL_S:.0f} s": lambda token, cost: Syncing(
            link(token, cost), cost, every_s=POLL_S
        ),
        "long polling": lambda token, cost: Syncing(link(token, cost), cost, every_s=0),
        "the stream": lambda token, cost: Streaming(place.port, tls, token, cost),
    }


async def _run(
    place: Behind,
    tls: ssl.SSLContext | None,
    group: Place,
    tokens: Sequence[str],
    make: Make,
    pace_s: float,
    window_s: float,
) -> Run:
    costs = [Cost() for _ in tokens[1:]]
    ready = [asyncio.Event() for _ in costs]
    tasks = [
        asyncio.ensure_future(make(token, cost).run(event.set))
        for token, cost, event in zip(tokens[1:], costs, ready, strict=True)
    ]
    writer = JsonLink(place.port, tls, tokens[0], Cost())
    async with asyncio.timeout(READY_S):
        await asyncio.gather(*(event.wait() for event in ready))
    for cost in costs:
        cost.requests = cost.sent_bytes = cost.received_bytes = 0
    before = _cpu_s((place.node, place.envoy))
    begun = time.monotonic()
    sent = 0
    # Polls do not fall in step with what is written.
    pauses = random.Random(5)
    while (left_s := begun + window_s - time.monotonic()) > 0:
        await asyncio.sleep(min(left_s, pace_s * pauses.uniform(0.5, 1.5)))
        await writer.post(
            f"/v1/channels/{group.channel_id}/messages",
            {"clientMessageId": _uuid7(pauses), "content": {"text": repr(time.monotonic())}},
        )
        sent += 1
    took_s = time.monotonic() - begun
    after = _cpu_s((place.node, place.envoy))
    counted = [Cost(c.requests, c.sent_bytes, c.received_bytes) for c in costs]
    await _shown(costs, sent)
    await cancelled(tasks)
    writer.close()
    for cost, counts in zip(costs, counted, strict=True):
        counts.latencies_s = cost.latencies_s
    missed = sum(sent - len(cost.latencies_s) for cost in costs)
    return Run(counted, took_s, (after[0] - before[0], after[1] - before[1]), missed)


async def _shown(costs: Sequence[Cost], sent: int) -> None:
    """Waits for the last message, for so long as a poll may take."""
    until = time.monotonic() + LAST_S
    for cost in costs:
        while len(cost.latencies_s) < sent and time.monotonic() < until:  # noqa: ASYNC110 - a list
            await asyncio.sleep(0.1)


def _cpu_s(servers: tuple[Server, Server]) -> tuple[float, float]:
    return servers[0].cpu_s(), servers[1].cpu_s()


def _uuid7(rng: random.Random) -> str:
    text = f"{int(time.time() * 1000):012x}7{rng.getrandbits(12):03x}8{rng.getrandbits(60):015x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _row(name: str, pace_s: float, run: Run) -> Row:
    late_s = sorted(latency for cost in run.costs for latency in cost.latencies_s)
    p99_ms = late_s[int(len(late_s) * 0.99)] * 1000 if late_s else 0.0
    requests = run.an_hour(sum(cost.requests for cost in run.costs))
    sent = run.an_hour(sum(cost.sent_bytes for cost in run.costs))
    received = run.an_hour(sum(cost.received_bytes for cost in run.costs))
    node, envoy = (run.an_hour(cpu_s) * 1000 for cpu_s in run.cpu_s)
    return Row(
        f"{name}, a message every {pace_s:.0f} s: shown after, p50",
        statistics.median(late_s) * 1000 if late_s else 0.0,
        "ms",
        wrong=(f"{run.missed} messages were not shown",) if run.missed else (),
        detail=f"p99 {p99_ms:,.0f} ms; a user and hour: {requests:,.0f} requests, "
        f"{sent / 1024:,.0f} KiB up, {received / 1024:,.0f} KiB down, "
        f"CPU {node:,.0f} ms node + {envoy:,.0f} ms Envoy",
    )
