"""A real mesh under load, and what in it can be killed: nothing acked is lost, nothing is there
twice, every device sees one order. How long it stood still is printed."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.crowd import Crowd
from tests.faults.faults import SINGLE
from tools.mesh import Mesh

PAIRS = [
    ("node killed", "Redis killed"),
    ("etcd killed", "node drained"),
    ("node frozen", "Redis wiped"),
]
BEFORE_S = 0.5
AFTER_S = 1.0

# The first one starts the mesh.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


async def strike(mesh: Mesh, crowd: Crowd, names: tuple[str, ...]) -> None:
    await crowd.swap()
    async with crowd.talking() as still:
        await asyncio.sleep(BEFORE_S)
        await asyncio.gather(*(SINGLE[name](mesh) for name in names))
        await asyncio.sleep(AFTER_S)
    print(f"\n{' and '.join(names)}: {still}")


@pytest.mark.parametrize("name", list(SINGLE))
async def test_one_fault(mesh: Mesh, crowd: Crowd, name: str) -> None:
    await strike(mesh, crowd, (name,))


@pytest.mark.parametrize("names", PAIRS, ids=" and ".join)
async def test_two_faults_at_once(mesh: Mesh, crowd: Crowd, names: tuple[str, str]) -> None:
    await strike(mesh, crowd, names)


async def test_a_rolling_restart(mesh: Mesh, crowd: Crowd) -> None:
    async with crowd.talking() as still:
        for number in range(len(mesh.nodes)):
            await mesh.restart_node(number)
    print(f"\nrolling restart: {still}")
