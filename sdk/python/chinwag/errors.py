"""Typed errors: what the server refused, with a reason to act on, and what failed here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_UNAUTHENTICATED, _PERMISSION_DENIED, _NOT_FOUND = 16, 7, 5
_INVALID_ARGUMENT, _OUT_OF_RANGE, _FAILED_PRECONDITION = 3, 11, 9
_ALREADY_EXISTS, _RESOURCE_EXHAUSTED, _UNAVAILABLE = 6, 8, 14
_DEADLINE_EXCEEDED, _ABORTED = 4, 10

# Limits that pass by themselves; the other causes of RESOURCE_EXHAUSTED do not.
_PASSING_LIMITS = frozenset({"RATE_LIMITED", "OVERLOADED", "LOGIN_THROTTLED"})


class ChinwagError(Exception):
    """A call was refused or failed.

    Attributes:
        reason: The name of an `ErrorReason` without its prefix, such as "RATE_LIMITED"; empty
            if the server gave none (it could not be reached, say).
        code: The gRPC status code's number.
        message: For a developer to read.
        retry_after: Seconds after which the same call may succeed, or None.
        fields: What is wrong, by field path.
        metadata: Facts of the reason, such as {"message_id": "7"}.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        code: int = 2,
        retry_after: float | None = None,
        fields: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{reason}: {message}" if reason else message)
        self.message = message
        self.reason = reason
        self.code = code
        self.retry_after = retry_after
        self.fields = dict(fields or {})
        self.metadata = dict(metadata or {})

    @property
    def is_temporary(self) -> bool:
        """Whether the same call may succeed later, unchanged."""
        if self.code == _RESOURCE_EXHAUSTED:
            return self.retry_after is not None or self.reason in _PASSING_LIMITS
        return self.code in (_UNAVAILABLE, _DEADLINE_EXCEEDED, _ABORTED)


class Unauthenticated(ChinwagError):
    """No valid token: log in again."""


class PermissionDenied(ChinwagError):
    """The caller may not do this."""


class NotFound(ChinwagError):
    """No such thing, or none that the caller may know of."""


class InvalidArgument(ChinwagError):
    """The request breaks a rule; `fields` says which."""


class FailedPrecondition(ChinwagError):
    """The state of the thing does not allow it."""


class AlreadyExists(ChinwagError):
    """There is one already, or the id was used with other content."""


class LimitExceeded(ChinwagError):
    """A limit; `retry_after` is set where waiting helps."""


class Unavailable(ChinwagError):
    """The server cannot be reached or cannot serve now."""


class SendExpired(ChinwagError):
    """A message could not be sent for 7 days and was given up."""


class OutboxFull(ChinwagError):
    """Too many messages wait to be sent: wait for some of them."""


class Replaced(ChinwagError):
    """Another stream of the same device took over: this client does not connect again."""


class ClientClosed(ChinwagError):
    """The client was closed, or closed for good by the server."""


class InsecureAddress(ChinwagError):
    """Without TLS a token would cross the network in the clear: pass `tls=` or `insecure=True`."""


class StoreMismatch(ChinwagError, ValueError):
    """A client store holds another user's data, or was written by a newer version."""


_BY_CODE: dict[int, type[ChinwagError]] = {
    _UNAUTHENTICATED: Unauthenticated,
    _PERMISSION_DENIED: PermissionDenied,
    _NOT_FOUND: NotFound,
    _INVALID_ARGUMENT: InvalidArgument,
    _OUT_OF_RANGE: InvalidArgument,
    _FAILED_PRECONDITION: FailedPrecondition,
    _ALREADY_EXISTS: AlreadyExists,
    _RESOURCE_EXHAUSTED: LimitExceeded,
    _UNAVAILABLE: Unavailable,
    _DEADLINE_EXCEEDED: Unavailable,
}


def from_status(status: status_pb2.Status) -> ChinwagError:
    """A `google.rpc.Status` as an error."""
    reason, retry_after = "", None
    fields: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        retry = error_details_pb2.RetryInfo()
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
        elif detail.Unpack(bad):
            fields = {v.field: v.description for v in bad.field_violations}
    return _BY_CODE.get(status.code, ChinwagError)(
        status.message,
        reason=reason,
        code=status.code,
        retry_after=retry_after,
        fields=fields,
        metadata=metadata,
    )


def from_rpc_error(error: Any) -> ChinwagError:
    """A `grpc.RpcError` of grpcio, its aio face too, as an error."""
    code = error.code()
    number = code.value[0] if code is not None else 2
    trailers = error.trailing_metadata() or ()
    for name, value in trailers:
        if name == "grpc-status-details-bin":
            try:
                return from_status(status_pb2.Status.FromString(value))
            except DecodeError:
                break
    return _BY_CODE.get(number, ChinwagError)(error.details() or str(code), code=number)
