"""grpcio, the client with threads: `sync TARGET`."""

from __future__ import annotations

import sys
from typing import Any

import grpc

from tests.wire.compat.gen import compat_pb2 as pb
from tests.wire.compat.gen import compat_pb2_grpc
from tests.wire.compat.python.report import SIZES, TEXT, equal, run

TIMEOUT_S = 20.0


class Checks:
    """Each method is a check."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    def unary(self) -> None:
        for size in SIZES:
            answer = self._stub.Echo(pb.EchoRequest(payload=bytes(size)), timeout=TIMEOUT_S)
            equal(len(answer.payload), size)

    def server_stream(self) -> None:
        call = self._stub.Repeat(pb.RepeatRequest(count=300, size=20_000), timeout=TIMEOUT_S)
        equal([answer.number for answer in call], list(range(300)))

    def client_stream(self) -> None:
        requests = (pb.EchoRequest(payload=bytes(10_000)) for _ in range(300))
        answer = self._stub.Collect(requests, timeout=TIMEOUT_S)
        equal((answer.messages, answer.bytes), (300, 3_000_000))

    def half_close(self) -> None:
        requests = (pb.EchoRequest(payload=b"%d" % number) for number in range(50))
        answers = list(self._stub.Chat(requests, timeout=TIMEOUT_S))
        equal([answer.payload for answer in answers[:-1]], [b"%d" % n for n in range(50)])
        equal(answers[-1].end, True)

    def status(self) -> None:
        try:
            self._stub.Fail(pb.FailRequest(code=9, message=TEXT), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            found: Any = error
            equal((found.code().value[0], found.details()), (9, TEXT))

    def deadline(self) -> None:
        try:
            self._stub.Sleep(pb.SleepRequest(key="sync", ms=10_000), timeout=0.3)
        except grpc.RpcError as error:
            found: Any = error
            equal(found.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        request = pb.FateRequest(key="sync", wait_ms=5000, cancelled=True)
        equal(self._stub.Fate(request, timeout=TIMEOUT_S).cancelled, True)


def main(target: str) -> None:
    """Runs all checks."""
    with grpc.insecure_channel(target) as channel:
        checks = Checks(compat_pb2_grpc.CompatStub(channel))
        run({name: getattr(checks, name) for name in vars(Checks) if not name.startswith("_")})


if __name__ == "__main__":
    main(sys.argv[1])
