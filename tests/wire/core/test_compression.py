"""Message encodings, and a bound for what they may become."""

from __future__ import annotations

import contextlib
import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinwag_server.wire.compression import ACCEPTED, Inflation, compress, decompress, is_known
from chinwag_server.wire.status import CallError, Code

encodings = st.sampled_from([b"gzip", b"deflate"])


def code(encoding: bytes, data: bytes, most: int = 1000) -> int:
    with pytest.raises(CallError) as refused:
        decompress(encoding, data, most)
    return refused.value.code


@given(st.binary(max_size=2000), encodings)
def test_both_ways(data: bytes, encoding: bytes) -> None:
    assert decompress(encoding, compress(encoding, data), 2000) == data


def test_others_read_what_we_write() -> None:
    assert gzip.decompress(compress(b"gzip", b"hello")) == b"hello"
    assert (
        zlib.decompress(compress(b"deflate", b"hello")) == b"hello"
    )  # with a zlib head (RFC 1950)


def test_what_is_announced_is_known() -> None:
    assert all(map(is_known, ACCEPTED.split(b",")))
    assert not is_known(b"snappy")
    assert not is_known(b"")


@given(encodings, st.integers(0, 3000))
def test_a_message_may_have_all_of_the_limit_and_no_more(encoding: bytes, size: int) -> None:
    data = compress(encoding, bytes(size))
    assert decompress(encoding, data, size) == bytes(size)
    if size:
        assert code(encoding, data, size - 1) == Code.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
def test_a_bomb_is_not_inflated(encoding: bytes) -> None:
    bomb = compress(encoding, bytes(64 << 20))
    tracemalloc.start()
    try:
        assert code(encoding, bomb, 1 << 20) == Code.RESOURCE_EXHAUSTED
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"no", gzip.compress(b"cut")[:-3], gzip.compress(b"a") + b"b"),
        gzip.compress(b"a") + gzip.compress(b"b"),
        zlib.compress(b"the other"),
    ],
    ids=["empty", "none", "cut", "more", "two", "deflate"],
)
def test_what_is_broken(data: bytes) -> None:
    assert code(b"gzip", data) == Code.INTERNAL


def test_a_flag_without_an_encoding() -> None:
    assert code(b"identity", b"x") == Code.INTERNAL


@given(st.binary(max_size=300), encodings)
def test_any_bytes_are_a_message_or_refused(data: bytes, encoding: bytes) -> None:
    with contextlib.suppress(CallError):
        assert len(decompress(encoding, data, 1000)) <= 1000


class TestInflation:
    """What a peer may have inflated, beyond sixteen times what it sent."""

    BOMB = compress(b"gzip", bytes(100_000))

    def test_what_saves_little_costs_nothing(self) -> None:
        inflation = Inflation(per_second=0, most=0, now=0.0)
        data = bytes(range(256)) * 4
        sent = compress(b"gzip", data)
        for _ in range(100):
            assert inflation.decompress(b"gzip", sent, 1 << 20, 0.0) == data

    def test_what_becomes_much_larger_is_paid_for_and_time_pays_it_back(self) -> None:
        inflation = Inflation(per_second=100_000, most=250_000, now=0.0)
        for _ in range(2):
            inflation.decompress(b"gzip", self.BOMB, 1 << 20, 0.0)
        with pytest.raises(CallError, match="too much was to be inflated") as refused:
            inflation.decompress(b"gzip", self.BOMB, 1 << 20, 0.0)
        assert refused.value.code == Code.RESOURCE_EXHAUSTED
        # The attempt cost what was left.
        with pytest.raises(CallError):
            inflation.decompress(b"gzip", self.BOMB, 1 << 20, 0.5)
        assert len(inflation.decompress(b"gzip", self.BOMB, 1 << 20, 1.6)) == 100_000

    def test_it_saves_up_to_its_most(self) -> None:
        inflation = Inflation(per_second=1e9, most=150_000, now=0.0)
        inflation.decompress(b"gzip", self.BOMB, 1 << 20, 1000.0)
        with pytest.raises(CallError):
            inflation.decompress(b"gzip", self.BOMB, 1 << 20, 1000.0)

    def test_what_is_over_the_limit_of_a_message_is_paid_for_too(self) -> None:
        inflation = Inflation(per_second=0, most=12_000, now=0.0)
        for _ in range(3):
            with pytest.raises(CallError, match="at most 5000 bytes"):
                inflation.decompress(b"gzip", self.BOMB, 5000, 0.0)
        with pytest.raises(CallError, match="too much was to be inflated"):
            inflation.decompress(b"gzip", self.BOMB, 1 << 20, 0.0)

    def test_what_is_broken_at_its_end_is_paid_for_too(self) -> None:
        inflation = Inflation(per_second=0, most=100_000, now=0.0)
        with pytest.raises(CallError, match="broken"):
            inflation.decompress(b"gzip", self.BOMB[:-4], 1 << 20, 0.0)
        with pytest.raises(CallError, match="too much was to be inflated"):
            inflation.decompress(b"gzip", self.BOMB, 1 << 20, 0.0)
