"""What every call goes through, over real sockets."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc import StatusCode, aio

from chinwag.account.v1 import account_service_pb2 as account_pb
from chinwag.account.v1 import account_service_pb2_grpc
from chinwag.chat.v1 import channel_pb2, chat_service_pb2_grpc, connect_pb2
from chinwag.chat.v1 import chat_service_pb2 as pb
from chinwag.presence.v1 import presence_service_pb2, presence_service_pb2_grpc
from chinwag.push.v1 import push_service_pb2, push_service_pb2_grpc
from chinwag_server.chat.store import StoreUnavailable
from tests.server.fixtures import StartNode
from tests.server.serving import Served, bearer, detail, reason, refusal, status_of
from tests.server.standin import StandInAccount

GROUP = channel_pb2.CHANNEL_KIND_GROUP
ANN = bearer("ann/1")
GET_CHANNEL = "/chinwag.chat.v1.ChatService/GetChannel"


def chat(server: Served) -> Any:
    return server.stub(chat_service_pb2_grpc.ChatServiceStub)


def account(server: Served) -> Any:
    return server.stub(account_service_pb2_grpc.AccountServiceStub)


def raw(server: Served, path: str = GET_CHANNEL) -> Any:
    """A call of bytes."""
    return server.channel().unary_unary(path)


# --- messages ---


async def test_malformed_bytes(bare_server: Served) -> None:
    call = raw(bare_server)
    for data in (b"\xff\xff\xff", b"\x0a\x02\xc3\x28", b"\x0a\xff\xff\xff\xff\x0f"):
        assert await refusal(call(data, metadata=ANN)) == (
            StatusCode.INVALID_ARGUMENT,
            "MALFORMED",
        )


async def test_invalid_fields_are_named(bare_server: Served) -> None:
    request = pb.CreateChannelRequest(kind=GROUP, name="n" * 129, member_user_ids=["bob", "u" * 65])
    with pytest.raises(aio.AioRpcError) as info:
        await chat(bare_server).CreateChannel(request, metadata=ANN)
    assert info.value.code() is StatusCode.INVALID_ARGUMENT
    assert reason(info.value) == "INVALID_FIELD"
    bad = detail(status_of(info.value), error_details_pb2.BadRequest)
    assert {v.field for v in bad.field_violations} == {"name", "member_user_ids[1]"}
    assert all(v.description for v in bad.field_violations)


async def test_many_violations_fit_into_trailers(bare_server: Served) -> None:
    request = pb.CreateChannelRequest(kind=GROUP, name="n", member_user_ids=["u" * 65] * 90)
    assert await refusal(chat(bare_server).CreateChannel(request, metadata=ANN)) == (
        StatusCode.INVALID_ARGUMENT,
        "INVALID_FIELD",
    )


async def test_a_message_over_the_limit(start_node: StartNode) -> None:
    server = await start_node(open_account=StandInAccount, limits__message_bytes=1 << 20)
    call = raw(server)
    assert await refusal(call(b"\0" * ((1 << 20) + 1), metadata=ANN)) == (
        StatusCode.RESOURCE_EXHAUSTED,
        "TOO_LARGE",
    )
    # Far over it, the core refuses by itself before it has read it.
    code, _ = await refusal(call(b"\0" * (3 << 20), metadata=ANN))
    assert code is StatusCode.RESOURCE_EXHAUSTED


async def test_metadata_over_the_limit(start_node: StartNode) -> None:
    server = await start_node(open_account=StandInAccount, limits__metadata_bytes=4096)
    call = raw(server)
    assert await refusal(call(b"", metadata=(*ANN, ("x", "y" * 4096)))) == (
        StatusCode.RESOURCE_EXHAUSTED,
        "TOO_LARGE",
    )
    code, _ = await refusal(call(b"", metadata=(*ANN, ("x", "y" * 20_000))))
    assert code is StatusCode.RESOURCE_EXHAUSTED
    assert await refusal(call(b"", metadata=ANN)) == (
        StatusCode.INVALID_ARGUMENT,
        "INVALID_FIELD",
    )


# --- who calls ---


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ((), "TOKEN_REQUIRED"),
        ((("authorization", "Basic YW5uOjE="),), "TOKEN_REQUIRED"),
        ((("authorization", "Bearer "),), "TOKEN_REQUIRED"),
        (bearer("forged"), "TOKEN_INVALID"),
        (bearer("x" * 9000), "TOKEN_INVALID"),
    ],
)
async def test_no_good_token(bare_server: Served, metadata: Any, expected: str) -> None:
    call = account(bare_server).GetMe(account_pb.GetMeRequest(), metadata=metadata)
    assert await refusal(call) == (StatusCode.UNAUTHENTICATED, expected)
    stream = chat(bare_server).Connect(metadata=metadata)
    assert await refusal(stream.read()) == (StatusCode.UNAUTHENTICATED, expected)


async def test_anonymous_methods_need_no_token(bare_server: Served) -> None:
    for metadata in ((), bearer("forged")):
        await account(bare_server).GetJwks(account_pb.GetJwksRequest(), metadata=metadata)


async def test_api_key_scopes(bare_server: Served) -> None:
    get_me = account(bare_server).GetMe
    me = await get_me(account_pb.GetMeRequest(), metadata=bearer("cwk_bot:users:read,x:y"))
    assert (me.user.id, me.user.display_name) == ("", "bot@127.0.0.1")
    request = account_pb.GetMeRequest()
    assert await refusal(get_me(request, metadata=bearer("cwk_bot:users:write"))) == (
        StatusCode.PERMISSION_DENIED,
        "SCOPE_REQUIRED",
    )
    # Connect is a device's: no key may call it.
    stream = chat(bare_server).Connect(metadata=bearer("cwk_bot:messages:read"))
    assert await refusal(stream.read()) == (StatusCode.PERMISSION_DENIED, "SCOPE_REQUIRED")
    # The feed is a backend's: no user may call it.
    feed = chat(bare_server).StreamEvents(pb.StreamEventsRequest(), metadata=ANN)
    assert await refusal(feed.read()) == (StatusCode.PERMISSION_DENIED, "SCOPE_REQUIRED")


async def test_on_behalf_of_a_user(bare_server: Served) -> None:
    get_me, request = account(bare_server).GetMe, account_pb.GetMeRequest()
    key = "cwk_bot:users:read"
    me = await get_me(request, metadata=bearer(key, ("chinwag-on-behalf-of", "bob")))
    assert me.user.id == "bob"
    call = get_me(request, metadata=bearer(key, ("chinwag-on-behalf-of", "nobody")))
    assert await refusal(call) == (StatusCode.NOT_FOUND, "USER_NOT_FOUND")
    call = get_me(request, metadata=bearer(key, ("chinwag-on-behalf-of", "b" * 65)))
    assert await refusal(call) == (StatusCode.NOT_FOUND, "USER_NOT_FOUND")
    call = get_me(request, metadata=(*ANN, ("chinwag-on-behalf-of", "bob")))
    assert await refusal(call) == (StatusCode.PERMISSION_DENIED, "SCOPE_REQUIRED")


async def test_forwarded_addresses_are_believed_from_trusted_proxies_alone(
    start_node: StartNode, bare_server: Served
) -> None:
    forwarded = (*ANN, ("x-forwarded-for", "6.6.6.6, 9.9.9.9, 10.0.0.7"))
    me = await account(bare_server).GetMe(account_pb.GetMeRequest(), metadata=forwarded)
    assert me.user.display_name == "@127.0.0.1"
    await bare_server.close()
    trusting = await start_node(
        open_account=StandInAccount, listen__trusted_proxies=("127.0.0.1", "10.0.0.0/8")
    )
    me = await account(trusting).GetMe(account_pb.GetMeRequest(), metadata=forwarded)
    assert me.user.display_name == "@9.9.9.9"


# --- rates ---


async def test_calls_of_a_user_are_limited(start_node: StartNode) -> None:
    server = await start_node(
        open_account=StandInAccount,
        limits__user_calls_per_second=0.5,
        limits__user_calls_burst=3,
    )
    get_me, request = account(server).GetMe, account_pb.GetMeRequest()
    for _ in range(3):
        await get_me(request, metadata=ANN)
    with pytest.raises(aio.AioRpcError) as info:
        await get_me(request, metadata=ANN)
    assert info.value.code() is StatusCode.RESOURCE_EXHAUSTED
    assert reason(info.value) == "RATE_LIMITED"
    retry = detail(status_of(info.value), error_details_pb2.RetryInfo).retry_delay
    assert 1.0 < retry.ToNanoseconds() / 1e9 <= 2.0
    await get_me(request, metadata=bearer("bob/1"))


async def test_anonymous_calls_are_limited_by_address(start_node: StartNode) -> None:
    server = await start_node(
        open_account=StandInAccount,
        limits__anonymous_calls_per_second=0.1,
        limits__anonymous_calls_burst=2,
        limits__exempt_addresses=("10.0.0.0/8",),
        listen__trusted_proxies=("127.0.0.1",),
    )
    get_jwks, request = account(server).GetJwks, account_pb.GetJwksRequest()
    for _ in range(2):
        await get_jwks(request, metadata=(("x-forwarded-for", "9.9.9.9"),))
    call = get_jwks(request, metadata=(("x-forwarded-for", "9.9.9.9"),))
    assert await refusal(call) == (StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    for other in ("9.9.9.8", *["10.1.1.1"] * 5):
        await get_jwks(request, metadata=(("x-forwarded-for", other),))


# --- failures ---


async def test_a_defect_is_internal_and_does_not_leak(
    bare_server: Served, caplog: pytest.LogCaptureFixture
) -> None:
    standin = bare_server.node.account
    assert isinstance(standin, StandInAccount)
    standin.servicer.fail = ValueError("the secret text")
    call = account(bare_server).GetMe(
        account_pb.GetMeRequest(), metadata=(*ANN, ("x-request-id", "req-7"))
    )
    with caplog.at_level(logging.ERROR), pytest.raises(aio.AioRpcError) as info:
        await call
    assert (info.value.code(), reason(info.value)) == (StatusCode.INTERNAL, "INTERNAL")
    assert "req-7" in (info.value.details() or "")
    assert ("x-request-id", "req-7") in tuple(info.value.trailing_metadata())
    assert "secret" not in str(info.value)
    assert "secret" not in caplog.text
    assert "ValueError" in caplog.text
    assert "standin.py" in caplog.text


async def test_a_store_that_is_away_asks_for_a_repeat(bare_server: Served) -> None:
    standin = bare_server.node.account
    assert isinstance(standin, StandInAccount)
    standin.servicer.fail = StoreUnavailable("the secret host is away")
    with pytest.raises(aio.AioRpcError) as info:
        await account(bare_server).GetMe(account_pb.GetMeRequest(), metadata=ANN)
    found = (info.value.code(), reason(info.value))
    assert found == (StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
    assert "secret" not in str(info.value)


async def test_a_handler_that_takes_too_long(start_node: StartNode) -> None:
    server = await start_node(open_account=StandInAccount, deadlines__unary_ms=1000)
    call = chat(server).Sync(pb.SyncRequest(wait=Duration(seconds=30)), metadata=ANN)
    assert await refusal(call) == (StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_a_clients_deadline_ends_the_handler(bare_server: Served) -> None:
    stub = chat(bare_server)
    call = stub.Sync(pb.SyncRequest(wait=Duration(seconds=30)), metadata=ANN, timeout=0.3)
    code, _ = await refusal(call)
    assert code is StatusCode.DEADLINE_EXCEEDED
    middleware = bare_server.node._middleware
    assert middleware is not None
    for _ in range(100):
        if not middleware.running_calls:
            break
        await asyncio.sleep(0.02)
    assert middleware.running_calls == 0


async def test_what_is_not_offered(bare_server: Served) -> None:
    unimplemented = (StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED")
    push: Any = bare_server.stub(push_service_pb2_grpc.PushServiceStub)
    presence: Any = bare_server.stub(presence_service_pb2_grpc.PresenceServiceStub)
    assert await refusal(push.GetVapidKey(push_service_pb2.GetVapidKeyRequest())) == unimplemented
    call = presence.GetPresence(presence_service_pb2.GetPresenceRequest(), metadata=ANN)
    assert await refusal(call) == unimplemented
    assert await refusal(presence.Track(metadata=ANN).read()) == unimplemented
    assert await refusal(push.Relay(metadata=ANN).read()) == unimplemented
    for path in ("/no.such.Service/Method", "/chinwag.chat.v1.ChatService/NoSuch"):
        assert await refusal(raw(bare_server, path)(b"")) == unimplemented


# --- streams ---


async def test_connect_gets_raw_frames(bare_server: Served) -> None:
    connect: Any = bare_server.channel().stream_stream("/chinwag.chat.v1.ChatService/Connect")
    stream = connect(metadata=ANN)
    await stream.write(b"\xff\xff")
    answer = connect_pb2.ConnectResponse.FromString(await stream.read())
    info = detail(answer.errors[0].status, error_details_pb2.ErrorInfo)
    assert info.reason == "MALFORMED"
    hello = connect_pb2.ConnectRequest(hello=connect_pb2.Hello(protocol_version=1))
    await stream.write(hello.SerializeToString())
    answer = connect_pb2.ConnectResponse.FromString(await stream.read())
    assert (answer.welcome.user_id, answer.welcome.device_id) == ("ann", "1")
    stream.cancel()


async def test_a_stream_that_the_client_drops_is_forgotten(bare_server: Served) -> None:
    for end in ("cancel", "done_writing"):
        stream = chat(bare_server).Connect(metadata=ANN)
        await stream.write(connect_pb2.ConnectRequest(hello=connect_pb2.Hello(protocol_version=1)))
        assert (await stream.read()).HasField("welcome")
        assert len(bare_server.node.chat.streams) == 1
        if end == "cancel":
            stream.cancel()
        else:
            await stream.done_writing()
            while await stream.read() is not aio.EOF:
                pass
            assert await stream.code() is grpc.StatusCode.OK
        for _ in range(100):
            if not len(bare_server.node.chat.streams):
                break
            await asyncio.sleep(0.02)
        assert len(bare_server.node.chat.streams) == 0
