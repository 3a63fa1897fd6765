"""Random stories: what a few devices of one group do to a node, one thing after the other."""

from __future__ import annotations

import time
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2  # type: ignore[import-untyped]
from hypothesis import strategies as st

from chinwag.account.v1 import account_service_pb2
from chinwag.chat.v1 import channel_pb2, chat_service_pb2, connect_pb2, message_pb2
from chinwag.presence.v1 import presence_service_pb2
from chinwag.push.v1 import push_service_pb2
from tests.wire.differential.product import (
    MESSAGE_BYTES,
    METADATA_BYTES,
    Action,
    Call,
    Damage,
    Follow,
    Leave,
    Metadata,
    Open,
    Say,
)

# Modules that put their services into the pool of descriptors.
_POOLED = (
    *(account_service_pb2, chat_service_pb2, presence_service_pb2, push_service_pb2),
    *(health_pb2, reflection_pb2),
)
SERVICES = (
    "chinwag.chat.v1.ChatService",
    "chinwag.account.v1.AccountService",
    "chinwag.presence.v1.PresenceService",
    "chinwag.push.v1.PushService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
)
DEVICES = 3
# "~" makes a name one of its own in each story, so that stories do not meet.
USERS = ("ann~", "bob~", "eve~")
NUMBERS = (0, 1, 2, 3, 7, -1, 2**31 - 1, 2**53)
TEXTS = ("", "hi", "ü😀", "a\nb", "x" * 200)
_MASKS = ("name", "description", "metadata", "is_public", "archived", "pinned", "no_such", "")


def message_id(number: int) -> str:
    """A UUIDv7 of this hour: older ones expire."""
    ms = int(time.time() // 3600) * 3_600_000
    return f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7000-8000-{number:012x}"


class Requests:
    """Makes requests of any type, such that many of them are good."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def _one(self, *choices: Any) -> Any:
        return self._draw(st.sampled_from(choices))

    def user(self) -> str:
        return str(self._one(*USERS, *USERS, "nobody", "", "u" * 65))

    def channel(self) -> str:
        return str(self._one("$0", "$0", "$0", "$1", "$2", "", "none", "c" + "a" * 26, "x" * 65))

    def content(self) -> message_pb2.MessageContent:
        return message_pb2.MessageContent(text=self._one("hi", "hi", "ü😀", "", "x" * 5000))

    def message(self, descriptor: Descriptor, depth: int = 0) -> Message:
        """A message; each field is set or not."""
        made = message_factory.GetMessageClass(descriptor)()
        for field in descriptor.fields:
            needed = field.name in ("channel_id", "content", "client_message_id", "message_id")
            if not needed and self._draw(st.integers(0, 2)) == 0:
                continue
            if field.containing_oneof is not None and made.WhichOneof(field.containing_oneof.name):
                continue
            self._set(made, field, depth)
        return made

    def _set(self, made: Any, field: FieldDescriptor, depth: int) -> None:
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            if kind.fields_by_name["value"].type == FieldDescriptor.TYPE_STRING:
                getattr(made, field.name)[self._one("k", "", "k" * 65)] = self._one("v", "")
        elif kind is not None:
            self._nest(made, field, kind, depth)
        elif field.is_repeated:
            parts = [self._scalar(field) for _ in range(self._draw(st.integers(0, 3)))]
            getattr(made, field.name).extend(parts)
        else:
            setattr(made, field.name, self._scalar(field))

    def _nest(self, made: Any, field: FieldDescriptor, kind: Descriptor, depth: int) -> None:
        if kind.full_name == "google.protobuf.Duration":
            # Long enough to be a wait, short enough for a test.
            made_field = getattr(made, field.name)
            made_field.nanos = self._one(0, 1_000_000, -1)
        elif kind.full_name == "google.protobuf.FieldMask":
            getattr(made, field.name).paths.extend(
                self._draw(st.lists(st.sampled_from(_MASKS), max_size=2))
            )
        elif kind.full_name == "google.protobuf.Timestamp":
            getattr(made, field.name).seconds = self._one(0, 1, 4_000_000_000, -5)
        elif kind.full_name == "chinwag.chat.v1.MessageContent":
            getattr(made, field.name).CopyFrom(self.content())
        elif depth < 2 and not kind.full_name.startswith("google."):
            if field.is_repeated:
                for _ in range(self._draw(st.integers(0, 2))):
                    getattr(made, field.name).append(self.message(kind, depth + 1))
            else:
                getattr(made, field.name).CopyFrom(self.message(kind, depth + 1))

    def _scalar(self, field: FieldDescriptor) -> Any:
        name = field.name
        if field.type == FieldDescriptor.TYPE_STRING:
            if name in ("channel_id", "channel_ids", "unsubscribe"):
                return self.channel()
            if "user_id" in name:
                return self.user()
            if name == "client_message_id":
                good = [message_id(number) for number in range(4)]
                return self._one(*good, *good, "no", "")
            if name == "request_id":
                # In the scope of a user it must be this story's own.
                return self._one("", "", "r1~", "r2~", "r" * 65)
            if name == "emoji":
                return self._one("👍", "x", "", "a b")
            if name == "service":
                return self._one("", "chinwag.chat.v1.ChatService", "none")
            return self._one(*TEXTS)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._one(b"", b"\0", b"x" * 40)
        if field.type == FieldDescriptor.TYPE_BOOL:
            return self._one(True, False)
        if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
            return self._one(0.0, 1.5)
        if field.type == FieldDescriptor.TYPE_ENUM:
            return self._one(0, 1, 2, 3, 9)
        value = self._one(*NUMBERS)
        narrow = (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_UINT32)
        return min(abs(value), 2**31 - 1) if field.type in narrow else value


def _methods(*, streams: bool) -> list[tuple[str, Descriptor]]:
    return [
        (f"/{service}/{method.name}", method.input_type)
        for service in SERVICES
        for method in descriptor_pool.Default().FindServiceByName(service).methods
        if streams == (method.client_streaming or method.server_streaming)
        and method.name != "Connect"
    ]


METHODS = _methods(streams=False)
STREAMS = _methods(streams=True)
CHAT_METHODS = [method for method in METHODS if "ChatService" in method[0]]


@st.composite
def tokens(draw: st.DrawFn, user: str, device: int) -> Metadata:
    """Call metadata: mostly a good token."""
    kind = draw(st.sampled_from([0] * 14 + list(range(1, 11))))
    good = (("authorization", f"Bearer {user}/{device}"),)
    bad: dict[int, Metadata] = {
        1: (),
        2: (("authorization", "Bearer forged"),),
        3: (("authorization", f"Basic {user}/{device}"),),
        4: (("authorization", "Bearer cwk_bot:messages:read"),),
        5: (
            ("authorization", "Bearer cwk_bot:messages:write,messages:read,channels:read"),
            ("chinwag-on-behalf-of", draw(st.sampled_from([user, "nobody", "", "u" * 65]))),
        ),
        6: (*good, ("x-request-id", draw(st.sampled_from(["mine", "", "r" * 65, "a b"])))),
        7: (*good, ("large", "v" * draw(st.sampled_from([METADATA_BYTES, 6 * METADATA_BYTES])))),
        8: (*good, *good),
        9: (*good, ("chinwag-on-behalf-of", user)),
        10: (
            ("authorization", f"bearer  {user}/{device} "),
            ("x-bin", draw(st.binary(max_size=9))),
        ),
    }
    return bad.get(kind, good)


damages = st.one_of(
    st.just(Damage()),
    st.just(Damage()),
    st.just(Damage()),
    st.builds(
        Damage,
        st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3).map(tuple),
        st.none() | st.integers(0, 400),
    ),
)


@st.composite
def calls(draw: st.DrawFn, requests: Requests, user: str, device: int) -> Call:
    """A unary call."""
    metadata = draw(tokens(user, device))
    trouble = draw(st.integers(0, 19))
    if trouble == 0:
        path = draw(
            st.sampled_from(["/no.Service/No", "/chinwag.chat.v1.ChatService/No", "/x", "//", "/"])
        )
        return Call(path, b"", metadata)
    path, kind = draw(st.sampled_from(CHAT_METHODS * 3 + METHODS))
    if trouble == 1:
        return Call(path, draw(st.binary(max_size=60)), metadata)
    if trouble == 2:
        # Just over the limit, and where grpc.aio refuses by itself. Whoever sends too much has a
        # good token here, and calls what is offered: which of two faults is told first is each
        # core's own.
        size = draw(st.sampled_from([MESSAGE_BYTES + 1, 2 * MESSAGE_BYTES, 2 * MESSAGE_BYTES + 1]))
        path, _ = draw(st.sampled_from(CHAT_METHODS))
        return Call(path, bytes(size), (("authorization", f"Bearer {user}/{device}"),))
    return Call(path, requests.message(kind), metadata, draw(damages))


@st.composite
def frames(draw: st.DrawFn, requests: Requests) -> Message | bytes:
    """A frame of a device: good, odd or none at all."""
    kind = draw(st.integers(0, 11))
    frame = connect_pb2.ConnectRequest(frame_id=draw(st.integers(0, 9)))
    if kind == 0:
        return draw(st.binary(max_size=100))
    if kind == 11:
        # Between the two the wire ends the stream, and grpc.aio does not: `test_known`.
        over = draw(st.sampled_from([0, MESSAGE_BYTES + 1]))
        frame.frame_id = 1
        frame.renew_token.access_token = "x" * (1 << 16)
        frame.renew_token.access_token += "x" * (over + MESSAGE_BYTES - frame.ByteSize())
        return frame
    if kind <= 2:
        made = requests.message(connect_pb2.ConnectRequest.DESCRIPTOR)
        assert isinstance(made, connect_pb2.ConnectRequest)
        made.frame_id = frame.frame_id
        if draw(st.integers(0, 3)):
            made.ClearField("hello")
        return made
    if kind == 3:
        frame.hello.CopyFrom(draw(hellos(requests)))
    elif kind <= 7:
        for _ in range(draw(st.integers(1, 3))):
            send = frame.sends.add(content=requests.content(), channel_id=requests.channel())
            send.client_message_id = message_id(draw(st.integers(0, 9)))
            send.reply_to_id = draw(st.sampled_from([0, 0, 0, 1, 2, 99, -1]))
    elif kind == 8:
        frame.marks.add(
            channel_id=requests.channel(),
            read_id=draw(st.sampled_from(NUMBERS)),
            delivered_id=draw(st.sampled_from(NUMBERS)),
        )
    elif kind == 9:
        frame.typing.add(channel_id=requests.channel(), active=draw(st.booleans()))
    elif kind == 10:
        frame.ping.id = draw(st.sampled_from(NUMBERS))
    return frame


@st.composite
def hellos(draw: st.DrawFn, requests: Requests) -> connect_pb2.Hello:
    """What a device says first."""
    hello = connect_pb2.Hello(protocol_version=draw(st.sampled_from([1] * 30 + [0, 9])))
    hello.subscriptions.receipts = draw(st.booleans())
    hello.subscriptions.typing = draw(st.booleans())
    for _ in range(draw(st.integers(0, 2))):
        hello.cursors.add(channel_id=requests.channel(), id=draw(st.sampled_from([0, 1, 2, 99])))
    hello.catch_up_limit = draw(st.sampled_from([0, 0, 1, 5]))
    hello.resume_stamp = draw(st.sampled_from(["", "", "none"]))
    return hello


@st.composite
def stories(draw: st.DrawFn) -> list[Action]:
    """A group of three, and what they do."""
    requests = Requests(draw)
    group = chat_service_pb2.CreateChannelRequest(
        kind=channel_pb2.CHANNEL_KIND_GROUP, name="g", member_user_ids=USERS[1:]
    )
    actions: list[Action] = [
        Call(
            "/chinwag.chat.v1.ChatService/CreateChannel",
            group,
            (("authorization", f"Bearer {USERS[0]}/0"),),
        )
    ]
    for _ in range(draw(st.integers(1, 12))):
        device = draw(st.integers(0, DEVICES - 1))
        user = USERS[device]
        what = draw(st.integers(0, 19))
        if what <= 4:
            actions.append(Open(device, draw(tokens(user, device))))
            if draw(st.integers(0, 7)):
                hello = connect_pb2.ConnectRequest(hello=draw(hellos(requests)))
                actions.append(Say(device, hello))
        elif what <= 11:
            actions.append(Say(device, draw(frames(requests)), draw(damages)))
        elif what == 13 and draw(st.booleans()):
            path, kind = draw(st.sampled_from(STREAMS))
            metadata = draw(tokens(user, device))
            if draw(st.booleans()):  # what a backend has
                metadata = (("authorization", "Bearer cwk_feed:events:read"),)
            actions.append(Follow(path, requests.message(kind), metadata))
        elif what == 12:
            actions.append(Leave(device, draw(st.booleans())))
        else:
            actions.append(draw(calls(requests, user, device)))
    return actions
