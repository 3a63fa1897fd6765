"""Refreshing, reuse of refresh tokens, devices, logging out."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from chinwag.account.v1 import account_service_pb2, events_pb2, user_pb2
from chinwag.common.v1 import close_pb2
from tests.server.account.conftest import StartRules
from tests.server.account.rules import Person, Rules, refused

# Requests are made of dictionaries, which the stubs do not know.
pb: Any = account_service_pb2


DAY_S = 86_400


async def refresh(rules: Rules, tokens: user_pb2.Tokens, **changes: str) -> user_pb2.Tokens:
    fields: dict[str, Any] = {
        "refresh_token": tokens.refresh_token,
        "device_id": tokens.device_id,
    }
    answer = await rules.call("RefreshToken", pb.RefreshTokenRequest(**(fields | changes)))
    new: user_pb2.Tokens = answer.tokens
    return new


async def test_a_refresh_gives_the_next_pair(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    first = ada.tokens
    rules.clock.advance(1000)
    assert await ada.refused("GetMe") == "TOKEN_EXPIRED"
    second = await refresh(rules, first)
    assert second.refresh_token != first.refresh_token
    assert second.device_id == first.device_id
    ada.tokens = second
    await ada.call("GetMe")
    assert (second.refresh_expire_time.seconds - first.refresh_expire_time.seconds) == 1000


async def test_a_lost_answer_comes_again(rules: Rules) -> None:
    first = (await rules.sign_up("ada")).tokens
    second = await refresh(rules, first)
    rules.clock.advance(59)
    assert await refresh(rules, first) == second
    third = await refresh(rules, second)
    assert third.refresh_token not in (first.refresh_token, second.refresh_token)
    # Now the new one was used: the old one again is a theft.
    assert await refused(refresh(rules, first)) == "REFRESH_TOKEN_REUSED"
    for tokens in (first, second, third):
        assert await refused(refresh(rules, tokens)) == "SESSION_REVOKED"


async def test_a_reuse_after_a_while_revokes_the_session(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    phone = await rules.log_in("ada")
    second = await refresh(rules, phone.tokens)
    rules.clock.advance(61)
    assert await refused(refresh(rules, phone.tokens)) == "REFRESH_TOKEN_REUSED"
    phone.tokens = second
    assert await phone.refused("GetMe") == "SESSION_REVOKED"
    assert await refused(refresh(rules, second)) == "SESSION_REVOKED"
    assert rules.chat.ended == [(ada.id, second.device_id, close_pb2.CLOSE_REASON_SESSION_REVOKED)]
    event = events_pb2.AccountEvent.FromString(
        (await rules.store.events(ada.id, 0, 100))[-1].payload
    )
    assert event.device_revoked.reason == (events_pb2.DEVICE_REVOKE_REASON_REFRESH_TOKEN_REUSED)
    await ada.call("GetMe")


async def test_a_very_old_token_is_a_reuse_too(rules: Rules) -> None:
    tokens = first = (await rules.sign_up("ada")).tokens
    for _ in range(10):
        tokens = await refresh(rules, tokens)
    assert await refused(refresh(rules, first)) == "REFRESH_TOKEN_REUSED"
    assert await refused(refresh(rules, tokens)) == "SESSION_REVOKED"


async def test_many_refreshes_at_once(rules: Rules) -> None:
    first = (await rules.sign_up("ada")).tokens
    pairs = await asyncio.gather(*(refresh(rules, first) for _ in range(20)))
    assert all(pair == pairs[0] for pair in pairs)
    await refresh(rules, pairs[0])


async def test_a_race_of_old_and_new(rules: Rules) -> None:
    first = (await rules.sign_up("ada")).tokens
    second = await refresh(rules, first)
    outcomes = await asyncio.gather(
        refresh(rules, second), refresh(rules, first), return_exceptions=True
    )
    # The one that came second is the theft, whichever it is: nobody has two good pairs.
    reasons = {getattr(outcome, "reason", "ok") for outcome in outcomes}
    assert reasons == {"ok", "REFRESH_TOKEN_REUSED"}


async def test_a_used_token_on_another_device_is_a_theft(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    phone = await rules.log_in("ada")
    # The newest one is not: nothing happens.
    call = refresh(rules, phone.tokens, device_id=ada.tokens.device_id)
    assert await refused(call) == "TOKEN_INVALID"
    second = await refresh(rules, phone.tokens)
    call = refresh(rules, phone.tokens, device_id=ada.tokens.device_id)
    assert await refused(call) == "REFRESH_TOKEN_REUSED"
    assert await refused(refresh(rules, second)) == "SESSION_REVOKED"
    await ada.call("GetMe")


async def test_forged_refresh_tokens_revoke_nothing(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    await rules.sign_up("bob")
    phone = await rules.log_in("ada")
    tokens = ada.tokens
    user, device, number, mac = tokens.refresh_token.removeprefix("cwr_").split(".")
    name = f"{user}.{device}"
    for forged in (
        "x",
        "cwr_",
        "cwr_...",
        f"cwr_{name}.{number}.",
        f"cwr_{name}.1.{mac}",
        f"cwr_{name}.-1.{mac}",
        f"cwr_{name}.{'9' * 30}.{mac}",
        f"cwr_{name}.0.{mac[:-1]}",
        f"cwr_{name}.0.{'A' * len(mac)}",
        f"{name}.{number}.{mac}",
        f"cwr_{user}.{number}.{mac}",
        tokens.access_token[:512],
    ):
        assert await refused(refresh(rules, tokens, refresh_token=forged)) == "TOKEN_INVALID"
    # Of another device.
    changed = refresh(rules, tokens, device_id=phone.tokens.device_id)
    assert await refused(changed) == "TOKEN_INVALID"
    assert await refused(refresh(rules, tokens, device_id="none")) == "TOKEN_INVALID"
    await refresh(rules, tokens)


async def test_a_session_ends_when_it_is_not_refreshed(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    rules.clock.advance(89 * DAY_S)
    phone = await rules.log_in("ada")
    rules.clock.advance(1 * DAY_S)
    assert await refused(refresh(rules, ada.tokens)) == "TOKEN_EXPIRED"
    phone.tokens = await refresh(rules, phone.tokens)
    assert len((await phone.call("ListDevices")).devices) == 1
    await rules.room.repair()
    assert (await rules.events(ada.id))[-1] == "device_revoked"
    assert (ada.id, ada.tokens.device_id) in [ended[:2] for ended in rules.chat.ended]
    assert await refused(refresh(rules, ada.tokens)) == "TOKEN_EXPIRED"


async def test_after_a_restore_newer_tokens_hold(rules: Rules) -> None:
    first = (await rules.sign_up("ada")).tokens
    old = await rules.store.session(first.user_id, first.device_id)
    second = await refresh(rules, first)
    third = await refresh(rules, second)
    user = await rules.store.user(first.user_id)
    assert user is not None
    assert old is not None
    await rules.store.commit(user, [dataclasses.replace(old)])
    fourth = await refresh(rules, third)
    assert await refresh(rules, third) == fourth


async def test_log_out(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    await ada.call("LogOut", pb.LogOutRequest(request_id="o1"))
    assert rules.chat.ended == [(ada.id, ada.tokens.device_id, close_pb2.CLOSE_REASON_LOGGED_OUT)]
    assert await ada.refused("LogOut", pb.LogOutRequest(request_id="o1")) == "SESSION_REVOKED"
    assert await refused(refresh(rules, ada.tokens)) == "SESSION_REVOKED"


async def test_devices(rules: Rules) -> None:
    ada = await rules.sign_up("ada", device={"name": "Ada's laptop", "platform": "PLATFORM_LINUX"})
    people = [ada]
    for number in range(4):
        rules.clock.advance(1)
        people.append(await rules.log_in("ada", device={"name": f"phone {number}"}))
    answer = await ada.call("ListDevices", pb.ListDevicesRequest(page_size=3))
    assert [device.info.name for device in answer.devices] == ["phone 3", "phone 2", "phone 1"]
    rest = await ada.call("ListDevices", pb.ListDevicesRequest(page_token=answer.next_page_token))
    assert [device.info.name for device in rest.devices] == ["phone 0", "Ada's laptop"]
    assert not rest.next_page_token
    assert [device.current for device in rest.devices] == [False, True]
    assert rest.devices[1].info.platform == user_pb2.PLATFORM_LINUX
    for token in ("x", answer.next_page_token[:-4], "bnVsbA"):
        request = pb.ListDevicesRequest(page_token=token)
        assert await ada.refused("ListDevices", request) == "INVALID_PAGE_TOKEN"


async def test_revoking_a_device(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    bob = await rules.sign_up("bob")
    phone = await rules.log_in("ada")

    async def revoke(person: Person, device_id: str) -> None:
        await person.call("RevokeDevice", pb.RevokeDeviceRequest(device_id=device_id))

    assert await refused(revoke(bob, phone.tokens.device_id)) == "DEVICE_NOT_FOUND"
    assert await refused(revoke(ada, "none")) == "DEVICE_NOT_FOUND"
    await revoke(ada, phone.tokens.device_id)
    await revoke(ada, phone.tokens.device_id)
    assert (await rules.events(ada.id)).count("device_revoked") == 1
    assert [device.id for device in (await ada.call("ListDevices")).devices] == [
        ada.tokens.device_id
    ]
    await revoke(ada, ada.tokens.device_id)
    assert await ada.refused("GetMe") == "SESSION_REVOKED"


async def test_activity_is_noted_by_the_hour(rules: Rules) -> None:
    ada = await rules.sign_up("ada")
    rules.clock.advance(2 * 3600)
    ada.tokens = await refresh(rules, ada.tokens)
    for address in ("192.0.2.7", "192.0.2.7", "192.0.2.8"):
        rules.clock.advance(70)
        await ada.call("GetMe", address=address)
        await rules.idle()
    # Not more often than once a minute.
    await ada.call("GetMe", address="192.0.2.9")
    await rules.idle()
    session = await rules.store.session(ada.id, ada.tokens.device_id)
    assert session is not None
    assert session.address == "192.0.2.8"
    assert rules.clock.time_us() - session.active_time_us < 3_600_000_000


@pytest.mark.parametrize("grace_s", [0, 5])
async def test_the_grace_is_a_setting(start_rules: StartRules, grace_s: int) -> None:
    rules = await start_rules(account__refresh_grace_s=grace_s)
    first = (await rules.sign_up("ada")).tokens
    await refresh(rules, first)
    rules.clock.advance(grace_s + 1)
    assert await refused(refresh(rules, first)) == "REFRESH_TOKEN_REUSED"
