"""The registry reads what generated code and the contract say of a method."""

from __future__ import annotations

from typing import Any

import pytest

from chinwag.account.v1 import account_service_pb2, account_service_pb2_grpc
from chinwag.chat.v1 import chat_service_pb2_grpc, connect_pb2
from chinwag.presence.v1 import presence_service_pb2_grpc
from chinwag.push.v1 import push_service_pb2_grpc
from chinwag_server.rpc.registry import Access, Registry
from chinwag_server.rpc.standard import Health, register_reflection
from tests.server.standin import Servicer

CONNECT = "/chinwag.chat.v1.ChatService/Connect"


def everything() -> Registry:
    registry = Registry(raw_methods={CONNECT})
    adders: list[tuple[Any, Any]] = [
        (account_service_pb2_grpc.add_AccountServiceServicer_to_server, Servicer),
        (
            chat_service_pb2_grpc.add_ChatServiceServicer_to_server,
            chat_service_pb2_grpc.ChatServiceServicer,
        ),
        (
            presence_service_pb2_grpc.add_PresenceServiceServicer_to_server,
            presence_service_pb2_grpc.PresenceServiceServicer,
        ),
        (
            push_service_pb2_grpc.add_PushServiceServicer_to_server,
            push_service_pb2_grpc.PushServiceServicer,
        ),
    ]
    for adder, servicer in adders:
        registry.add(adder, servicer())
    Health().register(registry)
    register_reflection(registry, registry.services)
    return registry


def test_a_method_is_described() -> None:
    connect = everything().get(CONNECT)
    assert connect is not None
    assert (connect.service, connect.name) == ("chinwag.chat.v1.ChatService", "Connect")
    assert connect.request_streaming
    assert connect.response_streaming
    assert connect.raw
    assert connect.input_type is connect_pb2.ConnectRequest
    assert connect.output_type is connect_pb2.ConnectResponse
    assert connect.access == Access()


def test_access_is_read_from_the_contract() -> None:
    registry = everything()
    account = "/chinwag.account.v1.AccountService/"
    access = {name: registry.get(account + name) for name in ("SignUp", "GetMe", "BanUser")}
    assert all(access.values())
    assert access["SignUp"].access == Access(anonymous=True)  # type: ignore[union-attr]
    assert access["GetMe"].access == Access(scope="users:read")  # type: ignore[union-attr]
    ban = access["BanUser"].access  # type: ignore[union-attr]
    assert ban.api_key_only
    assert ban.scope


def test_an_api_key_only_method_names_a_scope() -> None:
    for method in everything():
        if method.access.api_key_only:
            assert method.access.scope, method.path
        if method.access.anonymous:
            assert not method.access.scope, method.path


def test_what_a_servicer_does_not_implement_has_no_behaviour() -> None:
    registry = everything()
    implemented = {m.path for m in registry if m.behaviour and not m.infrastructure}
    assert implemented == {
        "/chinwag.account.v1.AccountService/GetMe",
        "/chinwag.account.v1.AccountService/GetJwks",
    }


def test_every_method_of_the_contract_is_there() -> None:
    registry = everything()
    described = account_service_pb2.DESCRIPTOR.services_by_name["AccountService"]
    paths = {f"/{described.full_name}/{method.name}" for method in described.methods}
    assert paths <= {method.path for method in registry}
    assert registry.services[:4] == [
        "chinwag.account.v1.AccountService",
        "chinwag.chat.v1.ChatService",
        "chinwag.presence.v1.PresenceService",
        "chinwag.push.v1.PushService",
    ]


def test_a_service_is_registered_once() -> None:
    registry = everything()
    with pytest.raises(ValueError, match="registered twice"):
        Health().register(registry)
