"""grpclib, which speaks HTTP/2 by h2: `pure TARGET`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from tests.wire.compat.gen import compat_pb2 as pb
from tests.wire.compat.gen.compat_grpc import CompatStub
from tests.wire.compat.python.report import SIZES, TEXT, equal, run_async

TIMEOUT_S = 20.0


class Checks:
    """Each method is a check."""

    def __init__(self, stub: CompatStub) -> None:
        self._stub = stub

    async def unary(self) -> None:
        for size in SIZES:
            answer = await self._stub.Echo(pb.EchoRequest(payload=bytes(size)), timeout=TIMEOUT_S)
            equal(len(answer.payload), size)

    async def server_stream(self) -> None:
        answers = await self._stub.Repeat(
            pb.RepeatRequest(count=300, size=20_000), timeout=TIMEOUT_S
        )
        equal([answer.number for answer in answers], list(range(300)))

    async def client_stream(self) -> None:
        requests = [pb.EchoRequest(payload=bytes(10_000)) for _ in range(300)]
        answer = await self._stub.Collect(requests, timeout=TIMEOUT_S)
        equal((answer.messages, answer.bytes), (300, 3_000_000))

    async def half_close(self) -> None:
        async with self._stub.Chat.open(timeout=TIMEOUT_S) as stream:
            for number in range(20):
                await stream.send_message(pb.EchoRequest(payload=b"%d" % number))
                answer = await stream.recv_message()
                equal(answer and answer.payload, b"%d" % number)
            await stream.end()
            answer = await stream.recv_message()
            equal(answer and answer.end, True)

    async def status(self) -> None:
        try:
            await self._stub.Fail(pb.FailRequest(code=9, message=TEXT), timeout=TIMEOUT_S)
        except GRPCError as error:
            equal((error.status, error.message), (Status.FAILED_PRECONDITION, TEXT))

    async def cancel(self) -> None:
        task = asyncio.ensure_future(self._stub.Sleep(pb.SleepRequest(key="pure", ms=10_000)))
        equal((await self._stub.Fate(pb.FateRequest(key="pure", wait_ms=5000))).started, True)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        request = pb.FateRequest(key="pure", wait_ms=5000, cancelled=True)
        equal((await self._stub.Fate(request)).cancelled, True)


async def main(target: str) -> None:
    """Runs all checks."""
    host, _, port = target.rpartition(":")
    async with Channel(host, int(port)) as channel:
        checks = Checks(CompatStub(channel))
        named: dict[str, Callable[[], Awaitable[None]]] = {
            name: getattr(checks, name) for name in vars(Checks) if not name.startswith("_")
        }
        await run_async(named)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
