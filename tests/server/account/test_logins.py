"""Signing up, logging in, passwords, and those who guess them."""

from __future__ import annotations

import asyncio
from typing import Any

from chinwag.account.v1 import account_service_pb2
from chinwag.common.v1 import close_pb2
from chinwag_server.account.store import StoreUnavailable
from tests.server.account.conftest import StartRules
from tests.server.account.rules import PASSWORD, Rules, refused

# Requests are made of dictionaries, which the stubs do not know.
pb: Any = account_service_pb2


async def test_sign_up_and_log_in(rules: Rules) -> None:
    ada = await rules.sign_up("ada", display_name="Ada L.")
    me = await ada.call("GetMe")
    assert (me.user.id, me.user.username, me.user.display_name) == (ada.id, "ada", "Ada L.")
    assert me.has_password
    assert me.device.id == ada.tokens.device_id
    assert me.device.current
    assert me.device.last_address == "192.0.2.1"
    phone = await rules.log_in("ada")
    assert phone.id == ada.id
    assert phone.tokens.device_id != ada.tokens.device_id
    assert (await phone.call("GetMe")).user == me.user


async def test_a_name_is_taken_once(rules: Rules) -> None:
    await rules.sign_up("ada")
    assert await refused(rules.sign_up("ada")) == "USERNAME_TAKEN"
    outcomes = await asyncio.gather(
        *(rules.sign_up("bob") for _ in range(10)), return_exceptions=True
    )
    assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1


async def test_bad_names_and_passwords(rules: Rules) -> None:
    for name in ("", "ab", "Ada", "-ada", "a" * 33, "ada\n", "ädä"):
        assert await refused(rules.sign_up(name)) == "INVALID_FIELD", name
    for password in ("", "short 7", "x" * 257):
        assert await refused(rules.sign_up("ada", password)) == "INVALID_FIELD"
    assert await refused(rules.sign_up("ada", display_name=" Ada")) == "INVALID_FIELD"
    # 256 characters, of four bytes each.
    await rules.sign_up("ada", "\N{GRINNING FACE}" * 256)
    await rules.log_in("ada", "\N{GRINNING FACE}" * 256)


async def test_closed_sign_up(start_rules: StartRules) -> None:
    rules = await start_rules(account__open_signup=False)
    assert await refused(rules.sign_up("ada")) == "DISABLED"


async def test_a_repeated_sign_up_gives_the_same_account(rules: Rules) -> None:
    first = await rules.sign_up("ada", request_id="r1")
    rules.clock.advance(30)
    again = await rules.sign_up("ada", request_id="r1")
    assert again.id == first.id
    assert again.tokens.device_id == first.tokens.device_id
    assert again.tokens.refresh_token == first.tokens.refresh_token
    assert again.tokens.access_token != first.tokens.access_token
    assert await refused(rules.sign_up("ada", request_id="r2")) == "USERNAME_TAKEN"
    # It proves the password like any login, and the content has to be the same.
    assert await refused(rules.sign_up("ada", "other password", request_id="r1")) == (
        "CREDENTIALS_INVALID"
    )
    assert await refused(rules.sign_up("ada", display_name="A", request_id="r1")) == "ID_REUSED"


async def test_repeats_at_the_same_time(rules: Rules) -> None:
    people = await asyncio.gather(*(rules.sign_up("ada", request_id="r1") for _ in range(5)))
    assert len({person.tokens.refresh_token for person in people}) == 1
    logins = await asyncio.gather(*(rules.log_in("ada", request_id="r2") for _ in range(5)))
    assert len({person.tokens.refresh_token for person in logins}) == 1
    assert len((await people[0].call("ListDevices")).devices) == 2


async def test_a_repeated_login_after_a_refresh_is_a_new_one(rules: Rules) -> None:
    await rules.sign_up("ada")
    first = await rules.log_in("ada", request_id="r1")
    again = await rules.log_in("ada", request_id="r1")
    assert again.tokens.device_id == first.tokens.device_id
    request = pb.RefreshTokenRequest(
        refresh_token=first.tokens.refresh_token, device_id=first.tokens.device_id
    )
    await rules.call("RefreshToken", request)
    third = await rules.log_in("ada", request_id="r1")
    assert third.tokens.device_id != first.tokens.device_id
    fourth = await rules.log_in("ada", request_id="r1")
    assert fourth.tokens.device_id == third.tokens.device_id


async def test_wrong_name_and_wrong_password_are_one(rules: Rules) -> None:
    await rules.sign_up("ada")
    await rules.backend(
        "UpsertUsers", pb.UpsertUsersRequest(users=[{"id": "x", "username": "bot"}])
    )
    for name, password in (("ada", "wrong"), ("nobody", PASSWORD), ("bot", PASSWORD), ("A!", "x")):
        assert await refused(rules.log_in(name, password)) == "CREDENTIALS_INVALID"


async def test_a_flood_of_guesses(start_rules: StartRules) -> None:
    rules = await start_rules(account__login_failures=5, account__login_window_s=60)
    await rules.sign_up("ada")

    async def guess(name: str, address: str) -> str:
        request = pb.LogInRequest(username=name, password="wrong")
        return await refused(rules.call("LogIn", request, address=address))

    # Many at once guess no more than many in turn.
    reasons = await asyncio.gather(*(guess("ada", f"192.0.2.{n}") for n in range(20)))
    assert sorted(set(reasons)) == ["CREDENTIALS_INVALID", "LOGIN_THROTTLED"]
    assert reasons.count("CREDENTIALS_INVALID") == 5
    # Nor does the right one tell that it is right.
    assert await refused(rules.log_in("ada")) == "LOGIN_THROTTLED"
    # An address is held back whatever the name; the loopback is exempt.
    for number in range(5):
        assert await guess(f"user{number}", "198.51.100.1") == "CREDENTIALS_INVALID"
    assert await guess("another", "198.51.100.1") == "LOGIN_THROTTLED"
    for number in range(10):
        assert await guess(f"name{number}", "127.0.0.1") == "CREDENTIALS_INVALID"
    # Names that there are not are held back like those that there are.
    for _ in range(5):
        assert await guess("nobody", "127.0.0.1") == "CREDENTIALS_INVALID"
    assert await guess("nobody", "127.0.0.1") == "LOGIN_THROTTLED"
    rules.clock.advance(61)
    await rules.log_in("ada")


async def test_a_success_forgives(start_rules: StartRules) -> None:
    rules = await start_rules(account__login_failures=3)
    await rules.sign_up("ada")
    for _ in range(5):
        for _ in range(2):
            assert await refused(rules.log_in("ada", "wrong")) == "CREDENTIALS_INVALID"
            rules.clock.advance(1)
        request = pb.LogInRequest(username="ada", password=PASSWORD)
        await rules.call("LogIn", request, address="127.0.0.1")
        rules.clock.advance(1000)


async def test_the_queue_of_passwords_is_bounded(start_rules: StartRules) -> None:
    rules = await start_rules(account__argon2_concurrency=1, account__argon2_queue=2)
    await rules.sign_up("ada")
    logins = [rules.log_in("ada") for _ in range(10)]
    outcomes = await asyncio.gather(*logins, return_exceptions=True)
    reasons = [getattr(outcome, "reason", "ok") for outcome in outcomes]
    assert set(reasons) == {"ok", "OVERLOADED"}
    # They did not count as guesses.
    await rules.log_in("ada")


async def test_changing_the_password(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    phone, tablet = await rules.log_in("ada"), await rules.log_in("ada")
    request = pb.ChangePasswordRequest(
        current_password=PASSWORD, new_password="another one", request_id="c1"
    )
    assert (await ada.call("ChangePassword", request)).revoked_device_count == 2
    assert (await ada.call("ChangePassword", request)).revoked_device_count == 2
    for gone in (phone, tablet):
        assert await gone.refused("GetMe") == "SESSION_REVOKED"
    assert {
        (ada.id, gone.tokens.device_id, close_pb2.CLOSE_REASON_SESSION_REVOKED)
        for gone in (phone, tablet)
    } == set(rules.chat.ended)
    await ada.call("GetMe")
    assert await refused(rules.log_in("ada")) == "CREDENTIALS_INVALID"
    await rules.log_in("ada", "another one")
    wrong = pb.ChangePasswordRequest(current_password=PASSWORD, new_password="a third one")
    assert await ada.refused("ChangePassword", wrong) == "CREDENTIALS_INVALID"
    assert (await rules.events(ada.id))[-4:] == [
        "device_revoked",
        "device_revoked",
        "password_changed",
        "device_added",
    ]


async def test_keeping_the_other_devices(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    phone = await rules.log_in("ada")
    request = pb.ChangePasswordRequest(
        current_password=PASSWORD, new_password="another one", keep_other_devices=True
    )
    assert (await ada.call("ChangePassword", request)).revoked_device_count == 0
    await phone.call("GetMe")


async def test_a_password_hash_grows_with_the_settings(start_rules: StartRules) -> None:
    weak = await start_rules(account__argon2_passes=1)
    ada = await weak.sign_up("ada")
    user = await weak.store.user(ada.id)
    assert user is not None
    assert "t=1," in user.password_hash
    strong = await start_rules(account__argon2_passes=2)
    strong.room.store = weak.store
    strong.room.users.store = strong.room.names._store = weak.store
    strong.room.requests._store = strong.room.sessions._store = weak.store
    await strong.log_in("ada")
    user = await weak.store.user(ada.id)
    assert user is not None
    assert "t=2," in user.password_hash


async def test_no_secret_shows(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    user = await rules.store.user(ada.id)
    session = await rules.store.session(ada.id, ada.tokens.device_id)
    assert user is not None
    assert session is not None
    [key] = await rules.store.signing_keys()
    for thing in (user, session, key, rules.room, rules.room.keys, rules.room.keys.at(0)):
        text = repr(thing)
        assert user.password_hash not in text
        assert repr(session.salt) not in text
        assert repr(key.private) not in text
        assert "Ed25519PrivateKey" not in text


async def test_a_device_limit(start_rules: StartRules) -> None:
    rules = await start_rules(limits__user_devices=2)
    ada = await rules.sign_up("ada")
    await rules.log_in("ada")
    assert await refused(rules.log_in("ada")) == "DEVICE_LIMIT"
    await ada.call("LogOut")
    await rules.log_in("ada")


async def test_a_sign_up_that_a_crash_cut_short_goes_on(rules: Rules) -> None:
    store: Any = rules.store
    plain = store.commit, store.delete_name

    async def die(*_: object) -> None:
        raise StoreUnavailable("the disk is full")

    store.commit = store.delete_name = die
    assert await refused(rules.sign_up("ada", request_id="r1")) == "STORAGE_UNAVAILABLE"
    store.commit, store.delete_name = plain
    assert await refused(rules.sign_up("ada", request_id="r2")) == "USERNAME_TAKEN"
    await rules.sign_up("ada", request_id="r1")


async def test_a_reserved_name_becomes_free_after_a_crash(rules: Rules) -> None:
    await rules.room.names.reserve("ada", "gone")
    assert await refused(rules.sign_up("ada")) == "USERNAME_TAKEN"
    rules.clock.advance(601)
    await rules.sign_up("ada")
    await rules.room.names.reserve("bob", "gone")
    rules.clock.advance(601)
    await rules.room.repair()
    assert await rules.store.name("bob") is None
