"""A node whose accounts are in PostgreSQL, chosen by its settings."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc import StatusCode, aio

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import account_service_pb2_grpc
from chinwag.chat.v1 import chat_service_pb2_grpc, connect_pb2
from chinwag.common.v1 import close_pb2, stream_pb2
from chinwag_server.account.store import StoreError
from tests.server.account.nodes import comes_to
from tests.server.account.postgres_server import empty_url, shared_server
from tests.server.fixtures import StartNode
from tests.server.serving import Served, bearer, reason

__all__ = ["empty_url", "shared_server"]

PASSWORD = "a long password"
HELLO = stream_pb2.StreamHello(protocol_version=1)


def account(served: Served) -> Any:
    return served.stub(account_service_pb2_grpc.AccountServiceStub)


async def answered(stub: Any, token: Any) -> bool:
    """Whether a session's token is taken; if not, the session was revoked."""
    try:
        await stub.GetMe(pb.GetMeRequest(), metadata=token)
    except aio.AioRpcError as error:
        found = reason(error)
    else:
        return True
    assert found == "SESSION_REVOKED"
    return False


async def test_two_nodes_share_their_people(
    start_node: StartNode, empty_url: str, tmp_path: Any
) -> None:
    settings = {"stores__accounts_url": empty_url, "stores__cluster_id": "ours"}
    first = await start_node(data_dir=tmp_path / "one", **settings)
    second = await start_node(data_dir=tmp_path / "two", **settings)
    await account(first).SignUp(pb.SignUpRequest(username="ann", password=PASSWORD))
    answer = await account(second).LogIn(pb.LogInRequest(username="ann", password=PASSWORD))
    token = (("authorization", f"Bearer {answer.tokens.access_token}"),)
    me = await account(first).GetMe(pb.GetMeRequest(), metadata=token)
    assert me.user.username == "ann"
    with pytest.raises(aio.AioRpcError) as taken:
        await account(second).SignUp(pb.SignUpRequest(username="ann", password=PASSWORD))
    assert taken.value.code() is StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize("adapter", ["wire"], indirect=True)
async def test_what_one_revokes_the_other_refuses_within_ten_seconds(
    start_node: StartNode, empty_url: str, tmp_path: Any
) -> None:
    """Without a bus: nobody tells the other node of it."""
    first, second = [
        await start_node(data_dir=tmp_path / name, stores__accounts_url=empty_url)
        for name in ("one", "two")
    ]
    here, there = account(first), account(second)
    ann = (await here.SignUp(pb.SignUpRequest(username="ann", password=PASSWORD))).tokens
    phone = (await here.LogIn(pb.LogInRequest(username="ann", password=PASSWORD))).tokens
    mine, its = bearer(ann.access_token), bearer(phone.access_token)
    await there.GetMe(pb.GetMeRequest(), metadata=its)
    chats: Any = second.stub(chat_service_pb2_grpc.ChatServiceStub)
    chat = chats.Connect(metadata=its)
    await chat.write(connect_pb2.ConnectRequest(hello=connect_pb2.Hello(protocol_version=1)))
    await chat.read()
    watch: Any = there.Watch(metadata=its)
    await watch.write(pb.WatchRequest(hello=pb.WatchHello(client=HELLO)))
    await watch.read()
    await here.RevokeDevice(pb.RevokeDeviceRequest(device_id=phone.device_id), metadata=mine)
    async with asyncio.timeout(10):
        for stream in (chat, watch):
            while not (frame := await stream.read()).HasField("close"):
                pass
            assert frame.close.reason == close_pb2.CLOSE_REASON_SESSION_REVOKED
        await comes_to(lambda: answered(there, its), False, within_s=10.0)
    await there.GetMe(pb.GetMeRequest(), metadata=mine)


async def test_another_clusters_database_is_refused(
    start_node: StartNode, empty_url: str, tmp_path: Any
) -> None:
    await start_node(
        data_dir=tmp_path / "one", stores__accounts_url=empty_url, stores__cluster_id="ours"
    )
    with pytest.raises(StoreError, match="cluster"):
        await start_node(
            data_dir=tmp_path / "two", stores__accounts_url=empty_url, stores__cluster_id="theirs"
        )
