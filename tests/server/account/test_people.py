"""Profiles, finding people, privacy."""

from __future__ import annotations

import asyncio
from typing import Any

from chinwag.account.v1 import account_service_pb2, user_pb2
from tests.server.account.rules import Rules, refused

# Requests are made of dictionaries, which the stubs do not know.
pb: Any = account_service_pb2


def update(*paths: str, **fields: object) -> Any:
    request_id = str(fields.pop("request_id", ""))
    return pb.UpdateProfileRequest(
        update_mask={"paths": paths},
        request_id=request_id,
        **fields,
    )


async def test_a_profile_changes(rules: Rules) -> None:
    ada = await rules.sign_up("ada", display_name="Ada")
    before = (await ada.call("GetMe")).user
    answer = await ada.call(
        "UpdateProfile",
        update("bio", "metadata", bio="counts", metadata={"team": "x"}, display_name="ignored"),
    )
    user = answer.user
    assert (user.bio, dict(user.metadata), user.display_name) == ("counts", {"team": "x"}, "Ada")
    assert user.update_time.ToMicroseconds() > before.update_time.ToMicroseconds()
    assert user.create_time == before.create_time
    # Empty: the username is shown.
    user = (await ada.call("UpdateProfile", update("display_name"))).user
    assert (user.display_name, user.bio) == ("ada", "counts")
    user = (await ada.call("UpdateProfile", update("metadata"))).user
    assert not user.metadata
    for bad in (
        pb.UpdateProfileRequest(bio="x"),
        update("password"),
        update("bio", bio="x" * 501),
        update("avatar_url", avatar_url="http://x/y"),
        update("metadata", metadata={"": "x"}),
    ):
        assert await ada.refused("UpdateProfile", bad) == "INVALID_FIELD"


async def test_friends_hear_of_it(rules: Rules) -> None:
    ada, bob, cat = [await rules.sign_up(name) for name in ("ada", "bob", "cat")]
    await rules.befriend(ada, bob)
    await ada.call("UpdateProfile", update("bio", bio="new"))
    await rules.idle()
    assert (await rules.events(ada.id))[-1] == "profile_changed"
    assert (await rules.events(bob.id))[-1] == "profile_changed"
    assert "profile_changed" not in await rules.events(cat.id)
    assert await rules.store.chores(1 << 60, 10) == []


async def test_a_name_changes_hands(rules: Rules) -> None:
    ada, bob = await rules.sign_up("ada"), await rules.sign_up("bob")
    assert await ada.refused("UpdateProfile", update("username", username="bob")) == (
        "USERNAME_TAKEN"
    )
    # Its own name stays when a change is refused.
    assert (await ada.call("GetMe")).user.username == "ada"
    request = update("username", username="ada2", request_id="p1")
    assert (await ada.call("UpdateProfile", request)).user.username == "ada2"
    await rules.idle()
    await bob.call("UpdateProfile", update("username", username="ada"))
    await rules.idle()
    assert (await ada.call("UpdateProfile", request)).user.username == "ada2"
    assert await refused(rules.log_in("bob")) == "CREDENTIALS_INVALID"
    assert (await rules.log_in("ada")).id == bob.id
    assert (await rules.log_in("ada2")).id == ada.id
    # And back again.
    await bob.call("UpdateProfile", update("username", username="bob"))
    await rules.idle()
    assert (await rules.log_in("bob")).id == bob.id
    assert await ada.refused("UpdateProfile", update("username")) == "INVALID_FIELD"


async def test_one_name_wanted_by_many(rules: Rules) -> None:
    people = [await rules.sign_up(f"user{number}") for number in range(5)]
    outcomes = await asyncio.gather(
        *(person.call("UpdateProfile", update("username", username="star")) for person in people),
        return_exceptions=True,
    )
    assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
    await rules.idle()
    holder = await rules.room.names.find("star")
    assert holder is not None
    names = sorted([(await person.call("GetMe")).user.username for person in people])
    assert names.count("star") == 1
    # Every name that somebody has is theirs, and can log them in.
    for name in names:
        await rules.log_in(name)


async def test_reading_users(rules: Rules) -> None:
    ada, bob = await rules.sign_up("ada"), await rules.sign_up("bob")
    seen = await ada.call("GetUser", pb.GetUserRequest(user_id=bob.id))
    assert (seen.user.username, seen.relation) == ("bob", user_pb2.RELATION_NONE)
    seen = await ada.call("GetUser", pb.GetUserRequest(user_id=ada.id))
    assert seen.relation == user_pb2.RELATION_SELF
    answer = await ada.call("GetUsers", pb.GetUsersRequest(user_ids=[bob.id, "nobody", ada.id]))
    assert [user.id for user in answer.users] == [bob.id, ada.id]
    answer = await rules.backend("GetUser", pb.GetUserRequest(user_id=bob.id))
    assert answer.relation == user_pb2.RELATION_NONE
    twice = pb.GetUsersRequest(user_ids=[bob.id, bob.id])
    assert await ada.refused("GetUsers", twice) == "INVALID_FIELD"


async def test_finding(rules: Rules) -> None:
    ada, bob = await rules.sign_up("ada"), await rules.sign_up("bob")
    find = pb.FindUserRequest(username="bob")
    assert (await ada.call("FindUser", find)).user.id == bob.id
    for name in ("bo", "BOB", "nobody"):
        assert await ada.refused("FindUser", pb.FindUserRequest(username=name)) == "USER_NOT_FOUND"

    async def let(audience: user_pb2.Audience.ValueType) -> None:
        settings = user_pb2.PrivacySettings(find=audience)
        await bob.call("UpdatePrivacySettings", pb.UpdatePrivacySettingsRequest(settings=settings))

    await let(user_pb2.AUDIENCE_CONTACTS)
    assert await ada.refused("FindUser", find) == "USER_NOT_FOUND"
    rules.chat.sharing.add(frozenset((ada.id, bob.id)))
    await ada.call("FindUser", find)
    await let(user_pb2.AUDIENCE_FRIENDS)
    assert await ada.refused("FindUser", find) == "USER_NOT_FOUND"
    await rules.befriend(ada, bob)
    assert (await ada.call("FindUser", find)).relation == user_pb2.RELATION_FRIEND
    await let(user_pb2.AUDIENCE_NOBODY)
    assert await ada.refused("FindUser", find) == "USER_NOT_FOUND"
    # One finds oneself, and a backend on behalf of nobody is not bound.
    await bob.call("FindUser", find)
    assert (await rules.backend("FindUser", find)).user.id == bob.id
    assert await refused(rules.backend("FindUser", find, on_behalf_of=ada.id)) == "USER_NOT_FOUND"


async def test_privacy_settings(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    before = (await ada.call("GetPrivacySettings")).settings
    assert before == (await ada.call("GetMe")).privacy
    assert user_pb2.AUDIENCE_UNSPECIFIED not in [value for _, value in before.ListFields()]
    assert len(before.ListFields()) == len(before.DESCRIPTOR.fields)
    request = pb.UpdatePrivacySettingsRequest(
        settings={"write": user_pb2.AUDIENCE_FRIENDS}, request_id="s1"
    )
    after = (await ada.call("UpdatePrivacySettings", request)).settings
    assert (after.write, after.find) == (user_pb2.AUDIENCE_FRIENDS, before.find)
    assert (await rules.events(ada.id))[-1] == "privacy_changed"
    assert (await ada.call("UpdatePrivacySettings", request)).settings == after
    assert (await rules.events(ada.id)).count("privacy_changed") == 1


async def test_asking_for_friendship_can_be_forbidden(rules: Rules) -> None:
    ada, bob = await rules.sign_up("ada"), await rules.sign_up("bob")
    request = pb.RequestFriendRequest(user_id=bob.id)
    for audience in (user_pb2.AUDIENCE_NOBODY, user_pb2.AUDIENCE_FRIENDS):
        await bob.call(
            "UpdatePrivacySettings",
            pb.UpdatePrivacySettingsRequest(settings={"request_friend": audience}),
        )
        assert await ada.refused("RequestFriend", request) == "RECIPIENT_UNAVAILABLE"
    # Who has been asked accepts all the same.
    await bob.call("RequestFriend", pb.RequestFriendRequest(user_id=ada.id))
    assert (await ada.call("RequestFriend", request)).relation == user_pb2.RELATION_FRIEND


async def test_what_chat_asks(rules: Rules) -> None:
    ada, bob = await rules.sign_up("ada"), await rules.sign_up("bob")
    directory = rules.room.directory
    assert await directory.existing([ada.id, "nobody"]) == {ada.id}
    assert await directory.may_write(ada.id, bob.id)
    assert not await directory.may_write(ada.id, "nobody")
    await bob.call(
        "UpdatePrivacySettings",
        pb.UpdatePrivacySettingsRequest(settings={"write": user_pb2.AUDIENCE_FRIENDS}),
    )
    assert not await directory.may_write(ada.id, bob.id)
    assert await directory.may_add(ada.id, bob.id)
    await rules.befriend(ada, bob)
    assert await directory.may_write(ada.id, bob.id)
    await ada.call("RemoveFriend", pb.RemoveFriendRequest(user_id=bob.id))
    assert not await directory.may_write(ada.id, bob.id)
