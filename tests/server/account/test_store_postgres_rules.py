"""The account room's rules over PostgreSQL: what two users are to each other, and whose a name is,
also if the server dies in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag_server.account.postgres import PostgresAccountStore
from chinwag_server.account.records import RelationState
from chinwag_server.rpc.errors import Refusal
from tests.server.account.postgres_server import QUICK, empty, mortal_server, mortal_url, sql
from tests.server.account.rules import PASSWORD, Rules
from tools.engines.postgres import Postgres

__all__ = ["mortal_server", "mortal_url"]

LATER_S = 700  # longer than a name stays reserved and a chore is put off

# So that commits fail while the server is away.
HASTY = dataclasses.replace(QUICK, statement_s=0.5, patience_s=0.5)


@pytest.fixture
async def url(mortal_url: str) -> str:
    await empty(mortal_url)
    return mortal_url


async def agreement(url: str) -> None:
    """Holds of a store in which nothing is under way."""
    assert await sql(url, "SELECT * FROM chores") == []
    assert (
        await sql(
            url,
            "SELECT a.*, b.* FROM relations a LEFT JOIN relations b "
            "ON (b.user_id, b.other_id) = (a.other_id, a.user_id) WHERE a.state > 0 "
            "AND (b.revision IS DISTINCT FROM a.revision "
            "OR b.state <> CASE a.state WHEN 2 THEN 3 WHEN 3 THEN 2 ELSE a.state END)",
        )
        == []
    )
    assert (
        await sql(
            url,
            "SELECT * FROM relations r JOIN blocks b ON (b.user_id, b.other_id) IN "
            "((r.user_id, r.other_id), (r.other_id, r.user_id)) WHERE r.state > 0",
        )
        == []
    )
    assert (
        await sql(
            url,
            "SELECT * FROM users u FULL JOIN names n ON n.name = u.username "
            "WHERE u.username <> '' AND (n.user_id IS DISTINCT FROM u.user_id OR NOT n.confirmed)"
            "OR u.user_id IS NULL",
        )
        == []
    )
    assert (
        await sql(
            url,
            "SELECT u.user_id FROM users u JOIN events e USING (user_id) "
            "GROUP BY u.user_id, u.event_id "
            "HAVING max(e.id) <> u.event_id OR max(e.id) - min(e.id) + 1 <> count(*)",
        )
        == []
    )


async def test_a_life(tmp_path: Path, url: str) -> None:
    rules = Rules(tmp_path, PostgresAccountStore(url, settings=QUICK))
    await rules.start()
    try:
        ann, bob = await rules.sign_up("ann"), await rules.sign_up("bob")
        with pytest.raises(Refusal, match="taken"):
            await rules.sign_up("ann")
        await rules.befriend(ann, bob)
        friends = await bob.call("ListFriends")
        assert [friend.user.id for friend in friends.friends] == [ann.id]
        assert "friend_added" in await rules.events(bob.id)
        await bob.call("BlockUser", pb.BlockUserRequest(user_id=ann.id))
        assert (await rules.store.relation(ann.id, bob.id)).state is RelationState.NONE
        await ann.call("DeleteAccount", pb.DeleteAccountRequest(password=PASSWORD))
        await rules.idle()
        await rules.sign_up("ann")
        await agreement(url)
    finally:
        await rules.room.stop()


async def test_ids_with_nul_are_nobodys(tmp_path: Path, url: str) -> None:
    rules = Rules(tmp_path, PostgresAccountStore(url, settings=QUICK))
    await rules.start()
    try:
        ann = await rules.sign_up("ann")
        for method in (
            "GetUser",
            "RequestFriend",
            "AcceptFriend",
            "DeclineFriend",
            "RemoveFriend",
            "BlockUser",
            "UnblockUser",
        ):
            request = getattr(pb, f"{method}Request")(user_id="\0")
            with contextlib.suppress(Refusal):
                await ann.call(method, request)
        request = pb.RevokeDeviceRequest(device_id="\0", request_id="\0")
        assert await ann.refused("RevokeDevice", request) == "DEVICE_NOT_FOUND"
        await agreement(url)
    finally:
        await rules.room.stop()


async def test_a_server_that_dies_while_people_meet(
    tmp_path: Path, mortal_server: Postgres, url: str
) -> None:
    drawn = random.Random(7)
    store = PostgresAccountStore(url, settings=QUICK)
    rules = Rules(tmp_path, store, account__access_token_s=86_400)
    await rules.start()
    people = [await rules.sign_up(name) for name in ("ann", "bob", "cid", "dan")]
    rules.store = PostgresAccountStore(url, settings=HASTY)
    await rules.restart()
    requests: list[tuple[str, Callable[[str], Any]]] = [
        ("RequestFriend", lambda id_: pb.RequestFriendRequest(user_id=id_)),
        ("AcceptFriend", lambda id_: pb.AcceptFriendRequest(user_id=id_)),
        ("RemoveFriend", lambda id_: pb.RemoveFriendRequest(user_id=id_)),
        ("BlockUser", lambda id_: pb.BlockUserRequest(user_id=id_)),
        ("UnblockUser", lambda id_: pb.UnblockUserRequest(user_id=id_)),
    ]
    going = asyncio.Event()
    going.set()
    refusals: set[str] = set()

    async def meet() -> None:
        while going.is_set():
            me, other = drawn.sample(people, 2)
            method, make = drawn.choice(requests)
            try:
                await me.call(method, make(other.id))
            except Refusal as refusal:
                refusals.add(refusal.reason)

    async def come() -> None:
        while going.is_set():
            with contextlib.suppress(Refusal):
                await rules.sign_up(f"new{drawn.randrange(1000)}")

    meeting = [asyncio.ensure_future(meet()) for _ in range(6)]
    meeting.append(asyncio.ensure_future(come()))
    for _ in range(2):
        await asyncio.sleep(0.5)
        await asyncio.to_thread(mortal_server.kill)
        await asyncio.sleep(0.8)
        await asyncio.to_thread(mortal_server.start)
    going.clear()
    await asyncio.gather(*meeting)
    await rules.idle()
    # Another node repairs, one with more patience.
    rules.store = PostgresAccountStore(url, settings=QUICK)
    await rules.restart()
    try:
        for _ in range(3):
            rules.clock.advance(LATER_S)
            await rules.room.repair()
        await rules.idle()
        assert "STORAGE_UNAVAILABLE" in refusals
        await agreement(url)
    finally:
        await rules.room.stop()
