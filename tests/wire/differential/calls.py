"""Random calls, and everything that a client can see of how they went."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from grpc import aio

from tests.wire.compat.gen import compat_pb2 as pb
from tests.wire.compat.gen import compat_pb2_grpc

SIZES = (0, 1, 5, 100, 16_379, 16_384, 65_535, 300_000, (4 << 20) - 100)
TEXTS = ("", "plain", "50 % ünïcode\r\n\t", "x" * 700, "😀")
TIMEOUT_S = 20.0
# What gRPC adds by itself, and what names the implementation.
_OURS = ("echo-", "grpc-status-details-bin")


@dataclass(frozen=True)
class Outcome:
    """What a client saw.

    Attributes:
        answers: Of each message its number and the hash of its payload.
    """

    answers: tuple[tuple[int, bool, str], ...]
    code: grpc.StatusCode
    details: str
    initial: tuple[tuple[str, str | bytes], ...]
    trailing: tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True)
class Plan:
    """A call to make: the same for both servers."""

    name: str
    requests: tuple[pb.EchoRequest, ...]
    request: Any
    metadata: tuple[tuple[str, str | bytes], ...]
    timeout_s: float
    compression: grpc.Compression
    # Cancelled by the client after so many answers; -1: not.
    cancel_after: int
    half_close_early: bool


def plan(chance: random.Random) -> Plan:
    """A random call."""
    name = chance.choice(
        ["Echo", "Echo", "Repeat", "Collect", "Chat", "Chat", "Fail", "FailStream", "Sleep", "None"]
    )
    metadata: list[tuple[str, str | bytes]] = []
    for _ in range(chance.randrange(4)):
        where = chance.choice(["initial", "trailing"])
        if chance.random() < 0.5:
            metadata.append((f"echo-{where}-b-bin", chance.randbytes(chance.randrange(40))))
        else:
            metadata.append((f"echo-{where}-a", chance.choice(["x", "a b", "~!@#$^&*()"])))
    size = chance.choice(SIZES[:-1]) if name != "Echo" else chance.choice(SIZES)
    request: Any = pb.EchoRequest(payload=chance.randbytes(size), compress=chance.random() < 0.3)
    timeout_s = TIMEOUT_S
    if name == "Repeat":
        request = pb.RepeatRequest(count=chance.randrange(40), size=chance.choice(SIZES[:6]))
    elif name in ("Fail", "FailStream"):
        request = pb.FailRequest(
            code=chance.randrange(1, 17),
            message=chance.choice(TEXTS),
            detail=chance.choice(["", "why"]),
            messages=chance.randrange(3),
        )
    elif name == "Sleep":
        request = pb.SleepRequest(key=str(chance.random()), ms=20_000)
        timeout_s = 0.15
    early = chance.random() < 0.3
    requests = tuple(
        pb.EchoRequest(
            payload=chance.randbytes(chance.choice(SIZES[:7])),
            finish=not early and chance.random() < 0.1,
        )
        for _ in range(chance.randrange(8))
    )
    return Plan(
        name,
        requests,
        request,
        tuple(metadata),
        timeout_s,
        chance.choice([grpc.Compression.NoCompression, grpc.Compression.Gzip]),
        chance.randrange(4) if name == "Chat" and chance.random() < 0.2 else -1,
        early,
    )


class Client:
    """Makes the calls."""

    def __init__(self, channel: aio.Channel) -> None:
        self._channel = channel
        self._stub: Any = compat_pb2_grpc.CompatStub(channel)

    async def make(self, what: Plan) -> Outcome:
        """Makes a call and says how it went."""
        options = {
            "metadata": what.metadata,
            "timeout": what.timeout_s,
            "compression": what.compression,
        }
        if what.name == "None":
            method: Any = self._channel.unary_unary("/compat.v1.Compat/None")
            call = method(b"", **options)
            return await self._end(what, call, lambda: call)
        method = getattr(self._stub, what.name)
        if what.name == "Chat":
            return await self._chat(method(**options), what)
        if what.name == "Collect":
            call = method(_each(what.requests), **options)
            return await self._end(what, call, lambda: call)
        call = method(what.request, **options)
        if what.name in ("Repeat", "FailStream"):
            return await self._stream(what, call)
        return await self._end(what, call, lambda: call)

    async def _chat(self, call: Any, what: Plan) -> Outcome:
        answers: list[Any] = []
        try:
            for number, request in enumerate(what.requests):
                if number == what.cancel_after:
                    call.cancel()
                    break
                await call.write(request)
                if not what.half_close_early:
                    answer = await call.read()
                    if answer is aio.EOF:
                        break
                    answers.append(answer)
                if request.finish:
                    break  # grpc.aio fails a write into a call that has just ended
            else:
                await call.done_writing()
            while (answer := await call.read()) is not aio.EOF:
                answers.append(answer)
        except (aio.AioRpcError, asyncio.CancelledError, asyncio.InvalidStateError):
            pass
        if what.cancel_after >= 0:
            answers = []  # how many came before the cancellation is chance
        return await self._outcome(what, call, answers, cancelled=what.cancel_after >= 0)

    async def _stream(self, what: Plan, call: Any) -> Outcome:
        answers = []
        try:
            async for answer in call:
                answers.append(answer)
        except aio.AioRpcError:
            pass
        return await self._outcome(what, call, answers)

    async def _end(self, what: Plan, call: Any, wait: Callable[[], Awaitable[Any]]) -> Outcome:
        answers = []
        with contextlib.suppress(aio.AioRpcError):
            answers.append(await wait())
        return await self._outcome(what, call, answers)

    @staticmethod
    async def _outcome(
        what: Plan, call: Any, answers: list[Any], *, cancelled: bool = False
    ) -> Outcome:
        code, details = await call.code(), await call.details()
        if what.name in ("None", "Sleep"):
            # Texts of the implementation; of a deadline it is chance which side's is first.
            details = ""
        return Outcome(
            tuple((getattr(a, "number", 0), getattr(a, "end", False), _hash(a)) for a in answers),
            code,
            details or "",
            # A status that comes in one piece with the head makes grpc.aio forget the head.
            _kept(await call.initial_metadata()) if answers else (),
            () if cancelled else _kept(await call.trailing_metadata()),
        )


def _hash(answer: Any) -> str:
    return hashlib.sha256(answer.SerializeToString(deterministic=True)).hexdigest()[:16]


def _kept(metadata: Any) -> tuple[tuple[str, str | bytes], ...]:
    pairs = ((key, value) for key, value in metadata or () if key.startswith(_OURS))
    return tuple(sorted(pairs, key=str))


async def _each(requests: tuple[pb.EchoRequest, ...]) -> AsyncIterator[pb.EchoRequest]:
    for request in requests:
        yield request
