"""gRPC's interop test services, written for grpc.aio's interface and so for the wire's too."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

from tests.wire.interop.gen import orca_pb2, orca_pb2_grpc, testing_pb2, testing_pb2_grpc

if TYPE_CHECKING:
    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"
LOAD_REPORT = "endpoint-load-metrics-bin"
CODES = {code.value[0]: code for code in grpc.StatusCode}


def payload(kind: testing_pb2.PayloadType.ValueType, size: int) -> testing_pb2.Payload:
    """Zeros, as many as asked for."""
    return testing_pb2.Payload(type=kind, body=bytes(size))


def load(asked: testing_pb2.TestOrcaReport) -> orca_pb2.OrcaLoadReport:
    """The report that a request asks for."""
    return orca_pb2.OrcaLoadReport(
        cpu_utilization=asked.cpu_utilization,
        mem_utilization=asked.memory_utilization,
        request_cost=dict(asked.request_cost),
        utilization=dict(asked.utilization),
    )


async def echo_metadata(context: Context) -> None:
    """Sends back what the call's metadata asks for."""
    sent = {str(key): value for key, value in context.invocation_metadata() or ()}
    if ECHO_INITIAL in sent:
        await context.send_initial_metadata(((ECHO_INITIAL, sent[ECHO_INITIAL]),))
    if ECHO_TRAILING in sent:
        context.set_trailing_metadata(((ECHO_TRAILING, sent[ECHO_TRAILING]),))


async def end_as_asked(
    request: testing_pb2.SimpleRequest | testing_pb2.StreamingOutputCallRequest, context: Context
) -> None:
    """Ends the call with the status that the request asks for, if any."""
    status = request.response_status
    if status.code:
        code = CODES.get(status.code, grpc.StatusCode.UNKNOWN)
        await context.abort(code, status.message)


async def answers(
    request: testing_pb2.StreamingOutputCallRequest,
) -> AsyncIterator[testing_pb2.StreamingOutputCallResponse]:
    """The messages that a request asks for, each after its pause."""
    for asked in request.response_parameters:
        if asked.interval_us > 0:
            await asyncio.sleep(asked.interval_us / 1e6)
        yield testing_pb2.StreamingOutputCallResponse(
            payload=payload(request.response_type, asked.size)
        )


class InteropServicer(testing_pb2_grpc.TestServiceServicer):
    """TestService; UnimplementedCall stays the generated one, a plain function that refuses.

    `expect_compressed` is not looked at: an application does not see how a message came.

    Args:
        report: Where requests put what `LoadServicer` reports.
    """

    def __init__(self, report: orca_pb2.OrcaLoadReport) -> None:
        self._report = report
        self._report_taken = asyncio.Lock()
        self._id = uuid.uuid4().hex

    async def EmptyCall(  # noqa: N802
        self, request: testing_pb2.Empty, context: Context
    ) -> testing_pb2.Empty:
        return testing_pb2.Empty()

    async def UnaryCall(  # noqa: N802
        self, request: testing_pb2.SimpleRequest, context: Context
    ) -> testing_pb2.SimpleResponse:
        if request.response_compressed.value:
            context.set_compression(grpc.Compression.Gzip)
        await echo_metadata(context)
        await end_as_asked(request, context)
        if request.HasField("orca_per_query_report"):
            report = load(request.orca_per_query_report).SerializeToString()
            context.set_trailing_metadata(((LOAD_REPORT, report),))
        return testing_pb2.SimpleResponse(
            payload=payload(request.response_type, request.response_size),
            server_id=self._id if request.fill_server_id else "",
        )

    async def CacheableUnaryCall(  # noqa: N802
        self, request: testing_pb2.SimpleRequest, context: Context
    ) -> testing_pb2.SimpleResponse:
        await context.send_initial_metadata((("cache-control", "max-age=60, public"),))
        now = str(time.time_ns()).encode()
        return testing_pb2.SimpleResponse(payload=testing_pb2.Payload(body=now))

    async def StreamingOutputCall(  # noqa: N802
        self, request: testing_pb2.StreamingOutputCallRequest, context: Context
    ) -> AsyncIterator[testing_pb2.StreamingOutputCallResponse]:
        if any(asked.compressed.value for asked in request.response_parameters):
            context.set_compression(grpc.Compression.Gzip)
        async for answer in answers(request):
            yield answer

    async def StreamingInputCall(  # noqa: N802
        self, requests: AsyncIterator[testing_pb2.StreamingInputCallRequest], context: Context
    ) -> testing_pb2.StreamingInputCallResponse:
        size = 0
        async for request in requests:
            size += len(request.payload.body)
        return testing_pb2.StreamingInputCallResponse(aggregated_payload_size=size)

    async def FullDuplexCall(  # noqa: N802
        self, requests: AsyncIterator[testing_pb2.StreamingOutputCallRequest], context: Context
    ) -> AsyncIterator[testing_pb2.StreamingOutputCallResponse]:
        await echo_metadata(context)
        reports = False
        try:
            async for request in requests:
                await end_as_asked(request, context)
                if request.HasField("orca_oob_report"):
                    if not reports:
                        await self._report_taken.acquire()
                        reports = True
                    self._report.CopyFrom(load(request.orca_oob_report))
                async for answer in answers(request):
                    yield answer
        finally:
            if reports:
                self._report_taken.release()

    async def HalfDuplexCall(  # noqa: N802
        self, requests: AsyncIterator[testing_pb2.StreamingOutputCallRequest], context: Context
    ) -> AsyncIterator[testing_pb2.StreamingOutputCallResponse]:
        for request in [request async for request in requests]:
            async for answer in answers(request):
                yield answer


class LoadServicer(orca_pb2_grpc.OpenRcaServiceServicer):
    """Reports, again and again, the load that a test case has put in."""

    def __init__(self, report: orca_pb2.OrcaLoadReport) -> None:
        self._report = report

    async def StreamCoreMetrics(  # noqa: N802
        self, request: orca_pb2.OrcaLoadReportRequest, context: Context
    ) -> AsyncIterator[orca_pb2.OrcaLoadReport]:
        asked = request.report_interval
        while True:
            yield self._report
            await asyncio.sleep(max(asked.seconds + asked.nanos / 1e9, 0.1))


def register(server: Any) -> None:
    """Adds the services to a server of any kind. UnimplementedService is left out, as its name
    asks.

    Args:
        server: What the generated functions take.
    """
    report = orca_pb2.OrcaLoadReport()
    servicer = InteropServicer(report)  # type: ignore[abstract]  # see its docstring
    testing_pb2_grpc.add_TestServiceServicer_to_server(servicer, server)
    orca_pb2_grpc.add_OpenRcaServiceServicer_to_server(LoadServicer(report), server)
