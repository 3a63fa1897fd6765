"""One mesh with real engines for all faults, and people on it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.faults.crowd import Crowd
from tools.mesh import Mesh, temporary_folder

SETTINGS = {
    "CHINWAG_MESH_LEASE_S": "5",
    # The largest group goes by pub/sub, the others directly.
    "CHINWAG_MESH_DIRECT_MEMBERS": "6",
    "CHINWAG_DEADLINES_DRAIN_MS": "8000",
    "CHINWAG_ACCOUNT_ARGON2_MEMORY_KIB": "64",
    "CHINWAG_ACCOUNT_ARGON2_PASSES": "1",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    with temporary_folder() as folder:
        async with Mesh(folder, settings=SETTINGS, small=True) as mesh:
            yield mesh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def crowd(mesh: Mesh) -> AsyncIterator[Crowd]:
    crowd = Crowd(mesh.targets, await mesh.create_api_key())
    await crowd.gather()
    yield crowd
    await crowd.leave()
