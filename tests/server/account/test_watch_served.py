"""AccountService.Watch and the account events of Connect through a real node."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc import StatusCode, aio

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1.account_service_pb2_grpc import AccountServiceStub
from chinwag.chat.v1 import connect_pb2
from chinwag.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from chinwag.common.v1 import close_pb2, stream_pb2
from tests.server.serving import Served, bearer, reason

HELLO = pb.WatchHello(client=stream_pb2.StreamHello(protocol_version=1))


class Person:
    """Somebody with an account, and their calls."""

    def __init__(self, stub: Any, tokens: Any) -> None:
        self.stub = stub
        self.id = tokens.user_id
        self.device_id = tokens.device_id
        self.metadata = bearer(tokens.access_token)

    @classmethod
    async def sign_up(cls, server: Served, name: str) -> Person:
        stub: Any = server.stub(AccountServiceStub)
        answer = await stub.SignUp(pb.SignUpRequest(username=name, password=f"{name} secret"))
        return cls(stub, answer.tokens)

    async def again(self, name: str) -> Person:
        answer = await self.stub.LogIn(pb.LogInRequest(username=name, password=f"{name} secret"))
        return Person(self.stub, answer.tokens)

    async def watch(self, cursor: str = "") -> Any:
        call: Any = self.stub.Watch(metadata=self.metadata)
        frame = pb.WatchRequest(hello=HELLO)
        frame.hello.cursor = cursor
        await call.write(frame)
        return call


async def until(call: Any, field: str, count: int = 1) -> list[Any]:
    """Reads until so many values of a field came."""
    found: list[Any] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            frame = await call.read()
            assert frame is not aio.EOF, f"the stream ended before {field}"
            value = getattr(frame, field)
            if field in ("events", "errors", "account"):
                found += value
            elif frame.HasField(field):
                found.append(value)
    return found


async def test_what_happens_reaches_a_watch_and_an_ack_is_kept(server: Served) -> None:
    ann, bob = await Person.sign_up(server, "ann"), await Person.sign_up(server, "bob")
    watch = await bob.watch()
    (reset,) = await until(watch, "events")
    assert reset.HasField("reset")
    await ann.stub.RequestFriend(
        pb.RequestFriendRequest(user_id=bob.id, message="hello"), metadata=ann.metadata
    )
    (made,) = await until(watch, "events")
    assert made.friend_request_made.request.user.username == "ann"
    assert made.friend_request_made.request.message == "hello"
    await watch.write(pb.WatchRequest(ack=made.cursor, ping=stream_pb2.StreamPing(id=1)))
    await until(watch, "pong")
    await bob.stub.AcceptFriend(pb.AcceptFriendRequest(user_id=ann.id), metadata=bob.metadata)
    (added,) = await until(watch, "events")
    assert added.friend_added.friend.user.id == ann.id
    assert added.id == made.id + 1
    await watch.done_writing()
    while await watch.read() is not aio.EOF:
        pass
    assert await watch.code() is StatusCode.OK

    watch = await bob.watch()
    (again,) = await until(watch, "events")
    assert again == added
    watch.cancel()


async def test_a_malformed_frame_leaves_the_stream(server: Served) -> None:
    ann = await Person.sign_up(server, "ann")
    raw: Any = server.channel().stream_stream(
        "/chinwag.account.v1.AccountService/Watch",
        request_serializer=lambda data: data,
        response_deserializer=pb.WatchResponse.FromString,
    )
    call = raw(metadata=ann.metadata)
    await call.write(pb.WatchRequest(hello=HELLO).SerializeToString())
    await until(call, "caught_up")
    await call.write(b"\xff\xff\xff")
    await until(call, "errors")
    await call.write(pb.WatchRequest(ping=stream_pb2.StreamPing(id=5)).SerializeToString())
    (pong,) = await until(call, "pong")
    assert pong.id == 5
    call.cancel()


async def test_a_revoked_device_is_closed_and_others_hear_of_it(server: Served) -> None:
    ann = await Person.sign_up(server, "ann")
    other = await ann.again("ann")
    watch, doomed = await ann.watch(), await other.watch()
    await until(watch, "caught_up")
    await until(doomed, "caught_up")
    await ann.stub.RevokeDevice(
        pb.RevokeDeviceRequest(device_id=other.device_id), metadata=ann.metadata
    )
    (close,) = await until(doomed, "close")
    assert close.reason == close_pb2.CLOSE_REASON_SESSION_REVOKED
    assert not close.reconnect
    with pytest.raises(aio.AioRpcError) as ended:
        await doomed.read()
    assert reason(ended.value) == "SESSION_REVOKED"
    assert await doomed.code() is StatusCode.UNAUTHENTICATED
    (revoked,) = await until(watch, "events")
    assert revoked.device_revoked.device_id == other.device_id
    watch.cancel()


async def test_a_drain_ends_it_with_guidance(server: Served) -> None:
    ann = await Person.sign_up(server, "ann")
    watch = await ann.watch()
    await until(watch, "caught_up")
    draining = asyncio.ensure_future(server.node.drain())
    (close,) = await until(watch, "close")
    assert close.reason == close_pb2.CLOSE_REASON_DRAINING
    assert close.reconnect
    await draining


async def test_connect_carries_the_same_events(server: Served) -> None:
    ann, bob = await Person.sign_up(server, "ann"), await Person.sign_up(server, "bob")
    chat: Any = server.stub(ChatServiceStub)
    call = chat.Connect(metadata=bob.metadata)
    hello = connect_pb2.Hello(protocol_version=1)
    hello.subscriptions.account = True
    await call.write(connect_pb2.ConnectRequest(hello=hello))
    (reset,) = await until(call, "account")
    assert reset.HasField("reset")
    await ann.stub.RequestFriend(pb.RequestFriendRequest(user_id=bob.id), metadata=ann.metadata)
    (made,) = await until(call, "account")
    assert made.friend_request_made.request.user.display_name == "ann"
    call.cancel()

    # The next stream goes on from a cursor, whichever of the two gave it.
    await ann.stub.RemoveFriend(pb.RemoveFriendRequest(user_id=bob.id), metadata=ann.metadata)
    watch = await bob.watch(made.cursor)
    (closed,) = await until(watch, "events")
    assert closed.friend_request_closed.user_id == ann.id
    watch.cancel()
