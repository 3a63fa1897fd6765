"""The store dies at each write of a call in turn: after the repair all partitions agree, and the
same request, sent again, brings about what it was to bring about."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import user_pb2
from chinwag_server.account import events
from chinwag_server.account.memory import MemoryAccountStore
from chinwag_server.account.records import RelationState
from chinwag_server.account.store import StoreUnavailable
from chinwag_server.rpc.errors import Refusal
from tests.server.account.conftest import StartRules
from tests.server.account.rules import PASSWORD, Person, Rules

NONE, FRIEND = RelationState.NONE, RelationState.FRIEND
BY_ME, BY_THEM = RelationState.REQUESTED_BY_ME, RelationState.REQUESTED_BY_THEM
# The store in memory dies at any write that one wants.
pytestmark = pytest.mark.parametrize("start_rules", ["memory"], indirect=True)

MIRRORED = {NONE: NONE, FRIEND: FRIEND, BY_ME: BY_THEM, BY_THEM: BY_ME}

# Longer than a name stays reserved and a chore is put off.
LATER_S = 700
MAX_WRITES = 60


class Death:
    """Lets a store do so many more writes, then fails all of them."""

    def __init__(self, store: MemoryAccountStore, writes: int) -> None:
        self.store = store
        self.left = writes
        self.struck = False
        self._plain = store._write
        store._write = self._write  # type: ignore[method-assign]

    async def _write(self) -> None:
        if self.left <= 0:
            self.struck = True
            raise StoreUnavailable("the store is dead")
        self.left -= 1
        await self._plain()

    def heal(self) -> None:
        self.store._write = self._plain  # type: ignore[method-assign]


@dataclass
class World:
    """Two people; `first` has the smaller id, whose row is the pair's truth."""

    rules: Rules
    first: Person
    second: Person

    @classmethod
    async def make(cls, rules: Rules) -> World:
        people = [await rules.sign_up("ann"), await rules.sign_up("bob")]
        people.sort(key=lambda person: person.id)
        return cls(rules, *people)

    async def states(self) -> tuple[RelationState, RelationState]:
        first, second = self.first.id, self.second.id
        store = self.rules.store
        return (
            (await store.relation(first, second)).state,
            (await store.relation(second, first)).state,
        )


Step = Callable[[World], Awaitable[Any]]


def between(who: str, method: str, request: Callable[[str], Any]) -> Step:
    """A call of one of the two about the other."""

    async def step(world: World) -> Any:
        me, other = world.first, world.second
        if who == "second":
            me, other = other, me
        message = request(other.id)
        message.request_id = f"{who} {method}"
        return await me.call(method, message)

    return step


def ask(who: str) -> Step:
    return between(who, "RequestFriend", lambda id_: pb.RequestFriendRequest(user_id=id_))


def accept(who: str) -> Step:
    return between(who, "AcceptFriend", lambda id_: pb.AcceptFriendRequest(user_id=id_))


def remove(who: str) -> Step:
    return between(who, "RemoveFriend", lambda id_: pb.RemoveFriendRequest(user_id=id_))


def decline(who: str) -> Step:
    return between(who, "DeclineFriend", lambda id_: pb.DeclineFriendRequest(user_id=id_))


def block(who: str) -> Step:
    return between(who, "BlockUser", lambda id_: pb.BlockUserRequest(user_id=id_))


PAIRS: list[tuple[list[Step], Step, tuple[RelationState, RelationState]]] = [
    ([], ask("first"), (BY_ME, BY_THEM)),
    ([], ask("second"), (BY_THEM, BY_ME)),
    ([ask("first")], ask("second"), (FRIEND, FRIEND)),
    ([ask("second")], ask("first"), (FRIEND, FRIEND)),
    ([ask("first")], accept("second"), (FRIEND, FRIEND)),
    ([ask("second")], accept("first"), (FRIEND, FRIEND)),
    ([ask("first")], decline("second"), (NONE, NONE)),
    ([ask("second")], decline("first"), (NONE, NONE)),
    ([ask("first"), accept("second")], remove("first"), (NONE, NONE)),
    ([ask("first"), accept("second")], remove("second"), (NONE, NONE)),
    ([ask("first"), accept("second")], block("first"), (NONE, NONE)),
    ([ask("first"), accept("second")], block("second"), (NONE, NONE)),
    ([ask("first")], block("second"), (NONE, NONE)),
]


def memory(rules: Rules) -> MemoryAccountStore:
    """The rooms' store."""
    assert isinstance(rules.store, MemoryAccountStore)
    return rules.store


async def check(rules: Rules) -> None:
    """What holds of a store in which nothing is under way."""
    store = memory(rules)
    assert not store._chores
    for (user_id, other_id), row in store._relations.items():
        other = await store.relation(other_id, user_id)
        assert MIRRORED[row.state] == other.state
        if row.state is not NONE:
            assert (other.revision, other.time_us) == (row.revision, row.time_us)
            assert (user_id, other_id) not in store._blocks
            assert (other_id, user_id) not in store._blocks
    for user in store._users.values():
        if user.username:
            assert store._names[user.username].user_id == user.user_id
            assert store._names[user.username].confirmed
        rows = await store.events(user.user_id, 0, 10_000)
        ids = [row.id for row in rows]
        assert ids == list(range(user.event_id - len(ids) + 1, user.event_id + 1))
    for name in store._names.values():
        assert store._users[name.user_id].username == name.name


async def crash_and_repair(rules: Rules, death: Death) -> None:
    """The process is gone, its successor repairs, time goes by, it repairs again."""
    with contextlib.suppress(Refusal):
        await rules.idle()
    death.heal()
    await rules.restart()
    rules.clock.advance(LATER_S)
    for _ in range(3):
        await rules.room.repair()
        rules.clock.advance(100)
    await rules.idle()


async def at_every_write(
    start_rules: StartRules,
    prepare: Callable[[World], Awaitable[None]],
    act: Step,
    verify: Callable[[World], Awaitable[None]],
    after_retry: tuple[str, ...] = (),
) -> None:
    """Runs `act` with a store that dies at its first write, then at its second, and so on.

    Args:
        after_retry: Reasons with which the repeat may be refused.
    """
    for writes in range(MAX_WRITES):
        # An hour for all of it: tokens must not end by themselves.
        rules = await start_rules(account__access_token_s=3600)
        world = await World.make(rules)
        await prepare(world)
        await rules.idle()
        death = Death(memory(rules), writes)
        with contextlib.suppress(Refusal):
            await act(world)
        await rules.idle()
        struck = death.struck
        await crash_and_repair(rules, death)
        await check(rules)
        outcomes = await asyncio.gather(act(world), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, Refusal), (writes, outcome)
                assert outcome.reason in after_retry, (writes, outcome.reason)
        await rules.idle()
        await check(rules)
        await verify(world)
        if not struck:
            assert writes > 0
            return
    raise AssertionError("the call never came to its end")


@pytest.mark.parametrize("case", range(len(PAIRS)))
async def test_pairs(start_rules: StartRules, case: int) -> None:
    before, act, wanted = PAIRS[case]

    async def prepare(world: World) -> None:
        for step in before:
            await step(world)

    async def verify(world: World) -> None:
        assert await world.states() == wanted

    await at_every_write(start_rules, prepare, act, verify)


async def nothing(world: World) -> None:
    pass


async def test_sign_up(start_rules: StartRules) -> None:
    async def act(world: World) -> None:
        await world.rules.sign_up("cid", request_id="r")

    async def verify(world: World) -> None:
        cid = await world.rules.log_in("cid")
        assert (await cid.call("GetMe")).user.username == "cid"
        assert len(memory(world.rules)._users) == 3

    await at_every_write(start_rules, nothing, act, verify)


async def test_a_sign_up_that_broke_off_goes_on_at_once(start_rules: StartRules) -> None:
    """The one who asks again with the same request_id need not wait for the repair; others do."""
    for writes in range(3):
        rules = await start_rules()
        death = Death(memory(rules), writes)
        with pytest.raises(Refusal):
            await rules.sign_up("cid", request_id="r")
        death.heal()
        # As after a kill: nobody has released the name.
        await rules.restart()
        cid = await rules.sign_up("cid", request_id="r")
        assert (await rules.log_in("cid")).id == cid.id
        await check(rules)


async def test_another_username(start_rules: StartRules) -> None:
    async def act(world: World) -> None:
        request = pb.UpdateProfileRequest(username="zoe", request_id="r")
        request.update_mask.paths.append("username")
        await world.first.call("UpdateProfile", request)

    async def verify(world: World) -> None:
        store = memory(world.rules)
        assert (await world.first.call("GetMe")).user.username == "zoe"
        assert len(store._names) == 2
        await world.rules.sign_up("ann" if "ann" not in store._names else "bob")

    await at_every_write(start_rules, nothing, act, verify)


async def test_users_of_a_backend(start_rules: StartRules) -> None:
    async def act(world: World) -> None:
        users = [pb.UserUpsert(id=f"t{number}", username=f"team{number}") for number in range(3)]
        await world.rules.backend("UpsertUsers", pb.UpsertUsersRequest(users=users, request_id="r"))

    async def prepare(world: World) -> None:
        await world.rules.backend("ListApiKeys")

    async def verify(world: World) -> None:
        for number in range(3):
            request = pb.FindUserRequest(username=f"team{number}")
            assert (await world.first.call("FindUser", request)).user.id == f"t{number}"

    await at_every_write(start_rules, prepare, act, verify)


async def test_deletion(start_rules: StartRules) -> None:
    async def prepare(world: World) -> None:
        rules = world.rules
        await rules.befriend(world.first, world.second)
        cid, dan = await rules.sign_up("cid"), await rules.sign_up("dan")
        await world.first.call("BlockUser", pb.BlockUserRequest(user_id=dan.id))
        await world.first.call("RequestFriend", pb.RequestFriendRequest(user_id=cid.id))

    async def act(world: World) -> None:
        await world.first.call("DeleteAccount", pb.DeleteAccountRequest(password=PASSWORD))

    async def verify(world: World) -> None:
        store, gone = memory(world.rules), world.first.id
        user = await store.user(gone)
        assert user is not None
        assert user.deleted
        assert not user.username
        assert not [row for row in store._relations.values() if row.user_id == gone]
        assert not [row for row in store._blocks.values() if row.user_id == gone]
        assert await store.sessions(gone) == []
        assert await store.count_relations(world.second.id, (FRIEND,)) == 0
        assert len(store._names) == 3
        assert (gone, True) in world.rules.chat.forgotten

    await at_every_write(start_rules, prepare, act, verify, after_retry=("SESSION_REVOKED",))


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_comes_at_once_and_wherever_it_dies(
    start_rules: StartRules, seed: int
) -> None:
    """Four people do random things to each other at the same time; now and then the store dies."""
    drawn = random.Random(seed)
    rules = await start_rules(account__access_token_s=86_400)
    people = [await rules.sign_up(name) for name in ("ann", "bob", "cid", "dan")]
    requests: list[tuple[str, Callable[[str], Any]]] = [
        ("RequestFriend", lambda id_: pb.RequestFriendRequest(user_id=id_)),
        ("AcceptFriend", lambda id_: pb.AcceptFriendRequest(user_id=id_)),
        ("RequestFriend", lambda id_: pb.RequestFriendRequest(user_id=id_)),
        ("DeclineFriend", lambda id_: pb.DeclineFriendRequest(user_id=id_)),
        ("RemoveFriend", lambda id_: pb.RemoveFriendRequest(user_id=id_)),
        ("BlockUser", lambda id_: pb.BlockUserRequest(user_id=id_)),
        ("UnblockUser", lambda id_: pb.UnblockUserRequest(user_id=id_)),
        ("UnblockUser", lambda id_: pb.UnblockUserRequest(user_id=id_)),
    ]

    async def one() -> None:
        me, other = drawn.sample(people, 2)
        method, make = drawn.choice(requests)
        for _ in range(drawn.randrange(4)):
            await asyncio.sleep(0)
        with contextlib.suppress(Refusal):
            await me.call(method, make(other.id))

    for _ in range(12):
        rules.clock.advance(1)
        death = Death(memory(rules), drawn.choice([5, 20, 1000]))
        await asyncio.gather(*(one() for _ in range(12)))
        await rules.idle()
        death.heal()
    await crash_and_repair(rules, Death(memory(rules), 1000))
    await check(rules)
    told = [await told_relations(rules, person.id) for person in people]
    for person, relations in zip(people, told, strict=True):
        for other in people:
            if other is not person:
                row = await rules.store.relation(person.id, other.id)
                assert relations.get(other.id, NONE) == row.state


async def told_relations(rules: Rules, user_id: str) -> dict[str, RelationState]:
    """What somebody believes who heard nothing but their account's events."""
    believed: dict[str, RelationState] = {}
    for event in await events.read(rules.store, user_id, 0, 100_000):
        match event.WhichOneof("event"):
            case "friend_request_made":
                made = event.friend_request_made.request
                outgoing = made.direction == user_pb2.FRIEND_REQUEST_DIRECTION_OUTGOING
                believed[made.user.id] = BY_ME if outgoing else BY_THEM
            case "friend_request_closed":
                believed.pop(event.friend_request_closed.user_id)
            case "friend_added":
                believed[event.friend_added.friend.user.id] = FRIEND
            case "friend_removed":
                assert believed.pop(event.friend_removed.user_id) is FRIEND
    return believed


async def test_a_commit_of_which_nothing_is_known_is_told_to_those_who_remember(
    rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await rules.sign_up("ann")
    store = rules.room.store
    stored = store.commit
    told: list[str] = []
    rules.room.users.on_change.append(told.append)

    async def commit(*writes: Any) -> None:
        await stored(*writes)
        raise StoreUnavailable("the answer was lost")

    monkeypatch.setattr(store, "commit", commit)
    request = pb.UpdateProfileRequest(display_name="Ann")
    request.update_mask.paths.append("display_name")
    with pytest.raises((Refusal, StoreUnavailable)):
        await ann.call("UpdateProfile", request)
    assert told == [ann.id]
