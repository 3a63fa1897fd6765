"""The gRPC protocol on a stream: messages, encodings, metadata, status."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinwag_server.wire import frames, metadata
from chinwag_server.wire.compression import compress, decompress
from chinwag_server.wire.errors import ErrorCode
from chinwag_server.wire.limits import Limits
from chinwag_server.wire.status import CallError, Code, percent_decode, percent_encode
from tests.wire.core.peer import Peer, Recorder, message


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(1, 200)))
def test_messages_are_the_same_however_they_are_cut(bodies: list[bytes], cuts: list[int]) -> None:
    peer = Peer().greet().request(1)
    stream = b"".join(message(body) for body in bodies)
    for cut in cuts:
        if stream:
            peer.data(1, stream[:cut])
            stream = stream[cut:]
    peer.data(1, stream, end=True)
    assert peer.calls[0].messages == bodies
    assert peer.calls[0].ended
    assert peer.connection.recv_left == peer.connection.limits.connection_window


@given(st.lists(st.booleans(), max_size=30))
def test_held_messages_keep_their_order(holds: list[bool]) -> None:
    peer = Peer().greet().request(1)
    recorder = peer.calls[0]
    for number, hold in enumerate(holds):
        if hold:
            recorder.call.hold()
        else:
            recorder.call.release()
        peer.data(1, message(b"%d" % number))
    peer.data(1, b"", end=True)
    recorder.call.release()
    assert recorder.messages == [b"%d" % number for number in range(len(holds))]
    assert recorder.ended


def test_gzip_in_and_out() -> None:
    peer = Peer().greet()
    peer.request(1, ("grpc-encoding", "gzip"), ("grpc-accept-encoding", "identity, gzip"))
    peer.data(1, message(gzip.compress(b"hello" * 1000), 1))
    recorder = peer.calls[0]
    assert recorder.messages == [b"hello" * 1000]
    peer.take()
    assert recorder.call.compress("gzip")
    recorder.call.send(b"answer" * 1000)
    recorder.call.send(b"short")
    recorder.call.send(b"plain" * 1000, plain=True)
    head, *bodies = (frame for frame in peer.take() if frame.stream_id)
    assert peer.headers(head)["grpc-encoding"] == "gzip"
    sent = b"".join(frame.payload for frame in bodies)
    size = int.from_bytes(sent[1:5], "big")
    assert sent[0] == 1
    assert gzip.decompress(sent[5 : 5 + size]) == b"answer" * 1000
    assert sent[5 + size :] == message(b"short") + message(b"plain" * 1000)


def test_what_the_client_does_not_take_is_not_sent() -> None:
    peer = Peer().greet().request(1)
    assert not peer.calls[0].call.compress("gzip")


def test_a_bomb_is_not_inflated() -> None:
    bomb = zlib.compress(bytes(100 << 20))
    with pytest.raises(CallError) as refused:
        decompress(b"deflate", bomb, 4 << 20)
    assert refused.value.code == Code.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "data", [b"", b"no", gzip.compress(b"cut")[:-3], gzip.compress(b"a") + b"b"]
)
def test_broken_gzip(data: bytes) -> None:
    with pytest.raises(CallError) as refused:
        decompress(b"gzip", data, 1000)
    assert refused.value.code == Code.INTERNAL


@given(st.binary(max_size=2000), st.sampled_from([b"gzip", b"deflate"]))
def test_compression_both_ways(data: bytes, encoding: bytes) -> None:
    assert decompress(encoding, compress(encoding, data), 2000) == data


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (message(b"x", 1), Code.INTERNAL),  # compressed, and no encoding was named
        (message(b"x", 7), Code.INTERNAL),
        (b"\0" + (5 << 20).to_bytes(4, "big"), Code.RESOURCE_EXHAUSTED),  # by its head alone
    ],
)
def test_bad_messages(body: bytes, code: Code) -> None:
    peer = Peer().greet().request(1).data(1, body)
    assert [error.code for error in peer.calls[0].errors] == [code]
    assert not peer.connection.streams
    assert not peer.connection.closed


def test_a_call_that_ends_within_a_message() -> None:
    peer = Peer().greet().request(1).data(1, message(b"hello")[:7], end=True)
    assert [error.code for error in peer.calls[0].errors] == [Code.INTERNAL]


def test_unfinished_messages_do_not_fill_a_connection() -> None:
    peer = Peer(Limits(stream_window=1 << 20, connection_window=4 << 20)).greet()
    for stream_id in range(1, 20, 2):
        peer.request(stream_id)
        body = message(bytes(3 << 20))[: 1 << 20]
        while body and stream_id in peer.connection.streams:
            peer.data(stream_id, body[:16_384])
            body = body[16_384:]
    errors = [recorder.errors for recorder in peer.calls]
    assert errors[0] == errors[1] == []
    assert errors[-1][0].code == Code.RESOURCE_EXHAUSTED
    assert not peer.connection.closed


@pytest.mark.parametrize(
    ("field", "code"),
    [
        (("grpc-timeout", "soon"), Code.INTERNAL),
        (("grpc-timeout", "123456789S"), Code.INTERNAL),
        (("grpc-encoding", "snappy"), Code.UNIMPLEMENTED),
        (("a-bin", "%%%"), Code.INTERNAL),
        (("name", "ünïcode"), Code.INTERNAL),
    ],
)
def test_bad_heads(field: tuple[str, str], code: Code) -> None:
    peer = Peer().greet().request(1, field, end=True)
    assert not peer.calls
    (head,) = peer.took(frames.HEADERS)
    assert peer.headers(head)["grpc-status"] == str(int(code))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1H", 3600), ("2M", 120), ("3S", 3), ("4m", 4e-3), ("5u", 5e-6), ("6n", 6e-9)],
)
def test_timeouts(text: str, seconds: float) -> None:
    peer = Peer().greet().request(1, ("grpc-timeout", text))
    assert peer.calls[0].call.timeout_s == pytest.approx(seconds)


def test_metadata_in() -> None:
    peer = Peer().greet()
    peer.request(1, ("a", "1"), ("a", "2"), ("b-bin", "AAE,/w=="), ("grpc-timeout", "1S"))
    assert peer.calls[0].call.metadata == (
        ("a", "1"),
        ("a", "2"),
        ("b-bin", b"\0\1"),
        ("b-bin", b"\xff"),
    )


@pytest.mark.parametrize(
    "pair", [("Bad Name", "x"), ("a", "line\nbreak"), ("grpc-status", "0"), ("te", "trailers")]
)
def test_metadata_that_cannot_be_sent(pair: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="metadata"):
        metadata.encode([pair])


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_percent_encoding_both_ways(text: str) -> None:
    encoded = percent_encode(text)
    assert encoded.isascii()
    assert percent_decode(encoded) == text


@given(st.text(st.characters(codec="ascii"), max_size=20))
def test_a_status_message_is_one_line(text: str) -> None:
    peer = Peer().greet().request(1, end=True)
    peer.calls[0].call.finish(Code.ABORTED, text)
    (head,) = peer.took(frames.HEADERS)
    sent = peer.headers(head)
    assert sent["grpc-status"] == "10"
    assert percent_decode(sent.get("grpc-message", "").encode()) == text


def test_every_reset_has_a_status() -> None:
    for code in ErrorCode:
        peer = Peer().greet().request(1)
        peer.frame(frames.RST_STREAM, 0, 1, int(code).to_bytes(4, "big"))
        assert peer.calls[0].gone_by is not None


def test_a_bad_message_behind_good_ones_gives_their_window_back_once() -> None:
    peer = Peer().greet().request(1).data(1, message(b"good") * 3 + b"\x07bad" + bytes(20))
    assert peer.calls[0].messages == [b"good"] * 3
    assert peer.calls[0].errors
    assert peer.connection.recv_left == peer.connection.limits.connection_window


def test_a_call_that_is_finished_by_its_first_message() -> None:
    class Finishing(Recorder):
        def message(self, data: bytes) -> None:
            super().message(data)
            self.call.finish()

    peer = Peer().greet().request(1)
    call = peer.calls[0].call
    finishing = Finishing(call)
    call.receiver = finishing
    peer.data(1, message(b"first") + message(b"second") + b"\0\0")
    assert finishing.messages == [b"first"]
    assert peer.connection.recv_left == peer.connection.limits.connection_window
