"""Logins, tokens and a team's backend against a real node with real accounts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import chinwag
from chinwag import errors
from chinwag import events as ev
from chinwag.account.v1 import user_pb2
from chinwag.backend import upsert
from chinwag.session import Session
from chinwag_server.account.bootstrap import create_api_key
from tests.sdk.test_client_real import Application
from tests.server.serving import Served

PASSWORD = "correct horse battery"
SCOPES = ("users:read", "users:write", "tokens:issue", "messages:write", "messages:read",
          "channels:write", "channels:read", "events:read", "bans:write")  # fmt: skip


async def test_sign_up_log_in_log_out(server: Served, tmp_path: Path) -> None:
    target = server.target
    first = await chinwag.sign_up(target, "ada", PASSWORD, device_name="one")
    with pytest.raises(errors.AlreadyExists) as taken:
        await chinwag.sign_up(target, "ada", PASSWORD)
    assert taken.value.reason == "USERNAME_TAKEN"
    with pytest.raises(errors.Unauthenticated) as wrong:
        await chinwag.log_in(target, "ada", "wrong password")
    assert wrong.value.reason == "CREDENTIALS_INVALID"
    second = await chinwag.log_in(target, "ada", PASSWORD, device_name="two")
    assert (first.user_id, first.device_id != second.device_id) == (second.user_id, True)
    second.save(tmp_path / "ada.json")
    async with chinwag.connect(session=Session.load(tmp_path / "ada.json")) as client:
        me = await client.account.me()
        assert (me.user.username, me.device.info.name) == ("ada", "two")
        assert {d.info.name async for d in client.account.devices()} == {"one", "two"}
        await client.account.log_out()
        with pytest.raises(errors.ChinwagError):
            async for _event in client.events():
                pass
    with pytest.raises(errors.Unauthenticated):
        async with chinwag.connect(session=Session.load(tmp_path / "ada.json")):
            pass


async def test_a_revoked_device_is_closed_at_once(server: Served) -> None:
    one = await chinwag.sign_up(server.target, "ada", PASSWORD)
    two = await chinwag.log_in(server.target, "ada", PASSWORD)
    async with chinwag.connect(session=one) as first, chinwag.connect(session=two) as second:
        await second.account.revoke_device(one.device_id)
        with pytest.raises(errors.Unauthenticated) as closed:
            async for _event in first.events():
                pass
        assert closed.value.reason == "SESSION_REVOKED"


async def test_an_old_session_is_refreshed(server: Served) -> None:
    session = await chinwag.sign_up(server.target, "ada", PASSWORD)
    old = session.refresh_token
    session.access_token, session.access_expire_time_s = "", 1.0
    async with chinwag.connect(session=session) as client:
        assert (await client.account.me()).user.username == "ada"
    assert session.access_token
    assert session.refresh_token != old


async def test_the_stream_outlives_its_token(start_node: Any) -> None:
    served: Served = await start_node(account__access_token_s=60)
    session = await chinwag.sign_up(served.target, "ada", PASSWORD)
    old = session.refresh_token
    async with chinwag.connect(session=session) as client:
        seen = Application(client)
        group = await client.create_group()
        client._protocol._liveness.renew_in(0.0, client._clock.monotonic())
        client._soon()
        while session.refresh_token == old:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.02)
        await group.send("still here")
        await seen.until(lambda: seen.texts)
        states = [event.connection for event in seen.of(ev.ConnectionChanged)]
        assert ev.Connection.WAITING not in states


async def test_friends_and_profile(server: Served) -> None:
    ada = await chinwag.sign_up(server.target, "ada", PASSWORD)
    bob = await chinwag.sign_up(server.target, "bob", PASSWORD)
    async with chinwag.connect(session=ada) as a, chinwag.connect(session=bob) as b:
        told = Application(b)
        found = await a.account.find("bob")
        assert await a.account.request_friend(found.id, "hi") == user_pb2.RELATION_REQUESTED_BY_ME
        await told.until(
            lambda: [
                e for e in told.of(ev.AccountChanged) if e.event.HasField("friend_request_made")
            ]
        )
        assert [r.user.id async for r in b.account.friend_requests()] == [a.user_id]
        await b.account.accept_friend(a.user_id)
        assert [f.user.id async for f in a.account.friends()] == [b.user_id]
        user = await a.account.update_profile(display_name="Ada L.", metadata={"k": "v"})
        assert (user.display_name, user.username) == ("Ada L.", "ada")
        await b.account.block(a.user_id)
        with pytest.raises(errors.PermissionDenied) as refused:
            await (await a.direct(b.user_id)).send("hello")
        assert refused.value.reason == "RECIPIENT_UNAVAILABLE"
        with pytest.raises(errors.InvalidArgument) as wrong:
            await a.account.update_profile(username="No Spaces")
        assert "username" in wrong.value.fields


async def test_a_backend(start_node: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    served: Served = await start_node(data_dir=data)
    await served.node.stop()
    _, secret = create_api_key(data, "team", SCOPES)
    served = await start_node(data_dir=data)
    async with chinwag.Backend(served.target, secret) as backend:
        made = await backend.upsert_users(
            [upsert("u1", username="one"), upsert("u2"), upsert("u3", username="one")]
        )
        assert [getattr(user, "id", "") for user in made[:2]] == ["u1", "u2"]
        assert isinstance(made[2], errors.ChinwagError)
        tokens = await backend.issue_user_token("u1", device_name="phone")
        group = (await backend.create_group("u2", "team", ["u1"])).channel.id
        async with chinwag.connect(served.target, Session.of(tokens)) as client:
            seen = Application(client)
            await client.caught_up()
            message = await backend.send("u2", group, "on behalf")
            await seen.until(lambda: seen.texts == ["on behalf"])
            assert seen.of(ev.MessageReceived)[0].sender_id == "u2"
        feed = backend.stream_events()
        batch = await anext(feed)
        entries = list(batch.entries)
        while entries[-1].id < message.id:
            batch = await anext(feed)
            entries.extend(batch.entries)
        assert entries[-1].message_sent.content.text == "on behalf"
        await feed.aclose()  # type: ignore[attr-defined]
        again = backend.stream_events(batch.cursor)
        later = await backend.send("u1", group, "later")
        batch = await anext(again)
        while not batch.entries:
            batch = await anext(again)
        assert [entry.id for entry in batch.entries] == [later.id]
        await again.aclose()  # type: ignore[attr-defined]
        await backend.ban("u1", "spam")
        with pytest.raises(errors.PermissionDenied):
            await backend.send("u1", group, "banned")
