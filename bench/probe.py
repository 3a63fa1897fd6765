"""Clients that send into channels again and again, and repeat what fails under the same id."""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from bench.drive import Place
from chinwag.chat.v1 import chat_service_pb2_grpc, connect_pb2, message_pb2

ANSWER_S = 5.0  # longer than a node waits for a new owner
PAUSE_S = 0.05
RETRIED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
)


@dataclass(frozen=True, slots=True)
class Sent:
    """A send that was acked; times are of `time.monotonic`.

    Attributes:
        begun: Before its first attempt.
        ended: When the answer was there.
    """

    channel_id: str
    begun: float
    ended: float
    attempts: int

    @property
    def took_s(self) -> float:
        return self.ended - self.begun


class Probe:
    """One client a channel, one send at a time.

    Args:
        targets: Nodes; the clients take turns.
        token: Of a member of all channels.
        every_s: From the answer of a send to the next one.

    Attributes:
        sent: What was acked, in the order of the answers.
        refused: What was refused for good.
    """

    def __init__(
        self, targets: Sequence[str], places: Sequence[Place], token: str, every_s: float
    ) -> None:
        self.sent: list[Sent] = []
        self.refused: list[str] = []
        self._targets = targets
        self._places = places
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._every_s = every_s
        self._stopping = False

    async def __aenter__(self) -> Probe:
        self._links = [grpc.aio.insecure_channel(target) for target in self._targets]
        stubs = [chat_service_pb2_grpc.ChatServiceStub(link) for link in self._links]
        self._tasks = [
            asyncio.ensure_future(self._client(stubs[turn % len(stubs)], place.channel_id))
            for turn, place in enumerate(self._places)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends once what is under way was answered or failed."""
        self._stopping = True
        await asyncio.gather(*self._tasks)
        for link in self._links:
            await link.close()

    async def _client(
        self, stub: chat_service_pb2_grpc.ChatServiceAsyncStub, channel_id: str
    ) -> None:
        while not self._stopping:
            request = new_message(channel_id)
            begun = time.monotonic()
            attempts = 0
            while not self._stopping:
                attempts += 1
                try:
                    await stub.SendMessage(request, metadata=self._metadata, timeout=ANSWER_S)
                except grpc.aio.AioRpcError as error:
                    if error.code() not in RETRIED:
                        self.refused.append(f"{channel_id}: {error.code()} {error.details()}")
                        return
                    await asyncio.sleep(PAUSE_S)
                else:
                    self.sent.append(Sent(channel_id, begun, time.monotonic(), attempts))
                    break
            await asyncio.sleep(self._every_s)


def new_message(channel_id: str) -> connect_pb2.SendMessageRequest:
    """A message of 100 bytes with an id of its own."""
    value = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    version7 = value & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62
    return connect_pb2.SendMessageRequest(
        channel_id=channel_id,
        client_message_id=str(uuid.UUID(int=version7)),
        content=message_pb2.MessageContent(text="x" * 100),
    )
