"""Errors: what a status says becomes a type, a reason, a time, fields."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from chinwag import errors
from chinwag.transport import Security, is_loopback
from tests.sdk.model import refusal


class Failure(grpc.RpcError):
    """What grpcio raises, in its smallest form."""

    def __init__(self, code: grpc.StatusCode, details: bytes | None = None) -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "in words"

    def trailing_metadata(self) -> Any:
        return () if self._details is None else (("grpc-status-details-bin", self._details),)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (3, errors.InvalidArgument),
        (4, errors.Unavailable),
        (5, errors.NotFound),
        (6, errors.AlreadyExists),
        (7, errors.PermissionDenied),
        (8, errors.LimitExceeded),
        (9, errors.FailedPrecondition),
        (11, errors.InvalidArgument),
        (13, errors.ChinwagError),
        (14, errors.Unavailable),
        (16, errors.Unauthenticated),
    ],
)
def test_types(code: int, kind: type[errors.ChinwagError]) -> None:
    assert type(errors.from_status(status_pb2.Status(code=code))) is kind


def test_details() -> None:
    status = refusal("RATE_LIMITED", 8, retry_s=1.5, channel_id="c")
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="content.text", description="too long")
    status.details.add().Pack(bad)
    error = errors.from_status(status)
    assert (error.reason, error.retry_after) == ("RATE_LIMITED", 1.5)
    assert error.fields == {"content.text": "too long"}
    assert error.metadata == {"channel_id": "c"}
    assert str(error).startswith("RATE_LIMITED")


@pytest.mark.parametrize(
    ("reason", "code", "retry_s", "is_temporary"),
    [
        ("RATE_LIMITED", 8, None, True),
        ("MEMBER_LIMIT", 8, None, False),
        ("STREAM_LIMIT", 8, 30.0, True),
        ("TOO_LARGE", 8, None, False),
        ("STORAGE_UNAVAILABLE", 14, None, True),
        ("EARLIER_SEND_REFUSED", 10, None, True),
        ("NOT_A_MEMBER", 7, None, False),
        ("INTERNAL", 13, None, False),
    ],
)
def test_what_may_pass(reason: str, code: int, retry_s: float | None, is_temporary: bool) -> None:
    error = errors.from_status(refusal(reason, code, retry_s=retry_s))
    assert error.is_temporary is is_temporary


def test_of_grpc() -> None:
    details = refusal("CHANNEL_NOT_FOUND", 5).SerializeToString()
    error = errors.from_rpc_error(Failure(grpc.StatusCode.NOT_FOUND, details))
    assert isinstance(error, errors.NotFound)
    assert error.reason == "CHANNEL_NOT_FOUND"
    error = errors.from_rpc_error(Failure(grpc.StatusCode.UNAVAILABLE))
    assert isinstance(error, errors.Unavailable)
    assert error.message == "in words"
    error = errors.from_rpc_error(Failure(grpc.StatusCode.UNAVAILABLE, b"\xff\xff"))
    assert isinstance(error, errors.Unavailable)


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("localhost:7400", True),
        ("127.0.0.1:7400", True),
        ("127.9.9.9", True),
        ("[::1]:7400", True),
        ("unix:/tmp/x", True),
        ("10.0.0.1:7400", False),
        ("example.org:7400", False),
        ("localhost.example.org:7400", False),
        ("[::]:7400", False),
    ],
)
def test_loopback(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_no_token_in_the_clear() -> None:
    assert Security().credentials("localhost:7400") is None
    assert Security().credentials("example.org:7400") is not None
    assert Security(insecure=True).credentials("example.org:7400") is None
    assert Security(tls=True, insecure=True).credentials("localhost:1") is not None
    with pytest.raises(errors.InsecureAddress):
        Security(tls=False).credentials("example.org:7400")
