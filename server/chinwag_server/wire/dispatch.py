"""From HTTP requests to gRPC calls: what is one, and how the others are answered.

The gRPC protocol document, "Requests": POST, and a content-type that begins with
application/grpc. All else gets an HTTP answer that says what lives here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from chinwag_server.wire import headers
from chinwag_server.wire.call import Call, Refusing
from chinwag_server.wire.errors import ErrorCode
from chinwag_server.wire.headers import Request
from chinwag_server.wire.status import CallError
from chinwag_server.wire.stream import Stream

# Opens a call: sets its receiver.
OpenCall = Callable[[Call], None]

_BAD_METHOD: Final = 405
_BAD_TYPE: Final = 415
_HINT: Final = b"This is a gRPC server: call it with a gRPC client.\n"


class Dispatch:
    """The application of a connection: `connection.Application`.

    Args:
        open_call: Given each call whose head is sound.
        refuse: Given each call whose head is not, and why; finishes it.
    """

    def __init__(
        self,
        open_call: OpenCall,
        refuse: Callable[[Call, CallError], None] | None = None,
    ) -> None:
        self._open = open_call
        self._refuse = refuse or _finish

    def request(self, stream: Stream, request: Request) -> None:
        """A request has come."""
        status = _http_status(request)
        if status:
            stream.handler = _NotGrpc(stream, status, bodiless=request.method == b"HEAD")
            stream.connection.charge_reset()
            return
        call = Call(stream, request)
        stream.handler = call
        call.receiver = Refusing(call)
        try:
            call.read_head(request)
        except CallError as error:
            self._refuse(call, error)
            return
        self._open(call)


def _finish(call: Call, error: CallError) -> None:
    call.finish(error.code, error.message)


def _http_status(request: Request) -> int:
    """How a request is answered that is no gRPC call; 0: it is one."""
    if request.method != b"POST":
        return _BAD_METHOD if request.method not in (b"GET", b"HEAD") else _BAD_TYPE
    for name, value in request.fields:
        if name == b"content-type":
            kind = value.split(b";")[0].strip().lower()
            if kind == b"application/grpc" or kind.startswith(b"application/grpc+"):
                return 0
    return _BAD_TYPE


class _NotGrpc:
    """Answers when the request is whole; its body goes nowhere."""

    def __init__(self, stream: Stream, status: int, *, bodiless: bool) -> None:
        self._stream = stream
        self._status = status
        self._bodiless = bodiless
        self._since = stream.connection.now()

    def data(self, data: bytes) -> None:
        self._stream.consume(len(data))

    def ended(self) -> None:
        stream = self._stream
        block = headers.encode_status(self._status) + headers.encode(
            [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(_HINT))]
        )
        stream.send_headers(block, end=self._bodiless)
        if not self._bodiless:
            stream.send_data(_HINT, end=True)

    def reset(self, code: ErrorCode) -> None:
        pass

    def writable(self) -> None:
        pass

    def tick(self, now: float) -> None:
        if now - self._since > self._stream.connection.limits.message_s:
            self._stream.reset(ErrorCode.CANCEL)
