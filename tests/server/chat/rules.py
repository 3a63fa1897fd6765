"""A chat room over the in-memory store, for tests of the rules: no socket, no real time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection, Sequence
from typing import Any

import pytest

from chinwag.chat.v1 import chat_service_pb2 as pb
from chinwag.chat.v1 import connect_pb2, entry_pb2, message_pb2
from chinwag_server.chat.room import ChatRoom, ChatSettings
from chinwag_server.chat.store import ChatStore
from chinwag_server.chat.stream import DeviceStream
from chinwag_server.rpc.caller import Caller, set_caller
from chinwag_server.rpc.errors import Refusal

START_US = 1_700_000_000_000_000


class FakeClock:
    """Time that moves when a test says so."""

    def __init__(self) -> None:
        self.now_us = START_US

    def time_us(self) -> int:
        return self.now_us

    def monotonic(self) -> float:
        return self.now_us / 1e6

    def advance(self, seconds: float) -> None:
        self.now_us += int(seconds * 1e6)


class FakeDirectory:
    """Everybody exists and may do everything, but for what a test says."""

    def __init__(self) -> None:
        self.refused: set[tuple[str, str]] = set()

    async def existing(self, user_ids: Collection[str]) -> set[str]:
        return set(user_ids)

    async def may_write(self, sender_id: str, recipient_id: str) -> bool:
        return (sender_id, recipient_id) not in self.refused

    async def may_add(self, adder_id: str, user_id: str) -> bool:
        return (adder_id, user_id) not in self.refused


class FakeSink:
    """Keeps the frames that a stream sends; `blocked` plays a device that does not read."""

    def __init__(self) -> None:
        self.frames: list[connect_pb2.ConnectResponse] = []
        self.blocked = False
        self.finished = False

    def room(self) -> int:
        return 0 if self.blocked or self.finished else 1 << 20

    def offer(self, data: bytes) -> bool:
        if not self.room():
            return False
        self.send(data)
        return True

    def send(self, data: bytes) -> None:
        self.frames.append(connect_pb2.ConnectResponse.FromString(data))

    def finish(self) -> None:
        self.finished = True


class Device:
    """A device with an open stream."""

    def __init__(self, stream: DeviceStream, sink: FakeSink) -> None:
        self.stream = stream
        self.sink = sink
        self._frame_ids = itertools.count(1)

    async def say(self, **fields: Any) -> None:
        await self.stream.receive(connect_pb2.ConnectRequest(**fields).SerializeToString())

    async def hello(self, **fields: Any) -> None:
        await self.say(hello=connect_pb2.Hello(protocol_version=1, **fields))
        await settle()

    @property
    def events(self) -> list[entry_pb2.Event]:
        return [event for frame in self.sink.frames for event in frame.events]

    @property
    def entries(self) -> list[entry_pb2.Entry]:
        return [event.entry for event in self.events if event.HasField("entry")]

    @property
    def results(self) -> list[connect_pb2.SendResult]:
        return [result for frame in self.sink.frames for result in frame.results]

    @property
    def errors(self) -> list[str]:
        return [reason_of(error.status) for frame in self.sink.frames for error in frame.errors]

    @property
    def texts(self) -> list[str]:
        return [
            entry.message_sent.content.text
            for entry in self.entries
            if entry.HasField("message_sent")
        ]

    def clear(self) -> None:
        self.sink.frames.clear()

    def drop(self) -> None:
        self.stream.gone()


def reason_of(status: Any) -> str:
    """The reason in a google.rpc.Status."""
    from google.rpc import error_details_pb2

    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason
    return ""


class Settling:
    """How long things take to settle: no time at all, but between nodes."""

    seconds = 0.0


async def settle() -> None:
    """Lets everything that is ready run."""
    for _ in range(30):
        await asyncio.sleep(Settling.seconds / 30)


class Room:
    """The room, its clock and directory, and short ways to call it."""

    def __init__(
        self,
        store: ChatStore,
        settings: ChatSettings | None = None,
        *,
        clock: Any = None,
        directory: FakeDirectory | None = None,
        **parts: Any,
    ) -> None:
        self.clock = clock or FakeClock()
        self.directory = directory or FakeDirectory()
        self.store = store
        self._random = itertools.count(1)
        self._ids = itertools.count(1)
        self.room = ChatRoom(
            store,
            self.directory,
            authenticate=self._authenticate,
            settings=settings,
            clock=self.clock,
            **{"random_bytes": lambda size: next(self._random).to_bytes(size, "big"), **parts},
        )

    async def _authenticate(self, token: str) -> Caller:
        user_id, _, device_id = token.partition("/")
        if not device_id:
            raise Refusal("TOKEN_INVALID", "no such token")
        return Caller(user_id, device_id)

    async def call(self, user_id: str, method: str, /, **fields: Any) -> Any:
        """Calls a method of the servicer as a user."""
        set_caller(Caller(user_id, f"{user_id}-1"))
        mask = fields.get("update_mask")
        if isinstance(mask, str):
            fields["update_mask"] = {"paths": [mask]}
        if method == "SendMessage":
            request: Any = connect_pb2.SendMessageRequest(**fields)
        else:
            request = getattr(pb, f"{method}Request")(**fields)
        return await getattr(self.room.servicer, method)(request, None)

    def message_id(self) -> str:
        """A fresh client_message_id, made now."""
        ms = self.clock.now_us // 1000
        number = next(self._ids)
        text = f"{ms:012x}7000{0x8000000000000000 + number:016x}"
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

    async def send(self, user_id: str, channel_id: str, text: str, **fields: Any) -> int:
        """Sends a message and gives its id."""
        answer = await self.call(
            user_id,
            "SendMessage",
            channel_id=channel_id,
            client_message_id=fields.pop("client_message_id", None) or self.message_id(),
            content=message_pb2.MessageContent(text=text),
            **fields,
        )
        return int(answer.message.id)

    async def group(self, owner: str, *others: str, **fields: Any) -> str:
        """Makes a group and gives its id."""
        answer = await self.call(
            owner, "CreateChannel", kind=2, name="g", member_user_ids=others, **fields
        )
        return str(answer.channel.channel.id)

    async def direct(self, user_id: str, other: str) -> str:
        """Makes a direct channel and gives its id."""
        answer = await self.call(user_id, "CreateChannel", kind=1, member_user_ids=[other])
        return str(answer.channel.channel.id)

    async def texts(self, user_id: str, channel_id: str, **fields: Any) -> list[str]:
        """The texts that a user reads in a channel."""
        answer = await self.call(user_id, "ListMessages", channel_id=channel_id, **fields)
        return [message.content.text for message in answer.messages]

    def connect(self, user_id: str, device_id: str = "") -> Device:
        """A device's stream, before its hello."""
        sink = FakeSink()
        caller = Caller(user_id, device_id or f"{user_id}-1")
        return Device(self.room.streams.open(caller, sink), sink)

    async def online(self, user_id: str, device_id: str = "", **hello: Any) -> Device:
        """A device that is caught up."""
        device = self.connect(user_id, device_id)
        await device.hello(**hello)
        assert device.stream.live
        device.clear()
        return device


async def refused(reason: str, call: Any) -> Refusal:
    """Asserts that a call is refused with a reason."""
    with pytest.raises(Refusal) as info:
        await call
    assert info.value.reason == reason, info.value
    return info.value


def cursors(*positions: tuple[str, int], generation: int = 1) -> Sequence[Any]:
    """Cursors of (channel, id) pairs."""
    from chinwag.chat.v1 import channel_pb2

    return [
        channel_pb2.Cursor(channel_id=channel_id, generation=generation, id=position)
        for channel_id, position in positions
    ]
