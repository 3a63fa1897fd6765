"""Ways to break a mesh. Each leaves it whole again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tools.mesh import Mesh

LEASE_S = 5.0

Fault = Callable[[Mesh], Awaitable[None]]


async def node_killed(mesh: Mesh) -> None:
    await mesh.kill_node(0)
    await asyncio.sleep(1.0)
    await mesh.restart_node(0)


async def node_frozen(mesh: Mesh) -> None:
    """For longer than its lease: it wakes up as nobody's owner."""
    await mesh.freeze_node(1)
    await asyncio.sleep(LEASE_S + 2)
    await mesh.thaw_node(1)
    await asyncio.sleep(1.0)


async def node_drained(mesh: Mesh) -> None:
    await mesh.stop_node(2)
    await mesh.restart_node(2)


async def etcd_killed(mesh: Mesh) -> None:
    (etcd,) = mesh.engines.etcd
    await asyncio.to_thread(etcd.kill)
    await asyncio.sleep(1.0)
    await asyncio.to_thread(etcd.start)


async def redis_killed(mesh: Mesh) -> None:
    redis = mesh.engines.redis
    await asyncio.to_thread(redis.kill)
    await asyncio.sleep(1.5)
    await asyncio.to_thread(redis.start)
    await asyncio.sleep(1.0)


async def redis_wiped(mesh: Mesh) -> None:
    def wipe() -> None:
        with mesh.engines.redis.client() as client:
            client.flushall()

    await asyncio.to_thread(wipe)
    await asyncio.sleep(1.0)


async def cassandra_killed(mesh: Mesh) -> None:
    """The only one: until it is back nothing is acked."""
    cassandra = mesh.engines.cassandra
    await asyncio.to_thread(cassandra.nodes[0].kill)
    await asyncio.sleep(1.0)
    await asyncio.to_thread(cassandra.start)


async def postgres_killed(mesh: Mesh) -> None:
    postgres = mesh.engines.postgres
    await asyncio.to_thread(postgres.kill)
    await asyncio.sleep(1.0)
    await asyncio.to_thread(postgres.start)


SINGLE: dict[str, Fault] = {
    "node killed": node_killed,
    "node frozen": node_frozen,
    "node drained": node_drained,
    "etcd killed": etcd_killed,
    "Redis killed": redis_killed,
    "Redis wiped": redis_wiped,
    "Cassandra killed": cassandra_killed,
    "PostgreSQL killed": postgres_killed,
}
