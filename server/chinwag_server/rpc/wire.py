"""The wire adapter: serves a registry through the middleware with our own gRPC core.

Three kinds of calls: unary ones and streams of coroutines are a task that reads and writes by
awaiting; pushed streams (see `pushed`) have no task at all while they wait.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable

from chinwag_server.rpc.call import CallFailed, Head, PeerGone, read_metadata
from chinwag_server.rpc.eager import run_eagerly
from chinwag_server.rpc.errors import Refusal
from chinwag_server.rpc.listening import AGE_GRACE_MS, ListenOptions
from chinwag_server.rpc.middleware import Middleware
from chinwag_server.rpc.pushed import PushedStream
from chinwag_server.rpc.ratelimit import AddressSet
from chinwag_server.rpc.registry import Method, Registry
from chinwag_server.wire.call import Call
from chinwag_server.wire.dispatch import Dispatch
from chinwag_server.wire.limits import Limits
from chinwag_server.wire.listener import Listener
from chinwag_server.wire.listener import Tls as WireTls
from chinwag_server.wire.running import CallOver, Running
from chinwag_server.wire.status import CallError, Code

_SLACK = 2
# A stream that is not let in is told so after its client's first message, or after so long: a
# client that is just writing it may take the failure of that for the status (grpc.aio does).
REFUSAL_DELAY_S = 0.2

# What a call that breaks a rule of gRPC itself is told, by the core's status.
_REASONS = {
    Code.RESOURCE_EXHAUSTED: "TOO_LARGE",
    Code.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
    Code.UNIMPLEMENTED: "NOT_IMPLEMENTED",
}


class WireServer:
    """A server of a registry on wire.

    Attributes:
        port: The bound port, after `start`.
    """

    def __init__(self, registry: Registry, middleware: Middleware, options: ListenOptions) -> None:
        self.port = 0
        self._registry = registry
        self._middleware = middleware
        self._options = options
        self._listener: Listener | None = None

    async def start(self) -> None:
        """Binds the port and serves.

        Raises:
            ListenError: The address may not be used, or the port is taken.
        """
        options = self._options
        options.check()
        trusted = AddressSet(options.trusted_proxies)
        listener = Listener(
            Dispatch(self._open, _refuse),
            limits_of(options),
            is_trusted=trusted.__contains__,
        )
        tls = None
        if options.tls is not None:
            files = options.tls
            tls = WireTls(files.cert_file, files.key_file, files.client_ca_file)
        try:
            self.port = await listener.listen(options.host, options.port, tls)
        except OSError as error:
            raise options.in_use() from error
        self._listener = listener

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, waits for running ones, at most so long, and ends the others."""
        if self._listener is not None:
            await self._listener.stop(grace_s)
            self._listener = None

    def _open(self, call: Call) -> None:
        method = self._registry.get(call.path)
        if method is None:
            refusal = Refusal("NOT_IMPLEMENTED", "this server has no such method")
            _fail(call, CallFailed(refusal.status(), head_of(call).request_id))
            call.stream.connection.charge_reset()
        elif method.pushed:
            _Pushed(call, method, self._middleware)
        elif method.request_streaming or method.response_streaming:
            _open_stream(call, method, self._middleware)
        else:
            _open_unary(call, method, self._middleware)


def limits_of(options: ListenOptions) -> Limits:
    """The core's bounds. What is above a limit is let through to whoever refuses it as it should
    be refused (a stream's frame inside the stream); from twice as much on the core refuses."""
    return Limits(
        connections=options.connections,
        concurrent_streams=options.connection_streams,
        message_bytes=_SLACK * options.message_bytes,
        header_list_bytes=_SLACK * options.metadata_bytes,
        keepalive_s=options.keepalive_ms / 1000,
        keepalive_timeout_s=options.ping_timeout_ms / 1000,
        stall_s=options.stall_ms / 1000,
        age_s=options.age_ms / 1000,
        age_grace_s=AGE_GRACE_MS / 1000,
    )


def head_of(call: Call) -> Head:
    """What the middleware needs to know of a call."""
    # Only what the client set counts, as with the other adapter: not gRPC's own fields.
    text, size = read_metadata(call.metadata)
    return Head(text, size, call.peer, call.timeout_s)


def _fail(call: Call, failure: CallFailed) -> None:
    status = failure.status
    call.finish(status.code, status.message, failure.trailers)
    if status.code == Code.UNAUTHENTICATED:
        # Each costs as much as a call that is let in; who logs in anew makes few of them.
        call.stream.connection.blame()


def _refuse(call: Call, error: CallError) -> None:
    """Ends a call that breaks a rule of gRPC, with a reason as all others have."""
    reason = _REASONS.get(Code(error.code), "MALFORMED")
    _fail(call, CallFailed(Refusal(reason, error.message).status(), head_of(call).request_id))


def _open_unary(call: Call, method: Method, middleware: Middleware) -> None:
    if call.unread:
        _refuse(call, call.unread_error())
        return
    running = Running(call, _refuse)
    call.await_message()
    # Nothing of the body is looked at, or inflated, before the call is let in.
    call.hold()

    async def run() -> None:
        try:
            answer = await middleware.unary(method, head_of(call), running.read)
        except CallFailed as failure:
            _fail(call, failure)
        except asyncio.CancelledError:
            call.cancel()
            if running.ended_by is None:
                raise
        else:
            call.send(answer)
            call.finish()

    running.start(run())


def _open_stream(call: Call, method: Method, middleware: Middleware) -> None:
    running = Running(call, _refuse)
    if not method.request_streaming:
        call.await_message()
    call.hold()

    async def write(data: bytes) -> None:
        try:
            await running.write(data)
        except CallOver as error:
            raise PeerGone("the client is gone") from error

    async def run() -> None:
        messages: AsyncIterator[bytes] = running.messages()
        try:
            await middleware.stream(method, head_of(call), messages, write)
        except CallFailed as failure:
            _fail(call, failure)
        except asyncio.CancelledError:
            call.cancel()
            if running.ended_by is None:
                raise
        else:
            call.finish()

    running.start(run())


class _Pushed:
    """A pushed stream: the call's receiver and the stream's sink in one.

    No frame is taken before the stream is admitted, nor while an earlier one is being handled.
    """

    __slots__ = ("_call", "_ended_early", "_opened", "_refused", "_stream", "_task", "_timer")

    def __init__(self, call: Call, method: Method, middleware: Middleware) -> None:
        self._call = call
        self._stream: PushedStream | None = None
        # The room ended the stream as it opened it.
        self._ended_early = False
        # Why the stream was not let in, until the client is told.
        self._refused: CallFailed | None = None
        self._timer: asyncio.TimerHandle | None = None
        head = head_of(call)
        # A stream lives for days, and a token is long.
        call.metadata = ()
        call.path = method.path
        call.receiver = self
        self._opened = middleware.open(method, head)
        self._task: asyncio.Task[None] | None = None
        if call.timeout_s is not None:
            self._set_timer(call.timeout_s, self._expired)
        # In a context of its own: the caller and the request id are this stream's alone.
        contextvars.copy_context().run(self._do, self._admit, head)

    async def _admit(self, head: Head) -> None:
        self._stream = await self._opened.admit(head, self)
        if self._ended_early:
            self._finish()

    def _do(self, work: Callable[..., object], *args: object) -> None:
        """Runs a step, and holds the next messages while it waits."""
        call = self._call
        try:
            task = run_eagerly(work(*args))  # type: ignore[arg-type]
        except Exception as error:
            self._failed(error)
            return
        if task is not None:
            call.hold()
            self._task = task
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failed(error)
        elif not self._call.over and not task.cancelled():
            self._call.release()

    def _failed(self, error: BaseException) -> None:
        failure = self._opened.failed(error)
        if self._stream is not None:
            self._end(failure)
        elif not self._call.over:
            self._refused = failure
            self._call.shut()
            self._set_timer(REFUSAL_DELAY_S, self._end, failure)
            self._call.release()

    def _set_timer(self, delay_s: float, then: Callable[..., object], *args: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay_s, then, *args)

    # --- of the call ---

    def message(self, data: bytes) -> None:
        if self._stream is not None:
            self._do(self._stream.receive, data)

    def half_closed(self) -> None:
        if self._refused is not None:
            self._end(self._refused)
            return
        if self._stream is not None:
            self._stream.gone()
        self._finish()

    def gone(self, code: Code) -> None:
        self._opened.over(code)
        self._stop()

    def refused(self, error: CallError) -> None:
        if self._refused is not None:
            self._end(self._refused)
            return
        _refuse(self._call, error)
        self.gone(Code(error.code))

    def writable(self) -> None:
        if self._stream is not None:
            self._stream.on_writable()

    def _expired(self) -> None:
        late = Refusal("DEADLINE_EXCEEDED", "the call took longer than it may")
        self._end(self._opened.failed(late))

    # --- of the stream: a Sink ---

    @property
    def offer(self) -> Callable[[bytes], bool]:
        return self._call.offer

    def room(self) -> int:
        return self._call.room()

    def send(self, data: bytes) -> None:
        self._call.send(data)

    def finish(self) -> None:
        if self._stream is None:
            # Its status is not known yet.
            self._ended_early = True
        else:
            self._finish()

    def _finish(self) -> None:
        refusal = self._stream.refusal if self._stream is not None else None
        if refusal is not None:
            self._end(self._opened.failed(refusal))
        else:
            self._opened.over(Code.OK)
            self._call.finish()
            self._stop()

    def _end(self, failure: CallFailed) -> None:
        self._opened.over(failure.status.code)
        _fail(self._call, failure)
        self._stop()

    def _stop(self) -> None:
        if self._stream is not None:
            self._stream.gone()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
