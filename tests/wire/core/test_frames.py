"""Frames as bytes (RFC 9113, 4.1 and 6), against those that the hostile peer makes by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinwag_server.wire import frames
from tests.wire.core.peer import read_frames
from tests.wire.hostile import peer as h2

ids = st.integers(0, frames.MAX_STREAM_ID)
numbers = st.integers(0, 2**32 - 1)


@given(st.integers(0, 2**24 - 1), st.integers(0, 255), st.integers(0, 255), ids)
def test_a_head_is_24_bits_of_length_then_type_flags_and_stream(
    size: int, kind: int, flags: int, stream_id: int
) -> None:
    made = frames.head(size, kind, flags, stream_id)
    assert made == (size.to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big"))
    assert len(made) == frames.HEAD_BYTES
    high, low, *rest = frames.unpack_head(made, 0)
    assert (high << 8 | low, rest) == (size, [kind, flags, stream_id])


@given(st.lists(st.tuples(st.integers(0, 2**16 - 1), numbers), unique_by=lambda pair: pair[0]))
def test_settings_both_ways(pairs: list[tuple[int, int]]) -> None:
    made = frames.settings(dict(pairs))
    assert made == h2.settings(*pairs)
    assert frames.read_settings(made[frames.HEAD_BYTES :]) == pairs


def test_a_setting_that_comes_twice_is_given_twice() -> None:
    payload = h2.settings((4, 1), (4, 2))[frames.HEAD_BYTES :]
    assert frames.read_settings(payload) == [(4, 1), (4, 2)]


@given(ids, st.integers(1, frames.MAX_WINDOW))
def test_window_updates(stream_id: int, size: int) -> None:
    assert frames.window_update(stream_id, size) == h2.window_update(stream_id, size)


@given(ids, numbers)
def test_resets(stream_id: int, code: int) -> None:
    assert frames.rst_stream(stream_id, code) == h2.reset(stream_id, code)


@given(ids, numbers, st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_goaway_has_a_text_of_a_bounded_size(last: int, code: int, text: str) -> None:
    (frame,) = read_frames(frames.goaway(last, code, text))
    assert (frame.kind, frame.flags, frame.stream_id) == (frames.GOAWAY, 0, 0)
    assert frame.payload[:8] == last.to_bytes(4, "big") + code.to_bytes(4, "big")
    assert frame.payload[8:] == text.encode()[:256]


@pytest.mark.parametrize("ack", [False, True])
def test_pings(ack: bool) -> None:
    assert frames.ping(b"12345678", ack=ack) == h2.frame(h2.PING, h2.ACK * ack, 0, b"12345678")


def test_the_acknowledgement_of_settings_is_empty() -> None:
    assert h2.frame(h2.SETTINGS, h2.ACK, 0) == frames.SETTINGS_ACK


@given(st.binary(max_size=100), st.integers(1, 40), st.booleans())
def test_a_long_header_block_goes_on_in_continuation(block: bytes, most: int, end: bool) -> None:
    made = read_frames(frames.header_frames(5, block, end=end, max_frame_size=most))
    assert b"".join(frame.payload for frame in made) == block
    assert {frame.stream_id for frame in made} == {5}
    assert all(len(frame.payload) <= most for frame in made)
    first, *others = made
    assert first.kind == frames.HEADERS
    assert bool(first.flags & frames.END_STREAM) is end
    assert {frame.kind for frame in others} <= {frames.CONTINUATION}
    # Whatever the parts hold, END_HEADERS is on the last and no other.
    ends = [bool(frame.flags & frames.END_HEADERS) for frame in made]
    if most > 1:
        assert ends == [False] * (len(made) - 1) + [True]
