"""grpc.aio, with bandwidth probes or without: `aio TARGET [probe|calm]`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.rpc import status_pb2
from grpc import aio

from tests.wire.compat.gen import compat_pb2 as pb
from tests.wire.compat.gen import compat_pb2_grpc
from tests.wire.compat.python.report import SIZES, TEXT, equal, run_async

TIMEOUT_S = 20.0
INITIAL = (("echo-initial-a", "x y"), ("echo-initial-b-bin", bytes(range(256))))
TRAILING = (("echo-trailing-a", "1"), ("echo-trailing-a", "2"), ("echo-trailing-c-bin", b"\0"))


def kept(metadata: Any, prefix: str) -> list[tuple[str, str | bytes]]:
    """The pairs that were asked for."""
    return sorted((k, v) for k, v in metadata if k.startswith(prefix))


class Checks:
    """Each method is a check."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    async def unary(self) -> None:
        for size in SIZES:
            answer = await self._stub.Echo(pb.EchoRequest(payload=bytes(size)), timeout=TIMEOUT_S)
            equal(len(answer.payload), size)

    async def gzip(self) -> None:
        call = self._stub.Echo(
            pb.EchoRequest(payload=bytes(100_000), compress=True),
            compression=grpc.Compression.Gzip,
            timeout=TIMEOUT_S,
        )
        equal(len((await call).payload), 100_000)

    async def server_stream(self) -> None:
        call = self._stub.Repeat(pb.RepeatRequest(count=300, size=20_000), timeout=TIMEOUT_S)
        equal([answer.number async for answer in call], list(range(300)))

    async def client_stream(self) -> None:
        async def requests() -> AsyncIterator[pb.EchoRequest]:
            for _ in range(300):
                yield pb.EchoRequest(payload=bytes(10_000))

        answer = await self._stub.Collect(requests(), timeout=TIMEOUT_S)
        equal((answer.messages, answer.bytes), (300, 3_000_000))

    async def half_close(self) -> None:
        call = self._stub.Chat(timeout=TIMEOUT_S)
        for number in range(20):
            await call.write(pb.EchoRequest(payload=b"%d" % number))
            equal((await call.read()).payload, b"%d" % number)
        await call.done_writing()
        equal((await call.read()).end, True)
        equal(await call.read(), aio.EOF)
        equal(await call.code(), grpc.StatusCode.OK)

    async def server_finishes_first(self) -> None:
        call = self._stub.Chat(timeout=TIMEOUT_S)
        await call.write(pb.EchoRequest(finish=True))
        equal((await call.read()).number, 0)
        equal(await call.read(), aio.EOF)
        equal(await call.code(), grpc.StatusCode.OK)

    async def metadata(self) -> None:
        call = self._stub.Echo(pb.EchoRequest(), metadata=INITIAL + TRAILING, timeout=TIMEOUT_S)
        await call
        equal(kept(await call.initial_metadata(), "echo-"), sorted(INITIAL))
        equal(kept(await call.trailing_metadata(), "echo-"), sorted(TRAILING))

    async def status(self) -> None:
        for code in range(1, 17):
            request = pb.FailRequest(code=code, message=TEXT, detail="why")
            call = self._stub.Fail(request, metadata=TRAILING, timeout=TIMEOUT_S)
            await asyncio.gather(call, return_exceptions=True)
            equal((await call.code()).value[0], code)
            equal(await call.details(), TEXT)
            trailers = dict(await call.trailing_metadata())
            status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
            equal((status.code, len(status.details)), (code, 1))
            equal(kept(await call.trailing_metadata(), "echo-"), sorted(TRAILING))

    async def status_after_messages(self) -> None:
        call = self._stub.FailStream(pb.FailRequest(code=9, messages=3), timeout=TIMEOUT_S)
        seen = []
        try:
            async for answer in call:
                seen.append(answer.number)
        except aio.AioRpcError as error:
            equal(error.code(), grpc.StatusCode.FAILED_PRECONDITION)
        equal(seen, [0, 1, 2])

    async def deadline(self) -> None:
        call = self._stub.Sleep(pb.SleepRequest(key="deadline", ms=10_000), timeout=0.3)
        await asyncio.gather(call, return_exceptions=True)
        equal(await call.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        fate = await self._fate("deadline", cancelled=True)
        equal((fate.started, fate.cancelled, 0 < fate.time_remaining_s < 1), (True,) * 3)

    async def cancel(self) -> None:
        for name in ("Sleep", "SleepStream"):
            call = getattr(self._stub, name)(pb.SleepRequest(key=name, ms=10_000))
            waiting = asyncio.ensure_future(call.read() if name == "SleepStream" else call.code())
            equal((await self._fate(name)).started, True)
            call.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            equal(await call.code(), grpc.StatusCode.CANCELLED)
            equal((await self._fate(name, cancelled=True)).cancelled, True)

    async def unknown_method(self) -> None:
        channel: aio.Channel = self._stub.channel
        method: Any = channel.unary_unary("/compat.v1.Compat/None")
        call = method(b"", timeout=TIMEOUT_S)
        await asyncio.gather(call, return_exceptions=True)
        equal(await call.code(), grpc.StatusCode.UNIMPLEMENTED)

    async def many_at_once(self) -> None:
        calls = [
            self._stub.Echo(pb.EchoRequest(payload=b"%d" % n, delay_ms=n % 7), timeout=TIMEOUT_S)
            for n in range(200)
        ]
        answers = [(await call).payload for call in calls]
        equal(answers, [b"%d" % n for n in range(200)])

    async def _fate(self, key: str, *, cancelled: bool = False) -> pb.FateResponse:
        request = pb.FateRequest(key=key, wait_ms=5000, cancelled=cancelled)
        fate: pb.FateResponse = await self._stub.Fate(request, timeout=TIMEOUT_S)
        return fate


async def main(target: str, probe: str) -> None:
    """Runs all checks."""
    options = (("grpc.http2.bdp_probe", int(probe == "probe")),)
    async with aio.insecure_channel(target, options=options) as channel:
        stub: Any = compat_pb2_grpc.CompatStub(channel)
        stub.channel = channel
        checks = Checks(stub)
        named: dict[str, Callable[[], Awaitable[None]]] = {
            name: getattr(checks, name) for name in vars(Checks) if not name.startswith("_")
        }
        await run_async(named)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "probe"))
