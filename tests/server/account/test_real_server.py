"""Accounts through the real server: sockets, SQLite, and the chat room beside them."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from typing import Any

import pytest
from grpc import StatusCode

from chinwag.account.v1 import account_service_pb2, user_pb2
from chinwag.account.v1 import account_service_pb2_grpc as account_grpc
from chinwag.chat.v1 import chat_service_pb2, connect_pb2
from chinwag.chat.v1 import chat_service_pb2_grpc as chat_grpc
from chinwag.common.v1 import close_pb2
from chinwag_server.account.bootstrap import create_api_key
from tests.server.serving import Served, bearer, refusal

# Requests are made of dictionaries, which the stubs do not know.
pb: Any = account_service_pb2
chat_pb: Any = chat_service_pb2
frames: Any = connect_pb2


PASSWORD = "correct horse"
SCOPES = ["users:read", "users:write", "tokens:issue", "bans:write", "keys:write"]


class Client:
    """Stubs over one connection."""

    def __init__(self, server: Served) -> None:
        channel = server.channel()
        self.account: Any = account_grpc.AccountServiceStub(channel)
        self.chat: Any = chat_grpc.ChatServiceStub(channel)

    async def sign_up(self, name: str) -> user_pb2.Tokens:
        answer = await self.account.SignUp(pb.SignUpRequest(username=name, password=PASSWORD))
        tokens: user_pb2.Tokens = answer.tokens
        return tokens


@pytest.fixture
def client(server: Served) -> Client:
    return Client(server)


def auth(tokens: user_pb2.Tokens) -> Any:
    return bearer(tokens.access_token)


def uuid7() -> str:
    """A UUIDv7 of now (RFC 9562)."""
    raw = bytearray(int(time.time() * 1000).to_bytes(6, "big") + os.urandom(10))
    raw[6], raw[8] = 0x70 | raw[6] & 0x0F, 0x80 | raw[8] & 0x3F
    return str(uuid.UUID(bytes=bytes(raw)))


async def connect(client: Client, tokens: user_pb2.Tokens, **subscriptions: Any) -> Any:
    """A device's stream that has said hello."""
    call = client.chat.Connect(metadata=auth(tokens))
    hello = frames.Hello(protocol_version=1, subscriptions=subscriptions)
    await call.write(frames.ConnectRequest(hello=hello))
    await call.read()
    return call


async def close_of(call: Any) -> close_pb2.Close:
    """The last frame of a stream."""
    while True:
        frame = await asyncio.wait_for(call.read(), 5)
        if frame.HasField("close"):
            close: close_pb2.Close = frame.close
            return close


async def test_a_life(client: Client) -> None:
    tokens = await client.sign_up("ada")
    account = client.account
    me = await account.GetMe(pb.GetMeRequest(), metadata=auth(tokens))
    assert me.user.username == "ada"
    refreshed = await account.RefreshToken(
        pb.RefreshTokenRequest(refresh_token=tokens.refresh_token, device_id=tokens.device_id)
    )
    await account.GetMe(pb.GetMeRequest(), metadata=auth(refreshed.tokens))
    await account.LogOut(pb.LogOutRequest(), metadata=auth(refreshed.tokens))
    call = account.GetMe(pb.GetMeRequest(), metadata=auth(refreshed.tokens))
    assert await refusal(call) == (StatusCode.UNAUTHENTICATED, "SESSION_REVOKED")
    login = pb.LogInRequest(username="ada", password="wrong")
    assert await refusal(account.LogIn(login)) == (
        StatusCode.UNAUTHENTICATED,
        "CREDENTIALS_INVALID",
    )
    assert await refusal(account.GetMe(pb.GetMeRequest())) == (
        StatusCode.UNAUTHENTICATED,
        "TOKEN_REQUIRED",
    )


async def test_a_revoked_device_loses_its_stream(client: Client) -> None:
    tokens = await client.sign_up("ada")
    login = pb.LogInRequest(username="ada", password=PASSWORD)
    phone = (await client.account.LogIn(login)).tokens
    mine, theirs = await connect(client, tokens), await connect(client, phone)
    await client.account.RevokeDevice(
        pb.RevokeDeviceRequest(device_id=phone.device_id), metadata=auth(tokens)
    )
    close = await close_of(theirs)
    assert close.reason == close_pb2.CLOSE_REASON_SESSION_REVOKED
    assert not close.reconnect
    await client.account.LogOut(pb.LogOutRequest(), metadata=auth(tokens))
    assert (await close_of(mine)).reason == close_pb2.CLOSE_REASON_LOGGED_OUT


async def test_account_events_on_a_device_stream(client: Client) -> None:
    tokens = await client.sign_up("ada")
    call = await connect(client, tokens, account=True)

    async def next_event() -> Any:
        while True:
            frame = await asyncio.wait_for(call.read(), 5)
            if frame.account:
                [event] = frame.account
                return event

    assert (await next_event()).HasField("reset")
    bob = await client.sign_up("bob")
    await client.account.RequestFriend(
        pb.RequestFriendRequest(user_id=tokens.user_id), metadata=auth(bob)
    )
    event = await next_event()
    assert event.friend_request_made.request.user.username == "bob"
    call.cancel()


async def test_a_block_stops_direct_messages(client: Client) -> None:
    ada, bob = await client.sign_up("ada"), await client.sign_up("bob")
    create = chat_pb.CreateChannelRequest(kind="CHANNEL_KIND_DIRECT", member_user_ids=[bob.user_id])
    channel = (await client.chat.CreateChannel(create, metadata=auth(ada))).channel
    await client.account.BlockUser(pb.BlockUserRequest(user_id=ada.user_id), metadata=auth(bob))
    for tokens in (ada, bob):
        send = frames.SendMessageRequest(
            client_message_id=uuid7(),
            channel_id=channel.channel.id,
            content={"text": "hi"},
        )
        call = client.chat.SendMessage(send, metadata=auth(tokens))
        assert await refusal(call) == (StatusCode.PERMISSION_DENIED, "RECIPIENT_UNAVAILABLE")


async def test_a_contact_is_who_shares_a_channel(client: Client) -> None:
    ada, bob = await client.sign_up("ada"), await client.sign_up("bob")
    settings = user_pb2.PrivacySettings(find=user_pb2.AUDIENCE_CONTACTS)
    await client.account.UpdatePrivacySettings(
        pb.UpdatePrivacySettingsRequest(settings=settings), metadata=auth(bob)
    )
    find = pb.FindUserRequest(username="bob")
    call = client.account.FindUser(find, metadata=auth(ada))
    assert (await refusal(call))[1] == "USER_NOT_FOUND"
    create = chat_pb.CreateChannelRequest(kind="CHANNEL_KIND_GROUP", member_user_ids=[bob.user_id])
    await client.chat.CreateChannel(create, metadata=auth(ada))
    found = await client.account.FindUser(find, metadata=auth(ada))
    assert found.user.id == bob.user_id


async def test_a_backend(server: Served, client: Client) -> None:
    _, secret = create_api_key(server.node.settings.data_dir, "backend", SCOPES)
    key = bearer(secret)
    answer = await client.account.UpsertUsers(
        pb.UpsertUsersRequest(users=[{"id": f"u{n}"} for n in range(100)]), metadata=key
    )
    assert all(result.created for result in answer.results)
    issued = await client.account.IssueUserToken(
        pb.IssueUserTokenRequest(user_id="u1"), metadata=key
    )
    call = await connect(client, issued.tokens)
    on_behalf = bearer(secret, ("chinwag-on-behalf-of", "u2"))
    assert (await client.account.GetMe(pb.GetMeRequest(), metadata=on_behalf)).user.id == "u2"
    await client.account.BanUser(pb.BanUserRequest(user_id="u1"), metadata=key)
    assert (await close_of(call)).reason == close_pb2.CLOSE_REASON_BANNED
    call = client.account.GetMe(pb.GetMeRequest(), metadata=auth(issued.tokens))
    assert await refusal(call) == (StatusCode.PERMISSION_DENIED, "BANNED")
    ban = pb.BanUserRequest(user_id="u2")
    tokens = await client.sign_up("ada")
    call = client.account.BanUser(ban, metadata=auth(tokens))
    assert await refusal(call) == (StatusCode.PERMISSION_DENIED, "SCOPE_REQUIRED")


async def test_a_deleted_account_leaves_its_channels(client: Client) -> None:
    ada, bob = await client.sign_up("ada"), await client.sign_up("bob")
    create = chat_pb.CreateChannelRequest(kind="CHANNEL_KIND_GROUP", member_user_ids=[bob.user_id])
    channel = (await client.chat.CreateChannel(create, metadata=auth(ada))).channel
    stream = await connect(client, ada)
    await client.account.DeleteAccount(
        pb.DeleteAccountRequest(password=PASSWORD), metadata=auth(ada)
    )
    assert (await close_of(stream)).reason == close_pb2.CLOSE_REASON_ACCOUNT_DELETED
    left: list[str] = []
    for _ in range(200):
        members = await client.chat.ListMembers(
            chat_pb.ListMembersRequest(channel_id=channel.channel.id), metadata=auth(bob)
        )
        left = [member.user_id for member in members.members]
        if len(left) == 1:
            break
        await asyncio.sleep(0.02)
    assert left == [bob.user_id]
    await client.sign_up("ada")


async def test_accounts_outlive_a_restart(start_node: Any) -> None:
    first = await start_node()
    tokens = await Client(first).sign_up("ada")
    await first.close()
    client = Client(await start_node())
    me = await client.account.GetMe(pb.GetMeRequest(), metadata=auth(tokens))
    assert me.user.id == tokens.user_id
    login = pb.LogInRequest(username="ada", password=PASSWORD)
    assert (await client.account.LogIn(login)).user.id == tokens.user_id
