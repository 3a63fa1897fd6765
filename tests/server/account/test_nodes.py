"""Nodes that share accounts hear of each other's changes: over the bus in memory, and over real
Redis and PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import events_pb2, user_pb2
from chinwag.common.v1 import close_pb2
from chinwag_server.config.settings import DAY_S
from chinwag_server.mesh.memory_bus import Hub
from tests.server.account.nodes import (
    StartNode,
    at,
    comes_to,
    for_real,
    get_me,
    in_memory,
    other_device,
    revoke,
)
from tests.server.account.postgres_server import empty, shared_server, shared_url
from tests.server.account.rules import PASSWORD, Person, Rules
from tools.engines.redis import Redis

__all__ = ["shared_server", "shared_url"]

REVOKED = close_pb2.CLOSE_REASON_SESSION_REVOKED


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"), password="secret")
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["memory", "real"])
def urls(request: pytest.FixtureRequest) -> tuple[str, str] | None:
    """Of PostgreSQL and Redis; None: in memory."""
    if request.param == "memory":
        return None
    server: Redis = request.getfixturevalue("redis")
    return request.getfixturevalue("shared_url"), server.url


@pytest.fixture
async def start(urls: tuple[str, str] | None, tmp_path: Path) -> AsyncIterator[StartNode]:
    if urls:
        await empty(urls[0])
    async with for_real(tmp_path, *urls) if urls else in_memory(tmp_path, Hub()) as starts:
        yield starts


@pytest.fixture
async def here(start: StartNode) -> Rules:
    return await start()


@pytest.fixture
async def there(here: Rules, start: StartNode) -> Rules:
    """Another node; without audits, as the first."""
    return await start()


async def ended(node: Rules, count: int = 1) -> list[tuple[str, str | None, int]]:
    await node.settle(lambda: len(node.chat.ended) >= count)
    return node.chat.ended


async def test_a_revoked_session(here: Rules, there: Rules) -> None:
    ann = await here.sign_up("ann")
    phone = await other_device(ann, "ann")
    assert await get_me(at(there, phone)) == ""
    await ann.call("RevokeDevice", revoke(phone))
    await comes_to(lambda: get_me(at(there, phone)), "SESSION_REVOKED")
    expected = [(ann.id, phone.tokens.device_id, REVOKED)]
    assert await ended(there) == expected
    assert await get_me(at(there, ann)) == ""
    # What a node hears it does not tell again, and its own it does not hear.
    await at(there, ann).call("LogOut")
    expected.append((ann.id, ann.tokens.device_id, close_pb2.CLOSE_REASON_LOGGED_OUT))
    assert await ended(here, 2) == expected
    assert there.chat.ended == here.chat.ended


async def test_a_changed_password_ends_the_others(here: Rules, there: Rules) -> None:
    ann = await here.sign_up("ann")
    others = [await other_device(ann, "ann") for _ in range(3)]
    assert [await get_me(at(there, other)) for other in others] == [""] * 3
    await ann.call(
        "ChangePassword",
        pb.ChangePasswordRequest(current_password=PASSWORD, new_password="another " + PASSWORD),
    )
    devices = {device_id for _, device_id, _ in await ended(there, 3)}
    assert devices == {other.tokens.device_id for other in others}
    assert [await get_me(at(there, other)) for other in others] == ["SESSION_REVOKED"] * 3


async def test_a_ban_and_its_end(here: Rules, there: Rules) -> None:
    ann = await here.sign_up("ann")
    assert await get_me(at(there, ann)) == ""
    await here.backend("BanUser", pb.BanUserRequest(user_id=ann.id))
    await comes_to(lambda: get_me(at(there, ann)), "BANNED")
    assert await ended(there) == [(ann.id, None, close_pb2.CLOSE_REASON_BANNED)]
    await here.backend("UnbanUser", pb.UnbanUserRequest(user_id=ann.id))
    await comes_to(lambda: get_me(at(there, ann)), "")


async def test_a_deleted_account(here: Rules, there: Rules) -> None:
    ann = await here.sign_up("ann")

    async def exists() -> bool:
        return ann.id in await there.room.directory.existing([ann.id])

    assert await get_me(at(there, ann)) == ""
    assert await exists()
    await ann.call("DeleteAccount", pb.DeleteAccountRequest(password=PASSWORD))
    await comes_to(exists, False)
    await comes_to(lambda: get_me(at(there, ann)), "SESSION_REVOKED")
    assert await ended(there) == [(ann.id, None, close_pb2.CLOSE_REASON_ACCOUNT_DELETED)]


async def test_a_revoked_key(here: Rules, there: Rules) -> None:
    made = await here.backend(
        "CreateApiKey", pb.CreateApiKeyRequest(name="bot", scopes=["users:read"])
    )
    key = Person(there, user_pb2.Tokens(access_token=made.secret))

    async def asked() -> str:
        bans = pb.GetUsersRequest(user_ids=["nobody"])
        try:
            await key.call("GetUsers", bans)
        except Exception as error:
            return str(getattr(error, "reason", error))
        return ""

    assert await asked() == ""
    await here.backend("RevokeApiKey", pb.RevokeApiKeyRequest(api_key_id=made.api_key.id))
    await comes_to(asked, "SESSION_REVOKED")
    assert here.chat.revoked_keys == there.chat.revoked_keys == [made.api_key.id]


async def test_blocks(here: Rules, there: Rules) -> None:
    ann, bob = await here.sign_up("ann"), await there.sign_up("bob")

    async def may() -> tuple[bool, bool]:
        directory = there.room.directory
        return await directory.may_write(ann.id, bob.id), await directory.may_write(bob.id, ann.id)

    assert await may() == (True, True)
    await ann.call("BlockUser", pb.BlockUserRequest(user_id=bob.id))
    await comes_to(may, (False, False))
    await ann.call("UnblockUser", pb.UnblockUserRequest(user_id=bob.id))
    await comes_to(may, (True, True))


async def test_friends_and_privacy(here: Rules, there: Rules) -> None:
    ann, bob = await here.sign_up("ann"), await here.sign_up("bob")

    async def may() -> tuple[bool, bool]:
        directory = there.room.directory
        return await directory.may_write(bob.id, ann.id), await directory.may_add(bob.id, ann.id)

    assert await may() == (True, True)
    friends = user_pb2.PrivacySettings(
        write=user_pb2.AUDIENCE_FRIENDS, add_to_channels=user_pb2.AUDIENCE_FRIENDS
    )
    await ann.call("UpdatePrivacySettings", pb.UpdatePrivacySettingsRequest(settings=friends))
    await comes_to(may, (False, False))
    await here.befriend(ann, bob)
    await comes_to(may, (True, True))
    await bob.call("RemoveFriend", pb.RemoveFriendRequest(user_id=ann.id))
    await comes_to(may, (False, False))


async def test_events_reach_streams_of_other_nodes(here: Rules, there: Rules) -> None:
    ann, bob = await here.sign_up("ann"), await here.sign_up("bob")
    told: list[events_pb2.AccountEvent] = []
    reached: list[str] = []
    there.room.watchers.subscribe(bob.id, "", "", told.append, reached=reached.append)
    await there.settle(lambda: bool(reached))
    before = len(told)
    await ann.call("RequestFriend", pb.RequestFriendRequest(user_id=bob.id))
    await there.settle(lambda: len(told) > before)
    assert told[before].friend_request_made.request.user.id == ann.id
    await bob.call("AcceptFriend", pb.AcceptFriendRequest(user_id=ann.id))
    mask = {"paths": ["display_name"]}
    await ann.call(
        "UpdateProfile",
        pb.UpdateProfileRequest(display_name="Ann", update_mask=mask),  # type: ignore[arg-type]
    )
    await there.settle(lambda: any(event.HasField("profile_changed") for event in told))
    [changed] = [event for event in told if event.HasField("profile_changed")]
    # The event carries the profile as it is: it is not read from an older copy.
    assert changed.profile_changed.user.display_name == "Ann"
    ids = [event.id for event in told]
    assert ids == list(range(ids[0], ids[0] + len(ids)))


async def test_what_may_be_old_hears_of_it(
    here: Rules, start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    monkeypatch.setattr(type(here.store), "changed_elsewhere", lambda _, id_: heard.append(id_))
    there = await start()
    ann = await here.sign_up("ann")
    await there.settle(lambda: ann.id in heard)


async def test_signing_keys_are_shown_by_all(start: StartNode) -> None:
    here = await start(account__signing_key_days=10)
    there = await start(account__signing_key_days=10)

    def keys(node: Rules) -> set[str]:
        return {key.kid for key in node.room.keys.jwks()}

    before = keys(here)
    assert keys(there) == before
    assert len(before) == 1
    here.clock.advance(11 * DAY_S)
    await here.room.keys.refresh()
    assert len(keys(here)) == 2
    await there.settle(lambda: keys(there) == keys(here))


async def test_a_key_that_is_not_known_is_looked_for(here: Rules, there: Rules) -> None:
    keys: Any = there.room.keys
    ann = await here.sign_up("ann")
    # As if the other node had started before this one made the key.
    keys._keys, keys._by_id = [], {}
    assert await get_me(at(there, ann)) == ""
    keys._keys, keys._by_id = [], {}
    there.room.authenticator.changed(ann.id)
    assert await get_me(at(there, ann)) == "TOKEN_INVALID"  # not more than once a second
    there.clock.advance(1)
    assert await get_me(at(there, ann)) == ""
