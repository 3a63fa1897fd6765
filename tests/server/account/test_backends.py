"""What a team's backend does with users: makes them, gives them tokens, bans them."""

from __future__ import annotations

from typing import Any

from google.rpc import error_details_pb2

from chinwag.account.v1 import account_service_pb2, user_pb2
from chinwag.common.v1 import close_pb2
from tests.server.account.conftest import StartRules
from tests.server.account.rules import PASSWORD, Person, Rules, refused

# Requests are made of dictionaries, which the stubs do not know.
pb: Any = account_service_pb2


async def upsert(rules: Rules, *users: dict[str, Any], request_id: str = "") -> Any:
    request = pb.UpsertUsersRequest(users=users, request_id=request_id)
    return (await rules.backend("UpsertUsers", request)).results


def reason(result: Any) -> str:
    info = error_details_pb2.ErrorInfo()
    for packed in result.error.details:
        packed.Unpack(info)
    return info.reason


async def issue(rules: Rules, user_id: str, **fields: Any) -> Person:
    request = pb.IssueUserTokenRequest(user_id=user_id, **fields)
    return Person(rules, (await rules.backend("IssueUserToken", request)).tokens)


async def test_making_and_changing_users(rules: Rules) -> None:
    [made] = await upsert(rules, {"id": "Team|7", "display_name": "Seven", "bio": "b"})
    assert made.created
    assert (made.user.id, made.user.username, made.user.display_name) == ("Team|7", "", "Seven")
    [again] = await upsert(rules, {"id": "Team|7", "display_name": "Seven", "bio": "b"})
    assert not again.created
    assert again.user == made.user  # a repeat changes nothing, the time too
    rules.clock.advance(1)
    [changed] = await upsert(
        rules,
        {
            "id": "Team|7",
            "username": "seven",
            "bio": "",
            "metadata": {"pairs": {"a": "b"}},
            "service_account": True,
            "privacy": {"write": user_pb2.AUDIENCE_NOBODY},
        },
    )
    user = changed.user
    assert (user.username, user.display_name, user.bio) == ("seven", "Seven", "")
    assert dict(user.metadata) == {"a": "b"}
    assert user.service_account
    person = await issue(rules, "Team|7")
    me = await person.call("GetMe")
    assert me.privacy.write == user_pb2.AUDIENCE_NOBODY
    assert not me.has_password
    # Taking the name away makes it free.
    [without] = await upsert(rules, {"id": "Team|7", "username": ""})
    assert without.user.username == ""
    await rules.idle()
    await rules.sign_up("seven")


async def test_each_user_by_itself(rules: Rules) -> None:
    await rules.sign_up("taken")
    results = await upsert(
        rules,
        {"id": "a", "username": "anna"},
        {"id": "b", "username": "taken"},
        {"id": "a", "username": "other"},
        {"id": "c", "username": "anna"},
        {"id": "d"},
    )
    assert [reason(result) for result in results] == [
        "",
        "USERNAME_TAKEN",
        "INVALID_FIELD",
        "USERNAME_TAKEN",
        "",
    ]
    assert [result.created for result in results] == [True, False, False, False, True]
    answer = await rules.backend("GetUsers", pb.GetUsersRequest(user_ids=list("abcd")))
    assert [user.id for user in answer.users] == ["a", "d"]


async def test_a_repeat_of_an_upsert(rules: Rules) -> None:
    first = await upsert(rules, {"id": "a", "bio": "1"}, request_id="u1")
    await upsert(rules, {"id": "a", "bio": "2"}, request_id="u2")
    again = await upsert(rules, {"id": "a", "bio": "1"}, request_id="u1")
    assert again[0].created
    assert again[0].user.bio == "2"  # shown as they are now
    assert first[0].user.bio == "1"
    assert await refused(upsert(rules, {"id": "a", "bio": "3"}, request_id="u1")) == "ID_REUSED"


async def test_a_hundred_at_once(rules: Rules) -> None:
    users = [{"id": f"u{n}", "username": f"user{n}"} for n in range(100)]
    assert all(result.created for result in await upsert(rules, *users))
    assert await refused(upsert(rules, *users, {"id": "more"})) == "INVALID_FIELD"


async def test_issuing_tokens(rules: Rules) -> None:
    await upsert(rules, {"id": "ann"})
    assert await refused(issue(rules, "nobody")) == "USER_NOT_FOUND"
    assert await refused(issue(rules, "ann", device_id="none")) == "DEVICE_NOT_FOUND"
    person = await issue(rules, "ann", device={"name": "d"}, access_lifetime={"seconds": 3600})
    tokens = person.tokens
    assert not tokens.refresh_token
    assert not tokens.HasField("refresh_expire_time")
    rules.clock.advance(3500)
    await person.call("GetMe")
    # Another access token of the same device.
    again = await issue(rules, "ann", device_id=tokens.device_id)
    assert again.tokens.device_id == tokens.device_id
    assert len((await again.call("ListDevices")).devices) == 1
    for seconds in (59, 86_401):
        call = issue(rules, "ann", access_lifetime={"seconds": seconds})
        assert await refused(call) == "INVALID_FIELD"


async def test_the_session_lives_on_with_its_newest_token(start_rules: StartRules) -> None:
    rules = await start_rules(account__refresh_token_s=1000)
    await upsert(rules, {"id": "ann"})
    person = await issue(rules, "ann")
    for _ in range(3):
        rules.clock.advance(800)
        person = await issue(rules, "ann", device_id=person.tokens.device_id)
        await rules.room.repair()
        await person.call("GetMe")
    rules.clock.advance(1001)
    call = issue(rules, "ann", device_id=person.tokens.device_id)
    assert await refused(call) == "DEVICE_NOT_FOUND"


async def test_refresh_tokens_from_a_backend(rules: Rules) -> None:
    await upsert(rules, {"id": "ann"})
    first = (await issue(rules, "ann", with_refresh_token=True)).tokens

    async def refresh(tokens: user_pb2.Tokens) -> user_pb2.Tokens:
        answer = await rules.call(
            "RefreshToken",
            pb.RefreshTokenRequest(refresh_token=tokens.refresh_token, device_id=tokens.device_id),
        )
        new: user_pb2.Tokens = answer.tokens
        return new

    second = await refresh(first)
    issued = await issue(rules, "ann", device_id=first.device_id, with_refresh_token=True)
    # The old one is void, which is no theft.
    assert await refused(refresh(second)) == "TOKEN_INVALID"
    assert await refused(refresh(first)) == "TOKEN_INVALID"
    await refresh(issued.tokens)


async def test_a_repeat_of_an_issue(rules: Rules) -> None:
    await upsert(rules, {"id": "ann"})
    first = await issue(rules, "ann", with_refresh_token=True, request_id="t1")
    rules.clock.advance(10)
    again = await issue(rules, "ann", with_refresh_token=True, request_id="t1")
    assert again.tokens.device_id == first.tokens.device_id
    assert again.tokens.refresh_token == first.tokens.refresh_token
    assert again.tokens.access_token != first.tokens.access_token
    assert await refused(issue(rules, "ann", request_id="t1")) == "ID_REUSED"
    await rules.call(
        "RefreshToken",
        pb.RefreshTokenRequest(
            refresh_token=first.tokens.refresh_token, device_id=first.tokens.device_id
        ),
    )
    third = await issue(rules, "ann", with_refresh_token=True, request_id="t1")
    assert third.tokens.device_id != first.tokens.device_id


async def test_a_ban(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    ends = {"seconds": rules.clock.time_us() // 1_000_000 + 100}
    request = pb.BanUserRequest(user_id=ada.id, reason="spam", expire_time=ends, request_id="b1")
    ban = (await rules.backend("BanUser", request)).ban
    assert (ban.user_id, ban.reason, ban.expire_time.seconds) == (ada.id, "spam", ends["seconds"])
    assert ban.api_key_id in rules.secret
    assert rules.chat.ended == [(ada.id, None, close_pb2.CLOSE_REASON_BANNED)]
    assert await ada.refused("GetMe") == "BANNED"
    assert await refused(rules.log_in("ada")) == "BANNED"
    assert await refused(rules.log_in("ada", "wrong")) == "CREDENTIALS_INVALID"
    refresh = pb.RefreshTokenRequest(
        refresh_token=ada.tokens.refresh_token, device_id=ada.tokens.device_id
    )
    assert await refused(rules.call("RefreshToken", refresh)) == "BANNED"
    assert await refused(issue(rules, ada.id)) == "BANNED"
    assert await refused(rules.backend("GetMe", on_behalf_of=ada.id)) == "BANNED"
    [listed] = (await rules.backend("ListBans")).bans
    assert listed == ban
    assert (await rules.backend("BanUser", request)).ban == ban
    # Sessions stay, and work again after it.
    rules.clock.advance(101)
    await ada.call("GetMe")
    await rules.call("RefreshToken", refresh)
    assert not (await rules.backend("ListBans")).bans


async def test_unban(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    await rules.backend("BanUser", pb.BanUserRequest(user_id=ada.id))
    await rules.backend("BanUser", pb.BanUserRequest(user_id=ada.id, reason="other"))
    [ban] = (await rules.backend("ListBans")).bans
    assert (ban.reason, ban.HasField("expire_time")) == ("other", False)
    for _ in range(2):
        await rules.backend("UnbanUser", pb.UnbanUserRequest(user_id=ada.id))
    await ada.call("GetMe")
    for name in ("BanUser", "UnbanUser"):
        request = getattr(pb, f"{name}Request")(user_id="nobody")
        assert await refused(rules.backend(name, request)) == "USER_NOT_FOUND"
    past = pb.BanUserRequest(user_id=ada.id, expire_time={"seconds": 5})
    assert await refused(rules.backend("BanUser", past)) == "INVALID_FIELD"


async def test_bans_in_pages(rules: Rules) -> None:
    await upsert(rules, *({"id": f"u{n}"} for n in range(5)))
    for number in range(5):
        rules.clock.advance(1)
        await rules.backend("BanUser", pb.BanUserRequest(user_id=f"u{number}"))
    first = await rules.backend("ListBans", pb.ListBansRequest(page_size=3))
    rest = await rules.backend("ListBans", pb.ListBansRequest(page_token=first.next_page_token))
    found = [ban.user_id for ban in (*first.bans, *rest.bans)]
    assert found == ["u4", "u3", "u2", "u1", "u0"]


async def test_who_may_call(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    # A user's token calls no backend's method; a key calls none without its scope.
    for name, request in (
        ("UpsertUsers", pb.UpsertUsersRequest(users=[{"id": "x"}])),
        ("IssueUserToken", pb.IssueUserTokenRequest(user_id=ada.id)),
        ("BanUser", pb.BanUserRequest(user_id=ada.id)),
        ("UnbanUser", pb.UnbanUserRequest(user_id=ada.id)),
        ("ListBans", pb.ListBansRequest()),
        ("CreateApiKey", pb.CreateApiKeyRequest(name="x", scopes=["users:read"])),
        ("ListApiKeys", pb.ListApiKeysRequest()),
        ("RevokeApiKey", pb.RevokeApiKeyRequest(api_key_id="x")),
    ):
        assert await ada.refused(name, request) == "SCOPE_REQUIRED", name
        key = await rules.api_key("messages:write")
        assert await refused(rules.call(name, request, token=key)) == "SCOPE_REQUIRED", name
        assert await refused(rules.call(name, request)) == "TOKEN_REQUIRED"
    change = pb.ChangePasswordRequest(current_password=PASSWORD, new_password="new password")
    for name, request in (("LogOut", pb.LogOutRequest()), ("ChangePassword", change)):
        call = rules.backend(name, request, on_behalf_of=ada.id)
        assert await refused(call) == "SCOPE_REQUIRED"
    assert await refused(rules.backend("GetMe")) == "USER_REQUIRED"
    assert await refused(rules.backend("GetMe", on_behalf_of="nobody")) == "USER_NOT_FOUND"
    assert (await rules.backend("GetMe", on_behalf_of=ada.id)).user.username == "ada"
    answer = await rules.backend("GetMe", on_behalf_of=ada.id)
    assert not answer.HasField("device")
    # On behalf of a user a device is revoked by the backend.
    device_id = ada.tokens.device_id
    request = pb.RevokeDeviceRequest(device_id=device_id)
    await rules.backend("RevokeDevice", request, on_behalf_of=ada.id)
    assert await ada.refused("GetMe") == "SESSION_REVOKED"
