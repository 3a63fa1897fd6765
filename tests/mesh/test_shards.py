"""Shards: where channels and owners belong."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from chinwag_server.mesh.shards import SHARDS, owner_of, owners_of, shard_of

NODES = {f"node{number}": 1.0 for number in range(10)}


def test_a_channel_stays_in_its_shard_for_ever() -> None:
    # Data lies where these numbers say: they never change.
    assert SHARDS == 1024
    assert [shard_of(channel) for channel in ("", "c1", "c2", "d1")] == [791, 503, 673, 117]


@given(st.text())
def test_every_channel_has_a_shard(channel_id: str) -> None:
    assert 0 <= shard_of(channel_id) < SHARDS


def test_channels_spread_evenly() -> None:
    counts = Counter(shard_of(f"c{number}") for number in range(100 * SHARDS))
    assert len(counts) == SHARDS
    assert min(counts.values()) > 50
    assert max(counts.values()) < 160


def test_no_nodes_no_owner() -> None:
    assert owner_of(0, {}) is None
    assert owners_of({}) == [None] * SHARDS


def test_all_at_once_is_the_same_as_one_by_one() -> None:
    nodes = {**NODES, "big": 3.5}
    assert owners_of(nodes) == [owner_of(shard, nodes) for shard in range(SHARDS)]


def test_the_order_of_nodes_does_not_matter() -> None:
    assert owners_of(dict(reversed(NODES.items()))) == owners_of(NODES)


def test_shards_are_shared_out_evenly() -> None:
    counts = Counter(owners_of(NODES))
    assert len(counts) == len(NODES)
    assert min(counts.values()) > 70
    assert max(counts.values()) < 140


def test_capacity_weighs() -> None:
    counts = Counter(owners_of({**NODES, "big": 5.0}))
    # 5 of 15.
    assert 290 < counts["big"] < 390


def test_a_node_that_goes_moves_only_its_shards() -> None:
    before = owners_of(NODES)
    after = owners_of({node: 1.0 for node in NODES if node != "node3"})
    for old, new in zip(before, after, strict=True):
        assert new == old if old != "node3" else new != "node3"


def test_a_node_that_comes_takes_shards_and_moves_no_others() -> None:
    before, after = owners_of(NODES), owners_of({**NODES, "fresh": 1.0})
    for old, new in zip(before, after, strict=True):
        assert new in (old, "fresh")


def test_a_greater_capacity_only_takes() -> None:
    before, after = owners_of(NODES), owners_of({**NODES, "node3": 2.0})
    for old, new in zip(before, after, strict=True):
        assert new in (old, "node3")
