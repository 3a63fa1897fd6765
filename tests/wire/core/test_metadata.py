"""Custom metadata, both ways ("Custom-Metadata" of the gRPC document)."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinwag_server.wire import metadata
from chinwag_server.wire.metadata import Metadata
from chinwag_server.wire.status import CallError, Code

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1).filter(
    lambda name: not name.startswith(("grpc-", "te", "content-"))
)
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))
pairs = st.lists(
    st.one_of(
        st.tuples(names.filter(lambda name: not name.endswith("-bin")), printable),
        st.tuples(names.map(lambda name: name + "-bin"), st.binary()),
    )
).map(tuple)


@given(pairs)
def test_both_ways(sent: Metadata) -> None:
    assert metadata.decode(metadata.encode(sent)) == sent


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (b"AAE", [b"\0\1"]),
        (b"AAE=", [b"\0\1"]),  # padded or not: both must be taken
        (b"AAE,/w==", [b"\0\1", b"\xff"]),
        (b"AAE, AAE", [b"\0\1", b"\0\1"]),
        (b"", [b""]),
        (b",", [b"", b""]),
    ],
)
def test_binary_values_come_in_lists(value: bytes, parts: list[bytes]) -> None:
    assert metadata.decode([(b"a-bin", value)]) == tuple(("a-bin", part) for part in parts)


@given(st.lists(st.binary(), min_size=1), st.booleans())
def test_lists_of_binary_values(values: list[bytes], padded: bool) -> None:
    coded = [base64.b64encode(value) for value in values]
    joined = b",".join(part if padded else part.rstrip(b"=") for part in coded)
    assert [value for _, value in metadata.decode([(b"a-bin", joined)])] == values


@given(st.binary())
def test_any_binary_value_is_read_or_refused(value: bytes) -> None:
    with contextlib.suppress(CallError):
        metadata.decode([(b"a-bin", value), (b"a", value)])


@pytest.mark.parametrize("value", [b"%%%", b"A", b"A===", b"=", b"AA=A", b"AAE=AAE="])
def test_what_is_no_base64(value: bytes) -> None:
    with pytest.raises(CallError, match="base64") as refused:
        metadata.decode([(b"a-bin", value)])
    assert refused.value.code == Code.INTERNAL


@pytest.mark.parametrize("value", [b"\xff", b"tab\t", b"\x7f"])
def test_what_is_no_ascii(value: bytes) -> None:
    with pytest.raises(CallError, match="ASCII"):
        metadata.decode([(b"a", value)])


def test_what_is_grpcs_own_is_no_metadata() -> None:
    own = [(b"te", b"trailers"), (b"grpc-timeout", b"1S"), (b"content-type", b"x")]
    assert metadata.decode([*own, (b"user-agent", b"me")]) == (("user-agent", "me"),)


def test_names_are_sent_in_lower_case() -> None:
    assert metadata.encode([("Name", "x"), ("B-Bin", b"\0")]) == [
        (b"name", b"x"),
        (b"b-bin", b"AA"),
    ]


@pytest.mark.parametrize(
    "pair",
    [
        *(("Bad Name", "x"), ("", "x"), (":path", "x"), ("ünïcode", "x")),
        *(("a", "line\nbreak"), ("a", b"\xff"), ("grpc-status", "0"), ("te", "trailers")),
    ],
)
def test_what_cannot_be_sent(pair: tuple[str, str | bytes]) -> None:
    with pytest.raises(ValueError, match="metadata"):
        metadata.encode([pair])
