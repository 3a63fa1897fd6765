"""Makes a planned call of one server, and gives all that can be seen of how it went."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import BytesValue
from grpc import StatusCode, aio

from tests.wire.differential.plans import BROKEN, Plan
from tests.wire.differential.scripted import CALL, SCRIPT, Pairs, Print, Side, payload, print_of

# No call may take longer, whatever was planned.
STUCK_S = 20.0
HANDLER_S = 5.0
# Fields that a server is shown and that are no metadata of ours: the client's name, and what
# says which call of the test it is.
EXTRAS = frozenset({"user-agent", SCRIPT, CALL})

# grpc.aio's client says so of a call whose status came while a write was under way, and forgets
# the status. And it forgets the head of a stream if the status comes in the same read. Both are
# a matter of who is faster, and happen on both cores; so such a call is made again by the client
# of threads, which forgets nothing.
_LOST_WRITE = (StatusCode.INTERNAL, "Internal error from Core")

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Handler:
    """What the handler saw."""

    received: tuple[Print, ...]
    eof: bool
    ending: str
    metadata: Pairs
    deadline: bool


@dataclass(frozen=True)
class Outcome:
    """What can be seen of a call, from both its ends.

    Attributes:
        handler: None: it was not run.
        stuck: The call did not end.
    """

    messages: tuple[Print, ...] = ()
    code: StatusCode | None = None
    details: str = ""
    initial: Pairs = ()
    trailing: Pairs = ()
    handler: Handler | None = None
    stuck: str = ""


def _requests(plan: Plan) -> list[bytes]:
    return [
        BROKEN
        if number == plan.broken
        else BytesValue(value=payload(size, number)).SerializeToString()
        for number, size in enumerate(plan.requests)
    ]


class _Conversation:
    """One call."""

    def __init__(self, side: Side, plan: Plan) -> None:
        self.plan = plan
        self.number = str(next(_numbers))
        self.got: list[Print] = []
        self._enough = asyncio.Event()
        metadata = (*plan.metadata, (CALL, self.number), (SCRIPT, repr(plan.script).encode()))
        options: dict[str, Any] = {
            "metadata": metadata,
            "timeout": plan.timeout_s,
            "compression": plan.compression,
        }
        self._data = _requests(plan)
        channel: Any = side.channel
        if not plan.native:
            self.call: Any = channel.stream_stream(plan.method)(**options)
        elif plan.streams_out:
            self.call = channel.unary_stream(plan.method)(self._data[0], **options)
        else:
            self.call = channel.unary_unary(plan.method)(self._data[0], **options)

    def _took(self, data: bytes) -> None:
        self.got.append(print_of(data))
        if len(self.got) >= self.plan.late_after:
            self._enough.set()

    async def run(self) -> None:
        """To its end; the status is then there."""
        plan = self.plan
        if plan.cancel == ("start", 0):
            await asyncio.sleep(0)
            self.call.cancel()
        try:
            if plan.native and not plan.streams_out:
                self._took(await self.call)
            else:
                sending = asyncio.ensure_future(self._send())
                try:
                    await self._receive()
                finally:
                    self._enough.set()
                    await self.call.code()
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
        except (aio.AioRpcError, asyncio.CancelledError):
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise

    async def _send(self) -> None:
        plan, call = self.plan, self.call
        if plan.native:
            return
        try:
            for number, data in enumerate(self._data, 1):
                await call.write(data)
                if plan.cancel == ("sent", number):
                    call.cancel()
            if plan.half_close == "late":
                if plan.late_after:
                    await self._enough.wait()
                await call.done_writing()
            elif plan.half_close == "early":
                await call.done_writing()
        except (aio.AioRpcError, asyncio.InvalidStateError, aio.UsageError):
            pass  # the server has ended the call; the status says how

    async def _receive(self) -> None:
        plan, call = self.plan, self.call
        while plan.read_most < 0 or len(self.got) < plan.read_most:
            data = await call.read()
            if data is aio.EOF:
                return
            self._took(data)
            if plan.cancel == ("got", len(self.got)):
                call.cancel()
                return


class _Threaded:
    """The same by grpc's client of threads, whose status is always the server's."""

    def __init__(self, side: Side, plan: Plan) -> None:
        self.number = str(next(_numbers))
        self.got: list[Print] = []
        self._plan = plan
        self._enough = threading.Event()
        metadata = (*plan.metadata, (CALL, self.number), (SCRIPT, repr(plan.script).encode()))
        method: Any = side.threaded.stream_stream(plan.method)
        self.call: Any = method(
            self._each(_requests(plan)),
            metadata=metadata,
            timeout=plan.timeout_s,
            compression=plan.compression,
        )

    def _each(self, requests: list[bytes]) -> Iterator[bytes]:
        yield from requests
        if self._plan.half_close == "never" or (
            self._plan.half_close == "late" and self._plan.late_after
        ):
            self._enough.wait(STUCK_S)

    def run(self) -> None:
        plan = self._plan
        try:
            for data in self.call:
                self.got.append(print_of(data))
                if len(self.got) >= plan.late_after and plan.half_close == "late":
                    self._enough.set()
                if len(self.got) == plan.read_most:
                    break
        except grpc.RpcError:
            pass
        self.call.code()
        self._enough.set()


async def outcome_of(side: Side, plan: Plan) -> Outcome:
    """Makes the call; bounded in time."""
    outcome = await _asynchronous(side, plan)
    if plan.cancel is None and not outcome.stuck and _forgot(outcome, plan):
        side.forgotten += 1
        outcome = await _threaded(side, plan)
    return outcome


def _forgot(outcome: Outcome, plan: Plan) -> bool:
    """Whether grpc.aio's client may have forgotten what came."""
    if (outcome.code, outcome.details) == _LOST_WRITE:
        return True
    head = any(verb == "head" and arguments[0] for verb, *arguments in plan.script)
    return head and not outcome.initial


async def _threaded(side: Side, plan: Plan) -> Outcome:
    conversation = _Threaded(side, plan)
    call = conversation.call
    # The call has no deadline that the plan does not give it: the handler sees that.
    stuck = asyncio.get_running_loop().call_later(STUCK_S, call.cancel)
    await asyncio.to_thread(conversation.run)
    stuck.cancel()
    status = call.code(), call.details(), call.initial_metadata(), call.trailing_metadata()
    return await _with_handler(side, plan, conversation.number, conversation.got, status)


async def _asynchronous(side: Side, plan: Plan) -> Outcome:
    conversation = _Conversation(side, plan)
    call = conversation.call
    try:
        async with asyncio.timeout(STUCK_S):
            await conversation.run()
            code, details = await call.code(), await call.details()
            initial, trailing = await call.initial_metadata(), await call.trailing_metadata()
    except TimeoutError:
        call.cancel()
        return Outcome(tuple(conversation.got), stuck="the call did not end")
    status = code, details, initial, trailing
    return await _with_handler(side, plan, conversation.number, conversation.got, status)


async def _with_handler(
    side: Side, plan: Plan, number: str, got: list[Print], status: tuple[Any, Any, Any, Any]
) -> Outcome:
    """A call's outcome, once its handler has ended too."""
    code, details, initial, trailing = status
    seen = side.journal.of(number)
    stuck = ""
    if plan.reaches_handler:
        try:
            async with asyncio.timeout(HANDLER_S):
                await seen.over.wait()
        except TimeoutError:
            stuck = "the handler did not end"
    side.journal.forget(number)
    handler = None
    if seen.ending or stuck:
        handler = Handler(
            tuple(seen.received), seen.eof, seen.ending, _pairs(seen.metadata), seen.deadline
        )
    return Outcome(
        tuple(got),
        code,
        details or "",
        _pairs(initial),
        _pairs(trailing),
        handler,
        stuck,
    )


def _pairs(metadata: Any) -> Pairs:
    """Sorted by name: the order of the values of one name means something, that of names not."""
    pairs = ((str(key), value) for key, value in metadata or () if key not in EXTRAS)
    return tuple(sorted(pairs, key=lambda pair: pair[0]))


def comparable(outcome: Outcome, plan: Plan) -> Outcome:
    """An outcome without what may differ."""
    code, details, messages = outcome.code, outcome.details, outcome.messages
    initial, handler = outcome.initial, outcome.handler
    if not plan.known or plan.oversize or plan.refused_head:
        details = ""  # of the implementation
    if code in (StatusCode.DEADLINE_EXCEEDED, StatusCode.CANCELLED) and "hang" in plan.verbs:
        details = ""  # it is chance which side's clock is first, and each has its words
    if code in (StatusCode.UNKNOWN, StatusCode.INTERNAL) and (
        "raise" in plan.verbs or plan.broken >= 0
    ):
        # What a handler raises, which is no status, is UNKNOWN in grpc.aio, with its text; on the
        # wire it is INTERNAL, and its text is the log's alone. Bytes that are no message are
        # INTERNAL by gRPC's table of codes; grpc.aio takes them for an error of the handler.
        code, details = StatusCode.UNKNOWN, ""
    if "raise" in plan.verbs:
        details = ""  # the code may be one that the handler had set
    if not plan.streams_out and code is not StatusCode.OK:
        # A client of such a method is given none: only here, where it is called as if it were a
        # stream, does it show. grpc.aio sends an empty one, the wire what the handler gave.
        messages = ()
    if not plan.exact:
        messages = ()  # see `differences`
        initial = ()
    if handler is not None:
        received, eof, ending = handler.received, handler.eof, handler.ending
        if plan.oversize and plan.streams_in:
            # grpc.aio tells the handler that the client has sent all, and lets it go on; the
            # wire cancels it at once, perhaps before it has taken the messages before.
            received, eof, ending = (), False, "cut off"
        if plan.half_close == "never":
            eof = False  # grpc.aio says so of a call whose deadline has passed
        if not plan.exact or plan.cancel is not None:
            received, eof = (), False  # how far it got by then is chance
        handler = replace(handler, received=received, eof=eof, ending=ending)
    return Outcome(messages, code, details, initial, outcome.trailing, handler, outcome.stuck)


def differences(ours: Outcome, theirs: Outcome, plan: Plan) -> list[str]:
    """What differs between two outcomes of one plan, a line each."""
    if plan.cardinality and not plan.requests:
        # The wire refuses it. grpc.aio says nothing, or fails in its own code.
        refused = ours.code is StatusCode.INTERNAL and ours.handler is None and not ours.stuck
        return [] if refused else [f"cardinality: wire {ours!r}"]
    mine, other = comparable(ours, plan), comparable(theirs, plan)
    found = []
    for name in ("messages", "code", "details", "initial", "trailing", "handler", "stuck"):
        one, two = getattr(mine, name), getattr(other, name)
        if one != two:
            found.append(f"{name}: wire {one!r}, grpcio {two!r}")
    least = min(len(ours.messages), len(theirs.messages))
    if plan.streams_out and ours.messages[:least] != theirs.messages[:least]:
        found.append(f"messages begin: wire {ours.messages!r}, grpcio {theirs.messages!r}")
    return found
