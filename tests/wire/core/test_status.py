"""How a call ends: codes, messages, and what time it has ("Responses" of the gRPC document)."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinwag_server.wire.errors import ErrorCode
from chinwag_server.wire.status import (
    CallError,
    Code,
    code_of_reset,
    percent_decode,
    percent_encode,
    read_timeout,
)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_percent_encoding_both_ways(text: str) -> None:
    encoded = percent_encode(text)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert percent_decode(encoded) == text


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("plain", b"plain"),
        ("a b", b"a b"),
        ("100%", b"100%25"),
        ("\n", b"%0A"),
        ("ä", b"%C3%A4"),
        ("\x7f", b"%7F"),
        ("\ud800", b"?"),
    ],
)
def test_percent_encoding(text: str, encoded: bytes) -> None:
    assert percent_encode(text) == encoded


@pytest.mark.parametrize(("value", "text"), [(b"50% off", "50% off"), (b"%zz", "%zz"), (b"%", "%")])
def test_broken_escapes_stay(value: bytes, text: str) -> None:
    assert percent_decode(value) == text


@given(st.binary())
def test_any_bytes_are_a_message(value: bytes) -> None:
    percent_decode(value)


UNITS = {"H": 3600, "M": 60, "S": 1, "m": 1e-3, "u": 1e-6, "n": 1e-9}


@given(st.integers(0, 99_999_999), st.sampled_from(sorted(UNITS)))
def test_timeouts(number: int, unit: str) -> None:
    assert read_timeout(f"{number}{unit}".encode()) == pytest.approx(number * UNITS[unit])


@pytest.mark.parametrize(
    "value",
    ["", "S", "1", "1s", "-1S", "+1S", "1.5S", " 1S", "1 S", "123456789S", "1SS", "\uff11S"],
)
def test_what_is_no_timeout(value: str) -> None:
    with pytest.raises(CallError) as refused:
        read_timeout(value.encode())
    assert refused.value.code == Code.INTERNAL


@given(st.binary(max_size=12))
def test_any_bytes_are_a_timeout_or_refused(value: bytes) -> None:
    with contextlib.suppress(CallError):
        assert read_timeout(value) >= 0


@pytest.mark.parametrize(
    ("reset", "code"),
    [
        (ErrorCode.NO_ERROR, Code.CANCELLED),
        (ErrorCode.PROTOCOL_ERROR, Code.INTERNAL),
        (ErrorCode.REFUSED_STREAM, Code.UNAVAILABLE),
        (ErrorCode.CANCEL, Code.CANCELLED),
        (ErrorCode.ENHANCE_YOUR_CALM, Code.RESOURCE_EXHAUSTED),
        (ErrorCode.INADEQUATE_SECURITY, Code.PERMISSION_DENIED),
    ],
)
def test_statuses_of_resets(reset: ErrorCode, code: Code) -> None:
    assert code_of_reset(reset) == code


def test_every_reset_has_one() -> None:
    assert all(isinstance(code_of_reset(code), Code) for code in ErrorCode)
