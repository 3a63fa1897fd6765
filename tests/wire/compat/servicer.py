"""The service of compat.proto, written for grpc.aio; the wire must serve it unchanged."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import status_pb2

from tests.wire.compat.gen import compat_pb2 as pb
from tests.wire.compat.gen import compat_pb2_grpc

Pairs = tuple[tuple[str, str | bytes], ...]
CODES = {code.value[0]: code for code in grpc.StatusCode}
FOR_EVER_S = 3600.0


class Fates:
    """What became of the sleeps, by key."""

    def __init__(self) -> None:
        self.started: dict[str, float] = {}
        self.cancelled: set[str] = set()
        self.changed = asyncio.Condition()

    async def note(self, key: str, remaining: float | None) -> None:
        async with self.changed:
            self.started[key] = -1.0 if remaining is None else remaining
            self.changed.notify_all()

    async def note_cancelled(self, key: str) -> None:
        async with self.changed:
            self.cancelled.add(key)
            self.changed.notify_all()


def echoed(context: Any, prefix: str) -> Pairs:
    """The metadata that the client wants back."""
    metadata: Iterable[tuple[str, str | bytes]] = context.invocation_metadata()
    return tuple((key, value) for key, value in metadata if key.startswith(prefix))


class Compat(compat_pb2_grpc.CompatServicer):
    """See compat.proto."""

    def __init__(self) -> None:
        self._fates = Fates()

    @staticmethod
    async def _begin(context: Any) -> None:
        await context.send_initial_metadata(echoed(context, "echo-initial-"))
        context.set_trailing_metadata(echoed(context, "echo-trailing-"))

    async def Echo(  # noqa: N802
        self, request: pb.EchoRequest, context: Any
    ) -> pb.EchoResponse:
        if request.compress:
            context.set_compression(grpc.Compression.Gzip)
        await self._begin(context)
        await asyncio.sleep(request.delay_ms / 1000)
        return pb.EchoResponse(payload=request.payload)

    async def Repeat(  # noqa: N802
        self, request: pb.RepeatRequest, context: Any
    ) -> AsyncIterator[pb.EchoResponse]:
        if request.compress:
            context.set_compression(grpc.Compression.Gzip)
        await self._begin(context)
        for number in range(request.count):
            yield pb.EchoResponse(payload=bytes(request.size), number=number)

    async def Collect(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.EchoRequest], context: Any
    ) -> pb.CollectResponse:
        await self._begin(context)
        answer = pb.CollectResponse()
        async for request in request_iterator:
            answer.messages += 1
            answer.bytes += len(request.payload)
        return answer

    async def Chat(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.EchoRequest], context: Any
    ) -> AsyncIterator[pb.EchoResponse]:
        await self._begin(context)
        number = 0
        async for request in request_iterator:
            yield pb.EchoResponse(payload=request.payload, number=number)
            if request.finish:
                return
            number += 1
        yield pb.EchoResponse(number=number, end=True)

    async def Fail(self, request: pb.FailRequest, context: Any) -> pb.EchoResponse:  # noqa: N802
        await self._begin(context)
        await self._fail(request, context)
        return pb.EchoResponse()

    async def FailStream(  # noqa: N802
        self, request: pb.FailRequest, context: Any
    ) -> AsyncIterator[pb.EchoResponse]:
        await self._begin(context)
        for number in range(request.messages):
            yield pb.EchoResponse(number=number)
        await self._fail(request, context)

    @staticmethod
    async def _fail(request: pb.FailRequest, context: Any) -> None:
        trailers = echoed(context, "echo-trailing-")
        if request.detail:
            detail = AnyMessage()
            detail.Pack(pb.FailRequest(message=request.detail))
            status = status_pb2.Status(code=request.code, message=request.message, details=[detail])
            trailers += (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(CODES[request.code], request.message, trailers)

    async def Sleep(self, request: pb.SleepRequest, context: Any) -> pb.EchoResponse:  # noqa: N802
        await self._sleep(request, context)
        return pb.EchoResponse()

    async def SleepStream(  # noqa: N802
        self, request: pb.SleepRequest, context: Any
    ) -> AsyncIterator[pb.EchoResponse]:
        yield pb.EchoResponse()
        await self._sleep(request, context)

    async def _sleep(self, request: pb.SleepRequest, context: Any) -> None:
        remaining = context.time_remaining()
        # grpc.aio says of a call without a deadline that it has very long.
        limited = remaining is not None and remaining < FOR_EVER_S
        await self._fates.note(request.key, remaining if limited else None)
        try:
            await asyncio.sleep(request.ms / 1000)
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.ensure_future(self._fates.note_cancelled(request.key)))
            raise

    async def Fate(self, request: pb.FateRequest, context: Any) -> pb.FateResponse:  # noqa: N802
        fates, key = self._fates, request.key

        def known() -> bool:
            return key in (fates.cancelled if request.cancelled else fates.started)

        async with fates.changed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(fates.changed.wait_for(known), request.wait_ms / 1000)
        return pb.FateResponse(
            started=key in fates.started,
            cancelled=key in fates.cancelled,
            time_remaining_s=fates.started.get(key, -1.0),
        )
