"""Random calls and device streams of the product, made of one node; see `frames` for what is
compared."""

from __future__ import annotations

import asyncio
import itertools
import queue
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2
from grpc import StatusCode

from chinwag.chat.v1 import connect_pb2
from tests.server.serving import Served
from tests.wire.differential.frames import Names, normal, resolve

CONNECT = "/chinwag.chat.v1.ChatService/Connect"
# Small, so that what is over them costs little. Both settings have that lower bound.
MESSAGE_BYTES = 1 << 17
METADATA_BYTES = 4096
# From twice the limits on grpc.aio refuses by itself, and gives no reason.
BEYOND = 2
STEP_S = 10.0
CALL_S = 20.0
FOLLOW_S = 0.3
DETAILS, REQUEST_ID = "grpc-status-details-bin", "x-request-id"

Metadata = tuple[tuple[str, str | bytes], ...]
_barriers = itertools.count(1 << 40)


@dataclass(frozen=True)
class Damage:
    """What becomes of a serialised message: bytes at places (modulo its length), then a cut."""

    changes: tuple[tuple[int, int], ...] = ()
    cut: int | None = None

    def apply(self, data: bytes) -> bytes:
        out = bytearray(data)
        for place, value in self.changes:
            if out:
                out[place % len(out)] = value
        return bytes(out if self.cut is None or not out else out[: self.cut % len(out)])


@dataclass(frozen=True)
class Call:
    """A unary call.

    Attributes:
        request: A message with names of channels in place of their ids, or bytes.
    """

    path: str
    request: Message | bytes
    metadata: Metadata = ()
    damage: Damage = Damage()

    def __repr__(self) -> str:
        return f"Call({self.path}, {_short(self.request)}, {_short(self.metadata)}, {self.damage})"


@dataclass(frozen=True)
class Open:
    """A device opens its stream."""

    device: int
    metadata: Metadata


@dataclass(frozen=True)
class Say:
    """A device sends a frame."""

    device: int
    frame: Message | bytes
    damage: Damage = Damage()

    def __repr__(self) -> str:
        return f"Say({self.device}, {_short(self.frame)}, {self.damage})"


@dataclass(frozen=True)
class Leave:
    """A device half-closes, or cancels, its stream."""

    device: int
    cancel: bool


@dataclass(frozen=True)
class Follow:
    """A call of another method with a stream: one request, and what comes for a moment."""

    path: str
    request: Message | bytes
    metadata: Metadata

    def __repr__(self) -> str:
        return f"Follow({self.path}, {_short(self.request)}, {_short(self.metadata)})"


Action = Call | Follow | Open | Say | Leave


def _short(value: object) -> str:
    text = repr(value).replace("\n", " ")
    return text if len(text) < 300 else f"{text[:200]}... ({len(text)})"


@dataclass
class Stream:
    """A device's stream, by grpc's client of threads: grpc.aio's forgets a status that comes
    while a write is under way."""

    call: Any = None
    metadata: Metadata = ()
    said_beyond: bool = False
    outgoing: queue.SimpleQueue[bytes | None] = field(default_factory=queue.SimpleQueue)
    frames: list[connect_pb2.ConnectResponse] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False
    left: bool = False

    def open(self, channel: grpc.Channel, metadata: Metadata) -> None:
        loop = asyncio.get_running_loop()
        self.metadata = metadata
        method: Any = channel.stream_stream(CONNECT)
        self.call = method(self._requests(), metadata=metadata, timeout=CALL_S)
        threading.Thread(target=self._read, args=(loop,), daemon=True).start()

    def _requests(self) -> Iterator[bytes]:
        while (data := self.outgoing.get()) is not None:
            yield data

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        def take(data: bytes | None) -> None:
            if data is None:
                self.ended = True
            else:
                self.frames.append(connect_pb2.ConnectResponse.FromString(data))
            self.changed.set()

        try:
            for data in self.call:
                loop.call_soon_threadsafe(take, data)
        except grpc.RpcError:
            pass
        self.outgoing.put(None)
        loop.call_soon_threadsafe(take, None)

    def say(self, data: bytes) -> None:
        if not self.left:
            self.said_beyond = self.said_beyond or len(data) > BEYOND * MESSAGE_BYTES
            self.outgoing.put(data)

    async def until(self, answered: Any) -> bool:
        """Waits for a frame, or the end; False: neither came in time."""
        checked = 0
        try:
            async with asyncio.timeout(STEP_S):
                while not self.ended:
                    while checked < len(self.frames):
                        checked += 1
                        if answered(self.frames[checked - 1]):
                            return True
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            return False
        return True


class World:
    """One example on one node: what its actions do there."""

    def __init__(self, served: Served, channel: grpc.Channel, story: str) -> None:
        self.names = Names(story)
        self._served = served
        self._channel = channel
        self._calls = served.channel()
        self._streams: dict[int, Stream] = {}
        # Of each stream, how many frames were shown.
        self._shown: dict[int, int] = {}

    async def do(self, action: Action) -> Any:
        """Does it, and gives all that can then be seen, in its comparable form."""
        answer: Any = ()
        match action:
            case Call():
                answer = await self._call(action)
            case Follow():
                answer = await self._follow(action)
            case Open():
                if (old := self._streams.get(action.device)) is not None and not old.ended:
                    # The same device again: the node ends its stream.
                    self._streams[100 + action.device] = old
                    self._shown[100 + action.device] = self._shown.pop(action.device)
                self._streams[action.device] = stream = Stream()
                self._shown[action.device] = 0
                stream.open(self._channel, self._metadata(action.metadata))
            case Say():
                if (stream := self._streams.get(action.device)) is not None:  # type: ignore[assignment]
                    stream.say(self._bytes(action.frame, action.damage))
            case Leave():
                if (stream := self._streams.get(action.device)) is not None:  # type: ignore[assignment]
                    await self._settle()
                    if action.cancel:
                        stream.call.cancel()
                    stream.left = True
                    stream.outgoing.put(None)
                    if not await stream.until(lambda _frame: False):
                        answer = "the stream did not end"
        stuck = await self._settle()
        return answer, stuck, tuple(self._seen(number) for number in sorted(self._streams))

    def _bytes(self, message: Message | bytes, damage: Damage) -> bytes:
        if not isinstance(message, bytes):
            message = resolve(message, self.names).SerializeToString(deterministic=True)
        return damage.apply(message)

    def _metadata(self, metadata: Metadata) -> Metadata:
        return tuple(
            (key, self.names.resolve(value) if isinstance(value, str) else value)
            for key, value in metadata
        )

    async def _call(self, call: Call) -> Any:
        data = self._bytes(call.request, call.damage)
        method: Any = self._calls.unary_unary(call.path)
        try:
            answer = await method(data, metadata=self._metadata(call.metadata), timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            beyond = len(data) > BEYOND * MESSAGE_BYTES or _beyond(call.metadata)
            return self._status(error, error.trailing_metadata(), call.metadata, beyond=beyond)
        return "OK", self._message(call.path, answer)

    async def _follow(self, call: Follow) -> Any:
        data = self._bytes(call.request, Damage())
        method: Any = self._calls.unary_stream(call.path)
        stream = method(data, metadata=self._metadata(call.metadata), timeout=CALL_S)
        answers: list[Any] = []
        try:
            async with asyncio.timeout(FOLLOW_S):
                async for answer in stream:
                    answers.append(self._message(call.path, answer))
        except TimeoutError:
            stream.cancel()
            return "went on", answers
        except grpc.aio.AioRpcError as error:
            beyond = _beyond(call.metadata)
            trailers = error.trailing_metadata()
            return self._status(error, trailers, call.metadata, beyond=beyond), answers
        return "OK", answers

    def _message(self, path: str, data: bytes) -> Any:
        service, _, name = path.strip("/").rpartition("/")
        method = descriptor_pool.Default().FindMethodByName(f"{service}.{name}")
        try:
            message = message_factory.GetMessageClass(method.output_type).FromString(data)
        except DecodeError:
            return data
        return normal(message, self.names)

    def _status(self, error: Any, trailers: Any, asked: Metadata, *, beyond: bool) -> Any:
        """Code, message, details and the other trailers of a call that failed."""
        code: StatusCode = error.code()
        if beyond:
            return code.name  # grpc.aio's own refusal has no reason, and its own words
        found = {str(key): value for key, value in trailers or ()}
        status = status_pb2.Status.FromString(found.pop(DETAILS, b""))
        status.message = _counted(status.message)
        request_id = found.pop(REQUEST_ID, None)
        given = dict(asked).get(REQUEST_ID)
        if request_id is not None and request_id != given:
            request_id = "DRAWN"
        return (
            code.name,
            self.names.normal(_counted(error.details() or "")),
            normal(status, self.names),
            request_id,
            tuple(sorted(found.items())),
        )

    # --- streams ---

    async def _settle(self) -> str:
        """Waits until everything that follows from what was done has come."""
        for _ in range(2):
            for number, stream in list(self._streams.items()):
                if stream.ended or stream.left:
                    continue
                barrier = next(_barriers)
                frame = connect_pb2.ConnectRequest(frame_id=barrier)
                frame.ping.id = barrier
                stream.say(frame.SerializeToString())

                def answered(frame: connect_pb2.ConnectResponse, barrier: int = barrier) -> bool:
                    # Before hello it is refused, and answered too.
                    return frame.pong.id == barrier or any(
                        error.frame_id == barrier for error in frame.errors
                    )

                if not await stream.until(answered):
                    return f"stream {number} does not answer"
                if any(frame.HasField("welcome") for frame in stream.frames) and (
                    not await stream.until(lambda frame: frame.HasField("caught_up"))
                ):
                    return f"stream {number} does not catch up"
            async with asyncio.timeout(STEP_S):
                while self._backlog():  # noqa: ASYNC110 - a number that tells nobody
                    await asyncio.sleep(0.002)
        return ""

    def _backlog(self) -> bool:
        registry = self._served.node.metrics.registry
        return bool(registry.get_sample_value("chinwag_store_backlog_bytes"))

    def _seen(self, number: int) -> Any:
        """What is new on a stream. How things are grouped into frames is each node's own."""
        stream = self._streams[number]
        frames, self._shown[number] = stream.frames[self._shown[number] :], len(stream.frames)
        joined = connect_pb2.ConnectResponse()
        for frame in frames:
            joined.MergeFrom(frame)
        seen: dict[str, Any] = {}
        for descriptor, value in joined.ListFields():
            if not descriptor.is_repeated:
                seen[descriptor.name] = normal(value, self.names)
                continue
            seen[descriptor.name] = [normal(part, self.names) for part in value]
        if "pong" in seen:
            seen["pong"] = "PONG"  # the newest stands for all
        if "errors" in seen:
            seen["errors"] = [
                normal(error, self.names) for error in joined.errors if error.frame_id < 1 << 40
            ]
        if "results" in seen:
            seen["results"] = sorted(seen["results"], key=repr)  # in no promised order
        if "receipts" in seen:
            # Watermarks: only the newest of a member and channel counts.
            newest = {(part.channel_id, part.user_id): part for part in joined.receipts}
            seen["receipts"] = sorted(
                (normal(part, self.names) for part in newest.values()), key=repr
            )
        if stream.ended:
            seen["status"] = self._ending(stream)
        return number, seen

    def _ending(self, stream: Stream) -> Any:
        call = stream.call
        if call.code() is StatusCode.OK:
            return "OK"
        beyond = stream.said_beyond or _beyond(stream.metadata)
        return self._status(call, call.trailing_metadata(), stream.metadata, beyond=beyond)

    async def close(self) -> None:
        """Ends the streams that are left."""
        for stream in self._streams.values():
            stream.left = True
            stream.outgoing.put(None)
            stream.call.cancel()
        for stream in self._streams.values():
            await stream.until(lambda _frame: False)
        await self._calls.close(None)


def _counted(text: str) -> str:
    # The wire counts all fields of a request, as HTTP/2 does; through grpc.aio only those are
    # seen that are not gRPC's own.
    return re.sub(r"(metadata has at most \d+ bytes, got) \d+", r"\1 MORE", text)


def _beyond(metadata: Metadata) -> bool:
    size = sum(len(key) + len(value) + 32 for key, value in metadata)
    return size > BEYOND * METADATA_BYTES - 500  # what gRPC adds by itself counts too
