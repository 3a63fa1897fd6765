"""Which shard a channel is in, and which node a shard should be on: pure functions.

Owners are found by rendezvous hashing (Thaler and Ravishankar, 1996): each node draws a number
for each shard, the greatest wins. So a node that comes or goes moves only shards of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b

# For ever: a channel's data lies where this number says.
SHARDS = 1024


def shard_of(channel_id: str) -> int:
    """The shard of a channel, 0 to SHARDS - 1; the same everywhere and for ever."""
    return _hash(channel_id.encode(), b"channel") % SHARDS


def owner_of(shard: int, nodes: Mapping[str, float]) -> str | None:
    """The node on which a shard should be.

    Args:
        nodes: Capacity by node id, greater than 0: a node of capacity 2 gets about twice as many
            shards as one of 1.

    Returns:
        None if there are no nodes.
    """
    return max(nodes, key=lambda node: (_draws(node)[shard] / nodes[node], node), default=None)


def owners_of(nodes: Mapping[str, float]) -> list[str | None]:
    """`owner_of` each shard, in order."""
    owners: list[str | None] = [None] * SHARDS
    best = [-math.inf] * SHARDS
    for node in sorted(nodes):
        capacity = nodes[node]
        for shard, draw in enumerate(_draws(node)):
            value = draw / capacity
            if value >= best[shard]:
                best[shard] = value
                owners[shard] = node
    return owners


# A node's draws cost milliseconds and 32 KB, and are asked for at every change of nodes.
@lru_cache(maxsize=512)
def _draws(node: str) -> tuple[float, ...]:
    """For each shard, ln(u) with u evenly spread over (0, 1). Divided by a capacity c, the
    greatest wins with a probability of c over the sum of all."""
    return tuple(
        math.log((_hash(f"{shard}/{node}".encode(), b"owner") + 0.5) / 2**64)
        for shard in range(SHARDS)
    )


def _hash(data: bytes, purpose: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8, person=purpose).digest(), "big")
