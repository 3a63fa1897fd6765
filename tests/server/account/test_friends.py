"""Friends, requests, blocks: also at the same moment, and over a crash."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chinwag.account.v1 import account_service_pb2, user_pb2
from chinwag_server.account.records import RelationState
from tests.server.account.conftest import StartRules
from tests.server.account.rules import Person, Rules, refused

# Requests are made of dictionaries, which the stubs do not know.
pb: Any = account_service_pb2


async def pair(rules: Rules) -> tuple[Person, Person]:
    return await rules.sign_up("ada"), await rules.sign_up("bob")


async def ask(one: Person, other: Person, **fields: Any) -> int:
    answer = await one.call("RequestFriend", pb.RequestFriendRequest(user_id=other.id, **fields))
    return int(answer.relation)


async def sides(one: Person, other: Person) -> tuple[int, int]:
    """What each is to the other."""
    store = one.rules.store
    mine = await store.relation(one.id, other.id)
    theirs = await store.relation(other.id, one.id)
    return mine.state, theirs.state


async def friends_of(person: Person) -> list[str]:
    return [friend.user.username for friend in (await person.call("ListFriends")).friends]


async def test_asking_and_accepting(rules: Rules) -> None:
    for first, second in (("ada", "bob"), ("dan", "cat")):
        one, other = await rules.sign_up(first), await rules.sign_up(second)
        assert await ask(one, other, message="hi") == user_pb2.RELATION_REQUESTED_BY_ME
        assert await ask(one, other, message="hi") == user_pb2.RELATION_REQUESTED_BY_ME
        [request] = (await other.call("ListFriendRequests")).requests
        assert request.user.username == first
        assert request.direction == user_pb2.FRIEND_REQUEST_DIRECTION_INCOMING
        assert request.message == "hi"
        [request] = (await one.call("ListFriendRequests")).requests
        assert request.direction == user_pb2.FRIEND_REQUEST_DIRECTION_OUTGOING
        accept = pb.AcceptFriendRequest(user_id=one.id)
        answer = await other.call("AcceptFriend", accept)
        assert answer.friend.user.username == first
        assert await other.call("AcceptFriend", accept) == answer
        assert await friends_of(one) == [second]
        assert await friends_of(other) == [first]
        assert not (await one.call("ListFriendRequests")).requests
        seen = await one.call("GetUser", pb.GetUserRequest(user_id=other.id))
        assert seen.relation == user_pb2.RELATION_FRIEND
        again = pb.RequestFriendRequest(user_id=other.id)
        assert await one.refused("RequestFriend", again) == "ALREADY_FRIENDS"
        for person in (one, other):
            assert await rules.events(person.id) == [
                "device_added",
                "friend_request_made",
                "friend_added",
            ]


async def test_two_who_ask_each_other_are_friends(rules: Rules) -> None:
    ada, bob = await pair(rules)
    await ask(ada, bob)
    assert await ask(bob, ada) == user_pb2.RELATION_FRIEND
    assert await sides(ada, bob) == (RelationState.FRIEND, RelationState.FRIEND)


@pytest.mark.parametrize("round_", range(5))
async def test_crossing_requests(rules: Rules, round_: int) -> None:
    ada, bob = await pair(rules)
    one, other = (ada, bob) if round_ % 2 else (bob, ada)
    asked = [ask(one, other), ask(other, one)]
    relations = sorted(await asyncio.gather(*asked))
    assert relations == [user_pb2.RELATION_FRIEND, user_pb2.RELATION_REQUESTED_BY_ME]
    assert await sides(ada, bob) == (RelationState.FRIEND, RelationState.FRIEND)


async def test_declining_and_taking_back(rules: Rules) -> None:
    ada, bob = await pair(rules)
    await ask(ada, bob)
    decline, remove = (
        pb.DeclineFriendRequest(user_id=ada.id),
        pb.RemoveFriendRequest(user_id=bob.id),
    )
    # Each only by the one whose it is.
    assert await ada.refused("DeclineFriend", pb.DeclineFriendRequest(user_id=bob.id)) == (
        "FRIEND_NOT_FOUND"
    )
    assert await bob.refused("RemoveFriend", pb.RemoveFriendRequest(user_id=ada.id)) == (
        "FRIEND_NOT_FOUND"
    )
    assert await ada.refused("AcceptFriend", pb.AcceptFriendRequest(user_id=bob.id)) == (
        "FRIEND_NOT_FOUND"
    )
    await bob.call("DeclineFriend", decline)
    assert await bob.refused("DeclineFriend", decline) == "FRIEND_NOT_FOUND"
    assert await sides(ada, bob) == (RelationState.NONE, RelationState.NONE)
    await ask(ada, bob)
    await ada.call("RemoveFriend", remove)
    assert await sides(ada, bob) == (RelationState.NONE, RelationState.NONE)
    await rules.befriend(ada, bob)
    await ada.call("RemoveFriend", remove)
    assert await friends_of(bob) == []
    assert (await rules.events(bob.id))[1:] == [
        "friend_request_made",
        "friend_request_closed",
        "friend_request_made",
        "friend_request_closed",
        "friend_request_made",
        "friend_added",
        "friend_removed",
    ]


async def test_nobody_and_oneself(rules: Rules) -> None:
    ada, _ = await pair(rules)
    for nobody in ("nobody", "zzz"):
        for name, reason in (
            ("RequestFriend", "RECIPIENT_UNAVAILABLE"),
            ("AcceptFriend", "FRIEND_NOT_FOUND"),
            ("DeclineFriend", "FRIEND_NOT_FOUND"),
            ("RemoveFriend", "FRIEND_NOT_FOUND"),
            ("BlockUser", "USER_NOT_FOUND"),
            ("GetUser", "USER_NOT_FOUND"),
        ):
            request = getattr(pb, f"{name}Request")(user_id=nobody)
            assert await ada.refused(name, request) == reason, name
    for name in ("RequestFriend", "BlockUser"):
        request = getattr(pb, f"{name}Request")(user_id=ada.id)
        assert await ada.refused(name, request) == "SELF_REFERENCE"


async def test_request_ids(rules: Rules) -> None:
    for one, other in ((await pair(rules)), (await pair_of(rules, "zoe", "cat"))):
        request = pb.RequestFriendRequest(user_id=other.id, request_id="q1")
        await one.call("RequestFriend", request)
        await other.call("DeclineFriend", pb.DeclineFriendRequest(user_id=one.id))
        # The repeat gets the same answer and asks no second time.
        answer = await one.call("RequestFriend", request)
        assert answer.relation == user_pb2.RELATION_REQUESTED_BY_ME
        assert await sides(one, other) == (RelationState.NONE, RelationState.NONE)
        # For another method, and about another user, it is another content.
        for reused in (
            ("RemoveFriend", pb.RemoveFriendRequest(user_id=other.id, request_id="q1")),
            ("RequestFriend", pb.RequestFriendRequest(user_id="u", request_id="q1")),
            ("BlockUser", pb.BlockUserRequest(user_id=other.id, request_id="q1")),
        ):
            assert await one.refused(*reused) == "ID_REUSED"
        # What was refused is tried anew.
        accept = pb.AcceptFriendRequest(user_id=one.id, request_id="q2")
        assert await other.refused("AcceptFriend", accept) == "FRIEND_NOT_FOUND"
        await ask(one, other)
        await other.call("AcceptFriend", accept)
        # Another caller's ids are their own.
        await other.call("BlockUser", pb.BlockUserRequest(user_id=one.id, request_id="q1"))


async def pair_of(rules: Rules, first: str, second: str) -> tuple[Person, Person]:
    return await rules.sign_up(first), await rules.sign_up(second)


async def test_a_block_ends_what_is_between_them(rules: Rules) -> None:
    ada, bob = await pair(rules)
    await rules.befriend(ada, bob)
    block = pb.BlockUserRequest(user_id=ada.id)
    answer = await bob.call("BlockUser", block)
    assert answer.block.user.username == "ada"
    assert await bob.call("BlockUser", block) == answer
    assert await sides(ada, bob) == (RelationState.NONE, RelationState.NONE)
    # The blocked one hears of the friendship's end, and of nothing else.
    assert (await rules.events(ada.id))[-1] == "friend_removed"
    assert "user_blocked" not in await rules.events(ada.id)
    assert (await rules.events(bob.id))[-2:] == ["user_blocked", "friend_removed"]
    seen = await ada.call("GetUser", pb.GetUserRequest(user_id=bob.id))
    assert (seen.user.username, seen.blocked) == ("bob", False)
    assert (await bob.call("GetUser", pb.GetUserRequest(user_id=ada.id))).blocked
    # Neither can ask the other, nor find, write, add.
    for one, other in ((ada, bob), (bob, ada)):
        assert await refused(ask(one, other)) == "RECIPIENT_UNAVAILABLE"
        find = pb.FindUserRequest(username="bob" if other is bob else "ada")
        assert await one.refused("FindUser", find) == "USER_NOT_FOUND"
        assert not await rules.room.directory.may_write(one.id, other.id)
        assert not await rules.room.directory.may_add(one.id, other.id)
    await bob.call("UnblockUser", pb.UnblockUserRequest(user_id=ada.id))
    await bob.call("UnblockUser", pb.UnblockUserRequest(user_id=ada.id))
    assert await sides(ada, bob) == (RelationState.NONE, RelationState.NONE)
    assert await rules.room.directory.may_write(ada.id, bob.id)
    await ask(ada, bob)


async def test_a_block_closes_a_request(rules: Rules) -> None:
    ada, bob = await pair(rules)
    await ask(ada, bob)
    await bob.call("BlockUser", pb.BlockUserRequest(user_id=ada.id))
    assert not (await ada.call("ListFriendRequests")).requests
    assert (await rules.events(ada.id))[-1] == "friend_request_closed"
    assert await bob.refused("AcceptFriend", pb.AcceptFriendRequest(user_id=ada.id)) == (
        "FRIEND_NOT_FOUND"
    )


@pytest.mark.parametrize("order", range(6))
async def test_a_block_and_a_request_at_the_same_moment(rules: Rules, order: int) -> None:
    ada, bob = await pair(rules)
    calls = [
        bob.call("BlockUser", pb.BlockUserRequest(user_id=ada.id)),
        ask(ada, bob),
        ask(bob, ada),
    ]
    await asyncio.gather(*(calls[order:] + calls[:order])[:3], return_exceptions=True)
    assert await sides(ada, bob) == (RelationState.NONE, RelationState.NONE)


async def test_a_crash_between_the_two_sides(rules: Rules) -> None:
    ada, bob = await pair(rules)
    first, second = sorted((ada, bob), key=lambda person: person.id)
    # The mirror fails after the decision.
    handlers = rules.room.chores._handlers

    async def fail(_chore: object) -> None:
        raise RuntimeError("the process died here")

    handlers["mirror"] = fail
    await ask(second, first)
    assert await sides(first, second) == (RelationState.REQUESTED_BY_THEM, RelationState.NONE)
    await rules.restart()
    await rules.room.repair()
    assert (await sides(first, second))[1] == RelationState.NONE  # not due yet
    rules.clock.advance(31)
    await rules.room.repair()
    assert (await sides(first, second))[1] == RelationState.REQUESTED_BY_ME
    assert await rules.store.chores(1 << 60, 10) == []
    rules.clock.advance(400)
    second.tokens = (await rules.log_in("ada" if second is ada else "bob")).tokens
    assert len((await second.call("ListFriendRequests")).requests) == 1


async def test_limits(start_rules: StartRules) -> None:
    rules = await start_rules(limits__user_relations=2)
    ada = await rules.sign_up("ada")
    others = [await rules.sign_up(f"user{number}") for number in range(4)]
    for other in others[:2]:
        await ask(ada, other)
    assert await refused(ask(ada, others[2])) == "RELATION_LIMIT"
    assert await refused(ask(others[2], ada)) == "RELATION_LIMIT"
    for other in others[:2]:
        await other.call("AcceptFriend", pb.AcceptFriendRequest(user_id=ada.id))
    await ask(ada, others[2])
    accept = pb.AcceptFriendRequest(user_id=ada.id)
    assert await others[2].refused("AcceptFriend", accept) == "RELATION_LIMIT"
    for other in others[:2]:
        await ada.call("BlockUser", pb.BlockUserRequest(user_id=other.id))
    block = pb.BlockUserRequest(user_id=others[3].id)
    assert await ada.refused("BlockUser", block) == "RELATION_LIMIT"
    await others[2].call("AcceptFriend", accept)


async def test_pages(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    for number in range(5):
        rules.clock.advance(1)
        await rules.befriend(ada, await rules.sign_up(f"user{number}"))
    names, token = [], ""
    while True:
        answer = await ada.call("ListFriends", pb.ListFriendsRequest(page_size=2, page_token=token))
        names += [friend.user.username for friend in answer.friends]
        if not (token := answer.next_page_token):
            break
    assert names == ["user4", "user3", "user2", "user1", "user0"]
    # A token of another list is none here.
    first = await ada.call("ListFriends", pb.ListFriendsRequest(page_size=2))
    request = pb.ListBlocksRequest(page_token=first.next_page_token)
    assert await ada.refused("ListBlocks", request) == "INVALID_PAGE_TOKEN"


async def test_directions(rules: Rules) -> None:
    ada, bob = await pair(rules)
    cat = await rules.sign_up("cat")
    await ask(ada, bob)
    await ask(cat, ada)
    for direction, names in (
        (user_pb2.FRIEND_REQUEST_DIRECTION_UNSPECIFIED, {"bob", "cat"}),
        (user_pb2.FRIEND_REQUEST_DIRECTION_INCOMING, {"cat"}),
        (user_pb2.FRIEND_REQUEST_DIRECTION_OUTGOING, {"bob"}),
    ):
        answer = await ada.call(
            "ListFriendRequests", pb.ListFriendRequestsRequest(direction=direction)
        )
        assert {request.user.username for request in answer.requests} == names


async def test_blocks_are_listed(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    for number in range(3):
        rules.clock.advance(1)
        other = await rules.sign_up(f"user{number}")
        await ada.call("BlockUser", pb.BlockUserRequest(user_id=other.id))
    answer = await ada.call("ListBlocks", pb.ListBlocksRequest(page_size=2))
    assert [block.user.username for block in answer.blocks] == ["user2", "user1"]
    rest = await ada.call("ListBlocks", pb.ListBlocksRequest(page_token=answer.next_page_token))
    assert [block.user.username for block in rest.blocks] == ["user0"]
