"""What may happen to a mesh: each fault strikes, lasts for a while, and is mended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.faults.stage import LEASE_S, Stage
from tools.engines.cassandra import Node

Act = Callable[[Stage], Awaitable[None]]

DELAY_S = 0.2


@dataclass(slots=True, frozen=True)
class Fault:
    """One of them.

    Attributes:
        lasts_s: From strike to heal.
    """

    name: str
    strike: Act
    heal: Act
    lasts_s: float = 2.0


async def happen(stage: Stage, *faults: Fault) -> None:
    """Has faults strike at one time, and mends each in its time."""

    async def one(fault: Fault) -> None:
        await fault.strike(stage)
        try:
            await asyncio.sleep(fault.lasts_s)
        finally:
            await fault.heal(stage)

    await asyncio.gather(*(one(fault) for fault in faults))


# --- nodes ---


def _killed(number: int) -> Fault:
    async def strike(stage: Stage) -> None:
        await stage.mesh.kill_node(stage.node(number))

    # Longer than its lease: the others own all meanwhile.
    return Fault("node killed", strike, _started(number), LEASE_S + 1.0)


def _bounced(number: int) -> Fault:
    async def strike(stage: Stage) -> None:
        await stage.mesh.kill_node(stage.node(number))

    return Fault("node killed, back at once", strike, _started(number), 0.0)


def _frozen(number: int) -> Fault:
    async def strike(stage: Stage) -> None:
        await stage.mesh.freeze_node(stage.node(number))

    async def heal(stage: Stage) -> None:
        await stage.mesh.thaw_node(stage.node(number))

    # It wakes up as the owner that it is no more.
    return Fault("node frozen", strike, heal, LEASE_S + 3.0)


def _drained(number: int) -> Fault:
    async def strike(stage: Stage) -> None:
        await stage.mesh.stop_node(stage.node(number))

    return Fault("node drained", strike, _started(number), 1.0)


def _started(number: int) -> Act:
    async def heal(stage: Stage) -> None:
        await stage.mesh.restart_node(stage.node(number))

    return heal


# --- engines ---


def _engine(name: str, kill: Callable[[Stage], None], start: Callable[[Stage], None]) -> Fault:
    async def strike(stage: Stage) -> None:
        await asyncio.to_thread(kill, stage)

    async def heal(stage: Stage) -> None:
        await asyncio.to_thread(start, stage)

    return Fault(f"{name} killed", strike, heal)


def _start_cassandra(stage: Stage) -> None:
    cassandra = stage.mesh.engines.cassandra
    _cassandra(stage).start()
    if len(cassandra.nodes) > 1:
        # The next one may be killed only when this one has its data.
        cassandra.wait_whole()


def _cassandra(stage: Stage) -> Node:
    nodes = stage.mesh.engines.cassandra.nodes
    return nodes[stage.turn % len(nodes)]


async def _flush(stage: Stage) -> None:
    def flush() -> None:
        with stage.mesh.engines.redis.client() as client:
            client.flushall()

    await asyncio.to_thread(flush)


async def _nothing(_stage: Stage) -> None:
    """Nothing is to be mended."""


# --- links ---


def _links(
    name: str, harm: Callable[[Stage], None], mend: Callable[[Stage], None], lasts_s: float
) -> Fault:
    async def strike(stage: Stage) -> None:
        harm(stage)

    async def heal(stage: Stage) -> None:
        mend(stage)

    return Fault(name, strike, heal, lasts_s)


def _engine_cut(name: str, lasts_s: float) -> Fault:
    return _links(
        f"link to {name} cut",
        lambda s: s.links.cut_engine(name),
        lambda s: s.links.join_engine(name),
        lasts_s,
    )


NODE_KILLED = _killed(0)
NODE_BOUNCED = _bounced(1)
NODE_FROZEN = _frozen(1)
NODE_DRAINED = _drained(2)
ETCD_KILLED = _engine(
    "etcd", lambda s: s.mesh.engines.etcd[0].kill(), lambda s: s.mesh.engines.etcd[0].start()
)
REDIS_KILLED = _engine(
    "Redis", lambda s: s.mesh.engines.redis.kill(), lambda s: s.mesh.engines.redis.start()
)
REDIS_FLUSHED = Fault("Redis flushed", _flush, _nothing, 1.0)
POSTGRES_KILLED = _engine(
    "PostgreSQL",
    lambda s: s.mesh.engines.postgres.kill(),
    lambda s: s.mesh.engines.postgres.start(),
)
CASSANDRA_KILLED = _engine("Cassandra", lambda s: _cassandra(s).kill(), _start_cassandra)
LINK_CUT = _links(
    "link cut", lambda s: s.links.cut(s.node(0), s.node(2)), lambda s: s.links.join(), 6.0
)
LINKS_SLOW = _links("links slow", lambda s: s.links.slow(DELAY_S), lambda s: s.links.slow(0.0), 4.0)
# The node goes on, and owns nothing any more.
ETCD_CUT = _engine_cut("etcd", LEASE_S + 3.0)
REDIS_CUT = _engine_cut("Redis", 4.0)
POSTGRES_CUT = _engine_cut("PostgreSQL", 4.0)
ENGINES_SLOW = _links(
    "links to engines slow",
    lambda s: s.links.slow_engines(DELAY_S),
    lambda s: s.links.slow_engines(0.0),
    4.0,
)

SINGLE = (
    NODE_KILLED,
    NODE_BOUNCED,
    NODE_FROZEN,
    NODE_DRAINED,
    ETCD_KILLED,
    REDIS_KILLED,
    REDIS_FLUSHED,
    POSTGRES_KILLED,
    CASSANDRA_KILLED,
    LINK_CUT,
    LINKS_SLOW,
    ETCD_CUT,
    REDIS_CUT,
    POSTGRES_CUT,
    ENGINES_SLOW,
)
