"""Raises the epochs of a mesh above those that are stored, after etcd was restored from an older
copy or begun anew.

A revision cannot be raised but by as many writes, and each stays in etcd's history. So a number is
kept beside the shards' keys that every owner adds to the revision of its claim. It needs no
agreement: whoever has not seen the newest one yet claims with a lower epoch, which is refused where
it is not above the stored one, as in any claim.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from chinwag_server.mesh.coordination import Coordination
from chinwag_server.mesh.membership import PREFIX, check_cluster
from chinwag_server.mesh.shard_keys import BASE, ShardKeys, read_base
from chinwag_server.mesh.shards import SHARDS

PARALLEL = 32

# Gives the epoch and nonce that are stored of a shard, as `Tables.claim` does; a claim with epoch 0
# raises nothing.
Claim = Callable[[int, int, bytes], Awaitable[tuple[int, bytes]]]


@dataclass(slots=True, frozen=True)
class Raised:
    """What was found and done.

    Attributes:
        stored: The highest epoch that any shard's data has.
        revision: Of etcd.
        before, after: What owners added to revisions, and add from now on; equal: epochs were
            above the stored ones already.
    """

    stored: int
    revision: int
    before: int
    after: int


async def highest_stored(claim: Claim) -> int:
    """The highest epoch of all shards. It reads by claims, so that one that is under way counts.

    Raises:
        TablesUnavailable: It cannot be told.
    """
    turns = asyncio.Semaphore(PARALLEL)

    async def epoch_of(shard: int) -> int:
        async with turns:
            return (await claim(shard, 0, b""))[0]

    return max(await asyncio.gather(*map(epoch_of, range(SHARDS))))


async def raise_epochs(
    coordination: Coordination, claim: Claim, *, cluster_id: str, prefix: str = PREFIX
) -> Raised:
    """Sees to it that all epochs from now on are above all that are stored now. It may be run at
    any time and by several at once; nodes that run hear of it.

    Raises:
        WrongCluster: The prefix belongs to another mesh.
        CoordinationUnavailable: It is not known whether they were raised.
        TablesUnavailable: It cannot be told how far to raise them; nothing was done.
    """
    await check_cluster(coordination, prefix, cluster_id)
    stored = await highest_stored(claim)
    key = ShardKeys(prefix).prefix + BASE
    while True:
        found = await coordination.list(key)
        entry = next((one for one in found.entries if one.key == key), None)
        before = read_base(entry)
        # Of the next claim, which has a higher revision.
        after = max(before, stored - found.revision)
        raised = Raised(stored, found.revision, before, after)
        if after == before:
            return raised
        value = str(after).encode()
        written = (
            await coordination.create(key, value)
            if entry is None
            else await coordination.replace(key, entry.mod_revision, value)
        )
        if written is not None and written.value == value:
            return raised
