"""What chat is told about people, and that a change is heard of at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import pytest

from chinwag.account.v1 import user_pb2
from chinwag_server.account.audiences import Audiences, NoContacts
from chinwag_server.account.directory import CONTACTS_HOLD_US, AccountDirectory
from chinwag_server.account.memory import MemoryAccountStore
from chinwag_server.account.records import (
    BanRecord,
    BlockRecord,
    DeleteBlock,
    RelationRecord,
    RelationState,
    UserRecord,
    Write,
)
from tests.server.account.clock import START_US, FakeClock

NOBODY, FRIENDS = user_pb2.AUDIENCE_NOBODY, user_pb2.AUDIENCE_FRIENDS
CONTACTS, EVERYONE = user_pb2.AUDIENCE_CONTACTS, user_pb2.AUDIENCE_EVERYONE


class CountingStore(MemoryAccountStore):
    """Counts what is looked up."""

    reads = 0

    async def users(
        self, user_ids: Collection[str], *, may_be_old: bool = False
    ) -> dict[str, UserRecord]:
        self.reads += 1
        return await super().users(user_ids)


class FakeContacts(NoContacts):
    def __init__(self) -> None:
        self.shared: set[frozenset[str]] = set()

    async def share_channel(self, user_id: str, other_id: str) -> bool:
        return frozenset({user_id, other_id}) in self.shared


class World:
    def __init__(self) -> None:
        self.store = CountingStore()
        self.clock = FakeClock()
        self.contacts = FakeContacts()
        self.directory = AccountDirectory(
            self.store, Audiences(self.store, self.contacts), self.clock
        )

    async def put(self, user_id: str, *writes: Write, **fields: Any) -> None:
        user = await self.store.user(user_id) or UserRecord(user_id)
        await self.store.commit(dataclasses.replace(user, **fields), writes)
        self.directory.changed(user_id)

    async def privacy(self, user_id: str, **fields: Any) -> None:
        settings = user_pb2.PrivacySettings(**fields)
        await self.put(user_id, privacy=settings.SerializeToString())


@pytest.fixture
async def world() -> World:
    world = World()
    for user_id in ("ann", "bob", "cid"):
        await world.put(user_id)
    return world


async def test_who_exists(world: World) -> None:
    directory = world.directory
    assert await directory.existing(["ann", "bob", "nobody"]) == {"ann", "bob"}
    reads = world.store.reads
    assert await directory.existing(["ann", "bob"]) == {"ann", "bob"}
    assert world.store.reads == reads
    await world.put("bob", deleted=True)
    await world.put("nobody")
    assert await directory.existing(["ann", "bob", "nobody"]) == {"ann", "nobody"}


async def test_everybody_may_write_at_first(world: World) -> None:
    assert await world.directory.may_write("ann", "bob")
    assert await world.directory.may_add("ann", "bob")
    reads = world.store.reads
    for _ in range(100):
        assert await world.directory.may_write("ann", "bob")
    assert world.store.reads == reads


async def test_a_block_holds_both_ways_and_at_once(world: World) -> None:
    directory = world.directory
    assert await directory.may_write("ann", "bob")
    assert await directory.may_write("bob", "ann")
    await world.put("bob", BlockRecord("bob", "ann", START_US))
    for may in (directory.may_write, directory.may_add):
        assert not await may("ann", "bob")
        assert not await may("bob", "ann")
        assert await may("cid", "bob")
    await world.put("bob", DeleteBlock("bob", "ann"))
    assert await directory.may_write("ann", "bob")


@pytest.mark.parametrize(
    ("audience", "stranger", "contact", "friend"),
    [
        (EVERYONE, True, True, True),
        (CONTACTS, False, True, True),
        (FRIENDS, False, False, True),
        (NOBODY, False, False, False),
    ],
)
async def test_privacy(
    world: World,
    audience: user_pb2.Audience.ValueType,
    stranger: bool,
    contact: bool,
    friend: bool,
) -> None:
    directory = world.directory
    await world.privacy("bob", write=audience, add_to_channels=audience)
    assert await directory.may_write("ann", "bob") == stranger
    assert await directory.may_add("ann", "bob") == stranger
    assert await directory.may_write("bob", "ann")
    world.contacts.shared.add(frozenset({"ann", "bob"}))
    world.clock.advance(CONTACTS_HOLD_US / 1e6)
    assert await directory.may_write("ann", "bob") == contact
    world.contacts.shared.clear()
    await world.put("bob", RelationRecord("bob", "ann", RelationState.FRIEND, 1, START_US))
    assert await directory.may_write("ann", "bob") == friend
    assert await directory.may_add("ann", "bob") == friend


async def test_each_right_has_a_setting_of_its_own(world: World) -> None:
    await world.privacy("bob", write=NOBODY)
    assert not await world.directory.may_write("ann", "bob")
    assert await world.directory.may_add("ann", "bob")


async def test_an_asked_one_is_no_friend(world: World) -> None:
    await world.privacy("bob", write=FRIENDS)
    asked = RelationRecord("bob", "ann", RelationState.REQUESTED_BY_THEM, 1, START_US)
    await world.put("bob", asked)
    assert not await world.directory.may_write("ann", "bob")


async def test_nobody_writes_to_who_is_gone_or_unknown(world: World) -> None:
    directory = world.directory
    assert not await directory.may_write("ann", "new")
    await world.put("new")
    assert await directory.may_write("ann", "new")
    await world.put("new", deleted=True)
    assert not await directory.may_write("ann", "new")
    assert not await directory.may_write("new", "ann")


async def test_a_ban_ends_by_itself(world: World) -> None:
    directory = world.directory
    assert await directory.may_write("ann", "bob")
    await world.put("bob", ban=BanRecord(START_US, expire_time_us=START_US + 60_000_000))
    assert not await directory.may_write("ann", "bob")
    assert not await directory.may_write("bob", "ann")
    assert await directory.existing(["bob"]) == {"bob"}
    world.clock.advance(59)
    assert not await directory.may_write("ann", "bob")
    world.clock.advance(1)
    assert await directory.may_write("ann", "bob")


async def test_an_api_key_for_nobody_is_not_bound_by_privacy(world: World) -> None:
    await world.privacy("bob", write=NOBODY, add_to_channels=NOBODY)
    assert await world.directory.may_add("", "bob")
    assert not await world.directory.may_add("", "nobody")


async def test_a_change_during_a_look_up_is_not_missed(world: World) -> None:
    directory, store = world.directory, world.store
    plain_block = store.block

    async def slow_block(user_id: str, other_id: str) -> BlockRecord | None:
        found = await plain_block(user_id, other_id)
        if (user_id, other_id) == ("bob", "ann") and found is None:
            await world.put("bob", BlockRecord("bob", "ann", START_US))
        return found

    store.block = slow_block  # type: ignore[method-assign]
    assert await directory.may_write("ann", "bob")  # asked before the block
    assert not await directory.may_write("ann", "bob")
