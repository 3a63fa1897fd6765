"""Owning shards, in simulations: clocks, pauses, deaths and lost answers as a test wants them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncGenerator, Iterator

import pytest

from chinwag_server.mesh import ownership, shards
from chinwag_server.mesh.coordination import Changes, Deleted, Snapshot
from chinwag_server.mesh.epoch import Epoch, EpochRefused
from chinwag_server.mesh.ownership import MARGIN_S, REFUSED_RETRY_S, TTL_S
from chinwag_server.mesh.shards import SHARDS, owners_of
from tests.mesh.mesh_sim import SimNode, World

SOON_S = 2.0


def test_one_node_owns_all_under_the_keys_revisions() -> None:
    world = World()

    async def scenario() -> None:
        ann = world.start("ann")
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        snapshot = world.cluster.snapshot("/chinwag/shards/")
        assert len(snapshot.entries) == SHARDS
        nonces = set()
        for shard, entry in enumerate(snapshot.entries):
            epoch = ann.ownership.epoch_of(shard)
            assert epoch is not None
            assert epoch.number == entry.create_revision
            assert json.loads(entry.value) == {"node": "ann", "nonce": epoch.nonce.hex()}
            assert ann.ownership.holder_of(shard) == "ann"
            nonces.add(epoch.nonce)
        assert len(nonces) == SHARDS

    world.run(scenario)


def test_a_node_that_is_not_assigned_owns_nothing() -> None:
    world = World()

    async def scenario() -> None:
        ann, bob = world.start("ann"), world.start("bob")
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        assert bob.owned() == []
        assert bob.ownership.holder_of(0) == "ann"

    world.run(scenario)


def test_a_second_node_gets_its_shards_and_no_others_move() -> None:
    world = World()

    async def scenario() -> None:
        ann, bob = world.start("ann"), world.start("bob")
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        before = {shard: ann.ownership.epoch_of(shard) for shard in range(SHARDS)}
        world.share(ann, bob)
        await world.settled(ann, bob, within_s=SOON_S)
        await asyncio.sleep(0.1)  # until ann has seen bob's last key
        owners = owners_of({"ann": 1.0, "bob": 1.0})
        for shard, owner in enumerate(owners):
            node = ann if owner == "ann" else bob
            epoch = node.ownership.epoch_of(shard)
            old = before[shard]
            assert epoch is not None
            assert old is not None
            if owner == "ann":
                assert epoch is old
            else:
                assert not old.alive()
                assert epoch.number > old.number
                assert ann.ownership.holder_of(shard) == "bob"

    world.run(scenario)


def test_a_hand_over_ends_before_the_key_is_deleted() -> None:
    world = World()

    async def scenario() -> None:
        ann, bob = world.start("ann"), world.start("bob")
        ann.hand_over_s = 0.3
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        world.journal.clear()
        world.share(bob)
        await world.settled(bob, within_s=30)
        for shard in range(SHARDS):
            lines = [line for line in world.journal if line.shard == shard]
            assert [(line.node, line.what) for line in lines] == [
                ("ann", "hand over"),
                ("ann", "lost"),
                ("ann", "delete"),
                ("bob", "won"),
            ]
            assert lines[1].when - lines[0].when > 0.299

    world.run(scenario)


def test_few_shards_stand_still_at_one_time() -> None:
    world = World()

    async def scenario() -> None:
        ann, bob = world.start("ann"), world.start("bob")
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        ann.hand_over_s = 0.01
        under_way = 0

        async def confirm(_epoch: Epoch) -> None:
            # A database in which everything waits for everything.
            nonlocal under_way
            under_way += 1
            await asyncio.sleep(0.01 * under_way)
            under_way -= 1

        bob.confirm = confirm
        world.journal.clear()
        world.share(bob)
        await world.settled(bob, within_s=20)
        stood_s = [
            next(line.when for line in world.of(bob, "won") if line.shard == left.shard) - left.when
            for left in world.of(ann, "hand over")
        ]
        assert len(stood_s) == SHARDS
        assert max(stood_s) < 0.4

    world.run(scenario)


def test_hand_overs_run_side_by_side_within_bounds() -> None:
    world = World()

    async def scenario() -> None:
        ann, bob = world.start("ann"), world.start("bob")
        ann.hand_over_s = 0.5
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        world.share(bob)
        took_s = await world.settled(bob, within_s=60)
        # 32 at a time.
        assert 16 <= took_s < 18

    world.run(scenario)


def test_what_is_not_handed_over_in_time_is_free_at_once() -> None:
    world = World()

    async def scenario() -> None:
        ann, bob = world.start("ann"), world.start("bob")
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        ann.hand_over_s = 10_000
        world.share(bob)
        with world.loop.inside(ann.process):
            stopping = asyncio.create_task(ann.ownership.stop(timeout_s=1))
        await stopping
        # No wait for the end of a lease.
        await world.settled(bob, within_s=SOON_S)

    world.run(scenario)


def test_a_hand_over_that_hangs_is_cut_short() -> None:
    world = World()

    async def scenario() -> None:
        ann = world.start("ann")
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        ann.hand_over_s = 10_000
        with world.loop.inside(ann.process):
            stopping = asyncio.create_task(ann.ownership.stop(timeout_s=15))
        await stopping
        assert ann.owned() == []
        # Those that were not begun end with the lease.
        await asyncio.sleep(TTL_S + 1)
        assert world.cluster.snapshot("/chinwag/shards/").entries == ()

    world.run(scenario)


def test_stop_leaves_no_keys() -> None:
    world = World()

    async def scenario() -> None:
        ann, bob = world.start("ann"), world.start("bob")
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        with world.loop.inside(ann.process):
            stopping = asyncio.create_task(ann.ownership.stop(timeout_s=10))
        await stopping
        assert world.cluster.snapshot("/chinwag/shards/").entries == ()
        assert len(world.of(ann, "lost")) == SHARDS
        world.share(bob)
        await world.settled(bob, within_s=SOON_S)

    world.run(scenario)


def test_a_lapse_ends_all_before_another_can_win() -> None:
    world = World()

    async def scenario() -> None:
        ann, bob = world.start("ann"), world.start("bob")
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        await asyncio.sleep(20)
        cut_at = world.loop.now
        ann.cut = True
        world.tell(bob, bob)  # ann hears nothing of it
        await world.settled(bob, within_s=TTL_S + 5)
        lost = [line.when for line in world.of(ann, "lost")]
        won = [line.when for line in world.of(bob, "won")]
        assert len(lost) == SHARDS
        # The last keep-alive was sent at most a third of the TTL before.
        assert cut_at + TTL_S * 2 / 3 - MARGIN_S - 0.1 < min(lost)
        assert max(lost) <= cut_at + TTL_S - MARGIN_S + 0.1
        assert min(won) >= max(lost) + MARGIN_S - 0.1

    world.run(scenario)


def test_a_cut_shorter_than_the_lease_changes_nothing() -> None:
    world = World()

    async def scenario() -> None:
        ann = world.start("ann")
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        for _ in range(5):
            ann.cut = True
            await asyncio.sleep(3)
            ann.cut = False
            await asyncio.sleep(5)
        assert len(ann.owned()) == SHARDS
        assert world.of(ann, "lost") == []

    world.run(scenario)


def test_an_answer_that_comes_late_never_revives() -> None:
    world = World()

    async def scenario() -> None:
        ann = world.start("ann")
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        old = ann.ownership.epoch_of(7)
        assert old is not None
        # Keep-alives reach the cluster, which keeps the lease; their answers take too long.
        ann.delay_s = 5.0
        for _ in range(200):
            await asyncio.sleep(0.1)
            if not old.alive():
                break
        assert not old.alive()
        ann.delay_s = 0.001
        await world.settled(ann, within_s=40)
        assert not old.alive()
        new = ann.ownership.epoch_of(7)
        assert new is not None
        assert new.number > old.number
        assert new.nonce != old.nonce

    world.run(scenario)


def test_a_pause_longer_than_the_lease_ends_what_it_held() -> None:
    world = World()

    async def scenario() -> None:
        ann, bob = world.start("ann"), world.start("bob")
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        old = ann.ownership.epoch_of(7)
        assert old is not None
        world.loop.pause(ann.process)
        world.share(bob)
        await world.settled(bob, within_s=TTL_S + 5)
        world.loop.resume(ann.process)
        # Whatever it did first: by its clock it has nothing.
        assert not old.alive()
        await asyncio.sleep(1)
        assert ann.owned() == []
        assert len(bob.owned()) == SHARDS

    world.run(scenario)


def test_a_death_takes_the_ttl() -> None:
    world = World()

    async def scenario() -> None:
        ann, bob = world.start("ann"), world.start("bob")
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        world.loop.kill(ann.process)
        world.share(bob)
        took_s = await world.settled(bob, within_s=TTL_S + SOON_S)
        assert took_s > TTL_S * 2 / 3 - 1

    world.run(scenario)


def test_a_restarted_process_waits_for_its_predecessors_lease() -> None:
    world = World()

    async def scenario() -> None:
        # Even if somebody gives it the same name.
        first = world.start("ann")
        world.share(first)
        await world.settled(first, within_s=SOON_S)
        old = first.ownership.epoch_of(7)
        world.loop.kill(first.process)
        second = world.start("ann")
        world.share(second)
        await asyncio.sleep(TTL_S * 2 / 3 - 1)
        assert second.owned() == []
        assert world.of(second, "delete") == []
        await world.settled(second, within_s=TTL_S)
        new = second.ownership.epoch_of(7)
        assert old is not None
        assert new is not None
        assert new.number > old.number

    world.run(scenario)


def test_a_claim_whose_answer_is_lost_is_still_one_claim() -> None:
    world = World()

    async def scenario() -> None:
        ann = world.start("ann")
        await asyncio.sleep(0.5)
        ann.lose_answers = 20
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        for shard, entry in enumerate(world.cluster.snapshot("/chinwag/shards/").entries):
            epoch = ann.ownership.epoch_of(shard)
            assert epoch is not None
            assert entry.create_revision == epoch.number
        assert world.of(ann, "delete") == []

    world.run(scenario)


def test_a_claim_that_nobody_waited_for_is_cleared_away() -> None:
    world = World()

    async def scenario() -> None:
        ann, bob = world.start("ann"), world.start("bob")
        await asyncio.sleep(0.5)
        ann.delay_s = 1.0
        world.share(ann)
        # The claims are on their way when the shards go to another.
        await asyncio.sleep(0.5)
        world.share(bob)
        await world.settled(bob, within_s=20)
        assert world.of(ann, "won") == []

    world.run(scenario)


def test_what_is_refused_is_not_served() -> None:
    world = World()

    async def scenario() -> None:
        ann = world.start("ann")
        refuse = True

        async def confirm(epoch: Epoch) -> None:
            if refuse and epoch.shard == 7:
                raise EpochRefused("a higher epoch is stored")

        ann.confirm = confirm
        world.share(ann)
        await asyncio.sleep(SOON_S)
        assert len(ann.owned()) == SHARDS - 1
        assert ann.ownership.epoch_of(7) is None
        assert len(world.cluster.snapshot("/chinwag/shards/").entries) == SHARDS - 1
        refuse = False
        took_s = await world.settled(ann, within_s=REFUSED_RETRY_S)
        assert took_s > REFUSED_RETRY_S / 2

    world.run(scenario)


def test_a_confirmation_that_fails_is_repeated() -> None:
    world = World()

    async def scenario() -> None:
        ann = world.start("ann")
        tries: list[Epoch] = []

        async def confirm(epoch: Epoch) -> None:
            if epoch.shard == 7:
                assert ann.ownership.epoch_of(7) is None
                tries.append(epoch)
                if len(tries) == 1:
                    await asyncio.sleep(60)
                if len(tries) == 2:
                    raise ConnectionError("no quorum")

        ann.confirm = confirm
        world.share(ann)
        await world.settled(ann, within_s=10)
        assert len(tries) == 3
        assert len(set(tries)) == 1

    world.run(scenario)


def test_a_key_that_is_taken_away_ends_its_epoch() -> None:
    world = World()

    async def scenario() -> None:
        ann = world.start("ann")
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        old = ann.ownership.epoch_of(7)
        assert old is not None
        world.cluster.delete("/chinwag/shards/0007")
        await asyncio.sleep(0.1)
        assert not old.alive()
        new = ann.ownership.epoch_of(7)
        assert new is not None
        assert new.number > old.number
        assert len(world.of(ann, "lost")) == 1

    world.run(scenario)


def test_older_changes_of_a_batch_end_no_epoch() -> None:
    """A watch that lagged tells at once that a key of before went and that ours came."""
    world = World()

    async def scenario() -> None:
        ann = world.start("ann")
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        snapshot = world.cluster.snapshot("/chinwag/shards/")
        ours = snapshot.entries[0]
        epoch = ann.ownership.epoch_of(0)
        older = dataclasses.replace(
            ours, value=b'{"node": "bob", "nonce": "00"}', create_revision=1, mod_revision=1
        )
        batch = Changes(snapshot.revision, (older, Deleted(ours.key, 2), ours))
        ann.ownership._see_changes(batch)
        assert epoch is not None
        assert epoch.alive()
        assert ann.ownership.epoch_of(0) is epoch

    world.run(scenario)


def test_an_epoch_that_is_given_up_is_followed_by_another() -> None:
    world = World()

    async def scenario() -> None:
        ann = world.start("ann")
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        old = ann.ownership.epoch_of(7)
        assert old is not None
        with world.loop.inside(ann.process):
            ann.ownership.give_up(old, "a check failed")
        assert not old.alive()
        await world.settled(ann, within_s=SOON_S)
        assert [line.shard for line in world.of(ann, "lost")] == [7]

    world.run(scenario)


def test_strange_keys_are_left_alone() -> None:
    world = World()

    async def scenario() -> None:
        for key in ("x", "1024", "-1", "0007/x"):
            world.cluster.write(f"/chinwag/shards/{key}", b"?", 0)
        world.cluster.write("/chinwag/shards/0007", b"?", 0)
        ann = world.start("ann")
        world.share(ann)
        await asyncio.sleep(SOON_S)
        assert ann.owned() == [shard for shard in range(SHARDS) if shard != 7]
        assert ann.ownership.holder_of(7) is None

    world.run(scenario)


@pytest.mark.parametrize("leases", [True, False])
def test_a_restored_cluster_ends_all_epochs(leases: bool) -> None:
    world = World()

    async def scenario() -> None:
        ann, bob = world.start("ann"), world.start("bob")
        world.share(ann)
        await world.settled(ann, within_s=SOON_S)
        saved = world.cluster.save()
        world.share(ann, bob)
        await world.settled(ann, bob, within_s=SOON_S)
        epochs = [ann.ownership.epoch_of(s) or bob.ownership.epoch_of(s) for s in range(SHARDS)]
        world.cluster.restore(saved, leases=leases)
        await asyncio.sleep(0.1)
        assert not any(epoch is None or epoch.alive() for epoch in epochs)
        await world.settled(ann, bob, within_s=TTL_S + 5)

    world.run(scenario)


@pytest.fixture
def few_shards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A thousand would be a hundred times the same."""
    shards._draws.cache_clear()
    for module in (shards, ownership):
        monkeypatch.setattr(module, "SHARDS", 10)
    yield
    shards._draws.cache_clear()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.usefixtures("few_shards")
def test_never_two_owners_whatever_happens(seed: int) -> None:
    world = World(seed)
    draw = world.random

    async def scenario() -> None:
        nodes = [_start(world, f"node{number}") for number in range(3)]
        world.share(*nodes)
        for step in range(60):
            place = draw.randrange(len(nodes))
            node = nodes[place]
            chance = draw.random()
            if chance < 0.2:
                world.loop.kill(node.process)
                nodes[place] = _start(world, f"again{step}")
            elif chance < 0.4 and not node.process.paused:
                world.loop.pause(node.process)
            elif chance < 0.6:
                node.cut = not node.cut
            elif chance < 0.7:
                node.lose_answers = draw.randrange(50)
            elif chance < 0.8:
                node.delay_s = draw.choice((0.001, 0.05, 1.0, 4.0))
            elif chance < 0.9:
                world.cluster.forget_history()
            if draw.random() < 0.5:
                world.loop.resume(node.process)
            world.share(*draw.sample(nodes, draw.randrange(1, 4)))
            for _ in range(draw.randrange(1, 40)):
                await asyncio.sleep(0.1)
                world.check_all()
        for node in nodes:
            world.loop.resume(node.process)
            node.cut, node.lose_answers, node.delay_s = False, 0, 0.001
        world.share(*nodes)
        await world.settled(*nodes, within_s=4 * TTL_S)

    world.run(scenario)


def test_claims_that_cannot_count_yet_are_not_made_without_a_pause() -> None:
    """The coordination was restored, and the node does not know it yet: to it each key that it
    makes is gone again by the revision that it has seen."""
    world = World()

    async def scenario() -> None:
        ann = world.start("ann")
        told = asyncio.Event()

        async def watch(prefix: str) -> AsyncGenerator[Snapshot | Changes, None]:
            yield Snapshot(1_000_000, ())
            await told.wait()
            yield world.cluster.snapshot(prefix)
            await asyncio.Event().wait()

        ann.coordination.watch = watch  # type: ignore[method-assign]
        world.share(ann)
        await asyncio.sleep(SOON_S)
        assert ann.owned() == []
        claims = len(world.of(ann, "delete"))
        assert 0 < claims <= ownership.PARALLEL * SOON_S / ownership.RETRY_S
        told.set()
        await world.settled(ann, within_s=SOON_S)

    world.run(scenario)


def _start(world: World, name: str) -> SimNode:
    return world.start(name, rate=world.random.uniform(0.9, 1.1))
