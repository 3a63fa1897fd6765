"""What all clients sent and saw is recorded while a real mesh is broken, and judged when it is
quiet: nothing acked is lost, nothing is there twice, order holds, all devices agree."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import pytest

from tests.faults import faults, moves
from tests.faults.faults import SINGLE, Fault, happen
from tests.faults.stage import DRAIN_S, LEASE_S, Stage

PAIRS = (
    (faults.NODE_BOUNCED, faults.REDIS_KILLED),
    (faults.ETCD_KILLED, faults.NODE_DRAINED),
    (faults.NODE_FROZEN, faults.REDIS_FLUSHED),
)
# The others happen in the pairs and in the rolling restart, or to processes instead of links.
SHORT = (
    faults.NODE_KILLED,
    faults.NODE_FROZEN,
    faults.ETCD_KILLED,
    faults.REDIS_KILLED,
    faults.POSTGRES_KILLED,
    faults.CASSANDRA_KILLED,
    faults.LINK_CUT,
    faults.LINKS_SLOW,
    faults.ETCD_CUT,
)
# A take-over and what follows it, on a machine that does other things too.
TAKE_OVER_S = 2.0
BUSY_S = 8.0
# Half of the drain time is for what is written then; at most half of the rest for handing over
# channels, and a second of it for calls.
SPREAD_S = DRAIN_S / 4 - 1.0
SOAK_TURNS = 3

# The first one starts the mesh.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


def name_of(some: Fault | tuple[Fault, ...]) -> str:
    return some.name if isinstance(some, Fault) else " and ".join(fault.name for fault in some)


@pytest.mark.parametrize("fault", SHORT, ids=name_of)
async def test_one_fault(stage: Stage, fault: Fault) -> None:
    still = await stage.phase(fault.name, partial(happen, stage, fault))
    if fault is faults.NODE_KILLED:
        assert still.send_s < LEASE_S + TAKE_OVER_S + BUSY_S


@pytest.mark.parametrize("pair", PAIRS, ids=name_of)
async def test_two_faults(stage: Stage, pair: tuple[Fault, ...]) -> None:
    await stage.phase(name_of(pair), partial(happen, stage, *pair))


async def test_a_rolling_restart(stage: Stage, report: Callable[[str], None]) -> None:
    await rolling_restart(stage, report)


async def rolling_restart(stage: Stage, report: Callable[[str], None]) -> None:
    """No send fails, as in every phase; and of each node the connections move, and only they, once
    each and not together."""
    found: list[moves.Moves] = []

    async def restart_all() -> None:
        for number in range(len(stage.mesh.nodes)):
            found.append(await moves.restart(stage, number))

    await stage.phase("rolling restart", restart_all)
    for number, moved in enumerate(found):
        report(f"restart of node {number + 1}: {moved}")
        assert len(moved.times) == moved.held
        assert moved.most <= 1
        if moved.held >= 4:
            assert moved.span_s > SPREAD_S / 2
            assert moved.crowded <= moved.held / 2
    assert sum(moved.held for moved in found) >= len(stage.crowd.devices)


# --- the long form ---

ALL = [*((fault,) for fault in SINGLE), *itertools.combinations(SINGLE, 2)]


@pytest.mark.soak
@pytest.mark.parametrize("some", ALL, ids=name_of)
@pytest.mark.parametrize("turn", range(SOAK_TURNS))
async def test_all_faults_and_pairs(wide_stage: Stage, some: tuple[Fault, ...], turn: int) -> None:
    """Each at another node, and another Cassandra, in each turn."""
    wide_stage.turn = turn
    await wide_stage.phase(name_of(some), partial(happen, wide_stage, *some))


@pytest.mark.soak
@pytest.mark.parametrize("turn", range(SOAK_TURNS))
async def test_rolling_restarts(
    wide_stage: Stage, turn: int, report: Callable[[str], None]
) -> None:
    wide_stage.turn = turn
    await rolling_restart(wide_stage, report)
