"""The one error that rules raise to refuse a call, and its form on the wire.

A refusal is a gRPC status code, a reason (`chinwag.common.v1.ErrorReason`) that a client can
act on, and, where they help, a time to wait and the fields that are wrong. It becomes a
`google.rpc.Status` with `ErrorInfo`, `RetryInfo` and `BadRequest`
(https://cloud.google.com/apis/design/errors).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "chinwag"


class Code(IntEnum):
    """gRPC status codes (https://grpc.github.io/grpc/core/md_doc_statuscodes.html)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


def _codes_from_contract() -> dict[str, Code]:
    """Each reason's status code. The comment of the reason in errors.proto starts with it, and a
    test holds the two together."""
    groups: dict[Code, str] = {
        Code.INTERNAL: "INTERNAL",
        Code.UNIMPLEMENTED: "NOT_IMPLEMENTED",
        Code.UNAVAILABLE: "DRAINING STORAGE_UNAVAILABLE",
        Code.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED HELLO_TIMEOUT",
        Code.RESOURCE_EXHAUSTED: "OVERLOADED TOO_LARGE LOGIN_THROTTLED RATE_LIMITED MEMBER_LIMIT "
        "CHANNEL_LIMIT STREAM_LIMIT DEVICE_LIMIT REACTION_LIMIT RELATION_LIMIT PUSH_TARGET_LIMIT "
        "WATCH_LIMIT API_KEY_LIMIT",
        Code.INVALID_ARGUMENT: "INVALID_FIELD MALFORMED UNKNOWN_FRAME INVALID_PAGE_TOKEN "
        "BEYOND_HEAD SELF_REFERENCE USER_REQUIRED",
        Code.FAILED_PRECONDITION: "HELLO_REQUIRED HELLO_REPEATED VERSION_UNSUPPORTED "
        "CHANNEL_DELETED MESSAGE_DELETED CHANNEL_KIND LAST_OWNER SEND_EXPIRED",
        Code.UNAUTHENTICATED: "TOKEN_REQUIRED TOKEN_INVALID TOKEN_EXPIRED SESSION_REVOKED "
        "CREDENTIALS_INVALID REFRESH_TOKEN_REUSED",
        Code.PERMISSION_DENIED: "SCOPE_REQUIRED BANNED DISABLED NOT_A_MEMBER ROLE_REQUIRED "
        "RECIPIENT_UNAVAILABLE NOT_THE_SENDER LEASE_LOST NO_COMMON_GROUND",
        Code.NOT_FOUND: "CHANNEL_NOT_FOUND MESSAGE_NOT_FOUND MEMBER_NOT_FOUND USER_NOT_FOUND "
        "DEVICE_NOT_FOUND FRIEND_NOT_FOUND API_KEY_NOT_FOUND PUSH_TARGET_NOT_FOUND",
        Code.ALREADY_EXISTS: "ID_REUSED USERNAME_TAKEN USER_EXISTS ALREADY_FRIENDS",
        Code.OUT_OF_RANGE: "CURSOR_EXPIRED",
        Code.ABORTED: "EARLIER_SEND_REFUSED",
    }
    return {name: code for code, names in groups.items() for name in names.split()}


CODES = _codes_from_contract()


class Unavailable(Exception):
    """What a call needs (a store) is away: whatever raises it says why, for the log. The caller is
    told to repeat the call under the same id."""


class Refusal(Exception):
    """A call is refused and has changed nothing.

    Args:
        reason: The name of an `ErrorReason` without its prefix, such as "CHANNEL_NOT_FOUND".
        message: For the developer of a client: what was expected, what came, what to do. Never
            holds a message's text or a token.
        retry_after: Seconds after which the same call may succeed.
        fields: (field path, what is wrong with it) pairs.
        metadata: Machine-readable facts, such as {"message_id": "7"}.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        retry_after: float | None = None,
        fields: Sequence[tuple[str, str]] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.code = CODES[reason]
        self.retry_after = retry_after
        self.fields = tuple(fields)
        self.metadata = dict(metadata or {})

    def status(self) -> status_pb2.Status:
        """The refusal as `google.rpc.Status`."""
        details: list[any_pb2.Any] = []

        def add(detail: object) -> None:
            packed = any_pb2.Any()
            packed.Pack(detail)  # type: ignore[arg-type]
            details.append(packed)

        add(error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata))
        if self.retry_after is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromNanoseconds(int(self.retry_after * 1e9))
            add(retry)
        if self.fields:
            bad = error_details_pb2.BadRequest()
            for path, description in self.fields:
                bad.field_violations.add(field=path, description=description)
            add(bad)
        return status_pb2.Status(code=int(self.code), message=self.message, details=details)

    @classmethod
    def of(cls, status: status_pb2.Status) -> Refusal:
        """What another node refused, as `status` gave it."""
        reason, metadata = "INTERNAL", {}
        retry_after: float | None = None
        fields: list[tuple[str, str]] = []
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            retry = error_details_pb2.RetryInfo()
            bad = error_details_pb2.BadRequest()
            if detail.Unpack(info):
                reason, metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(retry):
                retry_after = retry.retry_delay.ToNanoseconds() / 1e9
            elif detail.Unpack(bad):
                fields = [(item.field, item.description) for item in bad.field_violations]
        if reason not in CODES:  # of a newer version
            reason = "INTERNAL"
        return cls(
            reason, status.message, retry_after=retry_after, fields=fields, metadata=metadata
        )
