"""A node whose accounts are in PostgreSQL, chosen by its settings."""

from __future__ import annotations

from typing import Any

import pytest
from grpc import StatusCode, aio

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import account_service_pb2_grpc
from chinwag_server.account.store import StoreError
from tests.server.account.postgres_server import empty_url, shared_server
from tests.server.fixtures import StartNode
from tests.server.serving import Served

__all__ = ["empty_url", "shared_server"]

PASSWORD = "a long password"


def account(served: Served) -> Any:
    return served.stub(account_service_pb2_grpc.AccountServiceStub)


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
