"""Deleting an account: at once for the user, durably for everything else."""

from __future__ import annotations

from typing import Any

from chinwag.account.v1 import account_service_pb2
from chinwag.common.v1 import close_pb2
from chinwag_server.account.records import RelationState
from tests.server.account.conftest import StartRules
from tests.server.account.rules import PASSWORD, Person, Rules, refused

# Requests are made of dictionaries, which the stubs do not know.
pb: Any = account_service_pb2


DELETE = pb.DeleteAccountRequest(password=PASSWORD)


async def people(rules: Rules) -> tuple[Person, Person, Person]:
    ada, bob, cat = [await rules.sign_up(name) for name in ("ada", "bob", "cat")]
    await rules.befriend(ada, bob)
    await ada.call("RequestFriend", pb.RequestFriendRequest(user_id=cat.id))
    await ada.call(
        "UpdateProfile", pb.UpdateProfileRequest(bio="x", update_mask={"paths": ["bio"]})
    )
    await rules.idle()
    return ada, bob, cat


async def test_everything_goes(rules: Rules) -> None:
    ada, bob, cat = await people(rules)
    phone = await rules.log_in("ada")
    assert await ada.refused("DeleteAccount", pb.DeleteAccountRequest()) == "CREDENTIALS_INVALID"
    assert await ada.refused("DeleteAccount", pb.DeleteAccountRequest(password="wrong")) == (
        "CREDENTIALS_INVALID"
    )
    await ada.call("DeleteAccount", DELETE)
    for person in (ada, phone):
        assert await person.refused("GetMe") == "SESSION_REVOKED"
    assert await refused(rules.log_in("ada")) == "CREDENTIALS_INVALID"
    refresh = pb.RefreshTokenRequest(
        refresh_token=phone.tokens.refresh_token, device_id=phone.tokens.device_id
    )
    assert await refused(rules.call("RefreshToken", refresh)) == "SESSION_REVOKED"
    assert rules.chat.ended[-1] == (ada.id, None, close_pb2.CLOSE_REASON_ACCOUNT_DELETED)
    await rules.idle()
    assert rules.chat.forgotten == [(ada.id, True)]
    assert await rules.store.chores(1 << 60, 10) == []
    # The others hear of it as of any end.
    assert not (await bob.call("ListFriends")).friends
    assert not (await cat.call("ListFriendRequests")).requests
    assert (await rules.events(bob.id))[-1] == "friend_removed"
    assert (await rules.events(cat.id))[-1] == "friend_request_closed"
    # Nothing but the id is left.
    seen = (await bob.call("GetUser", pb.GetUserRequest(user_id=ada.id))).user
    assert seen.deleted
    assert [field.name for field, _ in seen.ListFields()] == ["id", "deleted"]
    assert await rules.events(ada.id) == []
    user = await rules.store.user(ada.id)
    assert user is not None
    assert not user.password_hash
    assert not user.profile
    # Nobody reaches it, and it cannot be made again.
    ask = pb.RequestFriendRequest(user_id=ada.id)
    assert await bob.refused("RequestFriend", ask) == "RECIPIENT_UNAVAILABLE"
    assert await rules.room.directory.existing([ada.id, bob.id]) == {bob.id}
    assert not await rules.room.directory.may_write(bob.id, ada.id)
    request = pb.UpsertUsersRequest(users=[{"id": ada.id}])
    [result] = (await rules.backend("UpsertUsers", request)).results
    assert result.HasField("error")
    for name in ("IssueUserToken", "BanUser"):
        about = getattr(pb, f"{name}Request")(user_id=ada.id)
        assert await refused(rules.backend(name, about)) == "USER_NOT_FOUND"
    assert await refused(rules.backend("GetMe", on_behalf_of=ada.id)) == "USER_NOT_FOUND"
    # The name is free.
    new = await rules.sign_up("ada")
    assert new.id != ada.id


async def test_messages_are_kept_if_the_team_says_so(start_rules: StartRules) -> None:
    rules = await start_rules(account__deletion_redacts=False)
    ada = await rules.sign_up("ada")
    await ada.call("DeleteAccount", DELETE)
    await rules.idle()
    assert rules.chat.forgotten == [(ada.id, False)]


async def test_without_a_password(rules: Rules) -> None:
    await rules.backend("UpsertUsers", pb.UpsertUsersRequest(users=[{"id": "a"}, {"id": "b"}]))
    answer = await rules.backend("IssueUserToken", pb.IssueUserTokenRequest(user_id="a"))
    await Person(rules, answer.tokens).call("DeleteAccount")
    await rules.backend("DeleteAccount", on_behalf_of="b")
    ada = await rules.sign_up("ada")
    await rules.backend("DeleteAccount", on_behalf_of=ada.id)
    await rules.idle()
    assert {user_id for user_id, _ in rules.chat.forgotten} == {"a", "b", ada.id}


async def test_a_crash_in_the_middle(rules: Rules) -> None:
    ada, bob, _ = await people(rules)
    rules.chat.broken = True
    await ada.call("DeleteAccount", DELETE)
    await rules.idle()
    assert not rules.chat.forgotten
    await rules.restart()
    rules.chat.broken = False
    rules.clock.advance(31)
    await rules.room.repair()
    assert rules.chat.forgotten == [(ada.id, True)]
    assert await rules.store.chores(1 << 60, 10) == []
    assert (await rules.store.relation(bob.id, ada.id)).state == RelationState.NONE
    await rules.sign_up("ada")


async def test_guessing_by_deleting_is_throttled(start_rules: StartRules) -> None:
    rules = await start_rules(account__login_failures=3)
    ada = await rules.sign_up("ada")
    for _ in range(3):
        wrong = pb.DeleteAccountRequest(password="wrong")
        assert await ada.refused("DeleteAccount", wrong) == "CREDENTIALS_INVALID"
    assert await ada.refused("DeleteAccount", DELETE) == "LOGIN_THROTTLED"
    assert await refused(rules.log_in("ada")) == "LOGIN_THROTTLED"
