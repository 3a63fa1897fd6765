"""The gRPC protocol on a stream: messages, encodings, metadata, status."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinwag_server.wire import frames
from chinwag_server.wire.compression import compress
from chinwag_server.wire.errors import ErrorCode
from chinwag_server.wire.limits import Limits
from chinwag_server.wire.status import Code, percent_decode
from tests.wire.core.peer import HEAD, Peer, Recorder, message


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


def test_a_timeout() -> None:
    peer = Peer().greet().request(1, ("grpc-timeout", "4m")).request(3)
    assert [recorder.call.timeout_s for recorder in peer.calls] == [pytest.approx(4e-3), None]


def test_metadata_in() -> None:
    peer = Peer().greet()
    peer.request(1, ("a", "1"), ("a", "2"), ("b-bin", "AAE,/w=="), ("grpc-timeout", "1S"))
    assert peer.calls[0].call.metadata == (
        ("a", "1"),
        ("a", "2"),
        ("b-bin", b"\0\1"),
        ("b-bin", b"\xff"),
    )


@given(st.text(st.characters(codec="ascii"), max_size=20))
def test_a_status_message_is_one_line(text: str) -> None:
    peer = Peer().greet().request(1, end=True)
    peer.calls[0].call.finish(Code.ABORTED, text)
    (head,) = peer.took(frames.HEADERS)
    sent = peer.headers(head)
    assert sent["grpc-status"] == "10"
    assert percent_decode(sent.get("grpc-message", "").encode()) == text


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


# --- holding ---


class Taking(Recorder):
    """Takes one message at a time."""

    def message(self, data: bytes) -> None:
        super().message(data)
        self.call.hold()


class Eager(Recorder):
    """Asks for the next message while it is given one."""

    def message(self, data: bytes) -> None:
        super().message(data)
        self.call.hold()
        self.call.release()


def test_one_message_at_a_time_and_then_the_end() -> None:
    peer = Peer().greet().request(1)
    call = peer.calls[0].call
    taking = Taking(call)
    call.receiver = taking
    peer.data(1, message(b"1") + message(b"2") + message(b"3"), end=True)
    for number in (1, 2, 3):
        assert len(taking.messages) == number
        assert not taking.ended
        call.release()
    assert taking.messages == [b"1", b"2", b"3"]
    assert taking.ended


def test_asking_for_more_within_a_message_keeps_the_order() -> None:
    peer = Peer().greet().request(1)
    call = peer.calls[0].call
    call.hold()
    peer.data(1, b"".join(message(b"%d" % number) for number in range(50)), end=True)
    eager = Eager(call)
    call.receiver = eager
    call.release()
    assert eager.messages == [b"%d" % number for number in range(50)]
    assert eager.ended


def test_a_call_that_ends_while_messages_are_kept_gives_their_window_back() -> None:
    for ending in ("finish", "cancel"):
        peer = Peer().greet().request(1)
        call = peer.calls[0].call
        call.hold()
        peer.data(1, message(bytes(500)) * 3 + message(bytes(500))[:77])
        assert peer.connection.recv_left < peer.connection.limits.connection_window
        getattr(call, ending)()
        assert peer.connection.recv_left == peer.connection.limits.connection_window
        call.release()
        assert not peer.calls[0].messages


def test_what_comes_after_the_status_is_thrown_away_and_counts_for_no_window() -> None:
    peer = Peer(Limits(stream_window=1000, connection_window=70_000)).greet().request(1)
    peer.calls[0].call.finish()
    for _ in range(300):
        peer.data(1, message(bytes(900)))
    assert not peer.connection.closed
    assert peer.connection.recv_left == 70_000
    assert not peer.calls[0].messages


def test_messages_that_are_kept_are_not_inflated_without_bound() -> None:
    peer = Peer().greet().request(1, ("grpc-encoding", "gzip"))
    peer.calls[0].call.hold()
    bomb = message(gzip.compress(bytes(4 << 20)), 1)
    tracemalloc.start()
    try:
        for _ in range(20):  # 80 KB on the wire
            peer.data(1, bomb)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The window that bounds what a stream may keep, and one message that is being read.
    assert kept < peer.connection.limits.stream_window + 2 * peer.connection.limits.message_bytes


def test_empty_messages_that_are_kept_cost_about_what_their_window_is() -> None:
    peer = Peer().greet().request(1)
    peer.calls[0].call.hold()
    tracemalloc.start()
    try:
        sent = 0
        while sent < 250_000:
            peer.data(1, message(b"") * 3000)
            sent += 15_000
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 4 * sent


# --- time ---


def test_time_does_not_run_for_a_client_that_may_not_send() -> None:
    peer = Peer(Limits(stream_window=1000, keepalive_s=1e6)).greet().request(1)
    peer.calls[0].call.hold()
    # All of the window: the rest of the second message cannot be sent.
    peer.data(1, message(bytes(900)) + message(bytes(500))[:95])
    peer.pass_time(130)
    assert not peer.calls[0].errors


def test_a_whole_message_in_pieces_has_time_for_each_message() -> None:
    limits = Limits(message_s=10, keepalive_s=1e6)
    peer = Peer(limits).greet().request(1)
    for _ in range(5):
        peer.data(1, message(b"hello")[:4])
        peer.pass_time(8)
        peer.data(1, message(b"hello")[4:] + message(b"more")[:3])
        peer.pass_time(8)
        peer.data(1, message(b"more")[3:])
    assert peer.calls[0].messages == [b"hello", b"more"] * 5
    peer.data(1, message(b"hello")[:4])
    peer.pass_time(5)
    peer.data(1, message(b"hello")[4:6])
    peer.pass_time(6)  # one byte more is no new message
    assert [error.code for error in peer.calls[0].errors] == [Code.DEADLINE_EXCEEDED]


def test_a_message_that_is_awaited_must_come() -> None:
    peer = Peer(Limits(message_s=10, keepalive_s=1e6)).greet().request(1).request(3)
    for recorder in peer.calls:
        recorder.call.await_message()
    peer.data(3, message(b"here"))
    peer.pass_time(12)
    assert [len(recorder.errors) for recorder in peer.calls] == [1, 0]


# --- what may come ---


def test_a_message_may_have_all_of_the_limit_and_no_more() -> None:
    peer = Peer(Limits(message_bytes=100)).greet().request(1).request(3)
    peer.data(1, message(bytes(100))).data(3, message(bytes(101)))
    assert peer.calls[0].messages == [bytes(100)]
    assert peer.calls[1].errors[0].code == Code.RESOURCE_EXHAUSTED


def test_a_message_that_is_too_large_is_refused_by_its_head_alone() -> None:
    peer = Peer().greet().request(1).data(1, b"\0\xff\xff\xff\xff")
    assert peer.calls[0].errors[0].code == Code.RESOURCE_EXHAUSTED
    (head,) = peer.took(frames.HEADERS)
    assert "4294967295" in peer.headers(head)["grpc-message"]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
def test_a_head_in_two(size: int) -> None:
    whole = message(b"hello")
    peer = Peer().greet().request(1).data(1, whole[:size]).data(1, whole[size:], end=True)
    assert peer.calls[0].messages == [b"hello"]
    assert peer.calls[0].ended


def test_plain_messages_among_compressed_ones() -> None:
    peer = Peer().greet().request(1, ("grpc-encoding", "deflate"))
    peer.data(1, message(b"plain") + message(compress(b"deflate", b"small"), 1) + message(b""))
    assert peer.calls[0].messages == [b"plain", b"small", b""]


@pytest.mark.parametrize("name", ["grpc-encoding", "grpc-accept-encoding", "grpc-timeout", "a"])
@pytest.mark.parametrize("value", [b"\xff", b"\x80", b"\xc3"])
def test_values_that_are_no_text(name: str, value: bytes) -> None:
    peer = Peer().greet()
    block = peer.encoder.encode([*HEAD, (name.encode(), value)])
    peer.frame(frames.HEADERS, frames.END_HEADERS, 1, block)
    assert not peer.connection.closed
    if name != "grpc-accept-encoding":
        assert not peer.calls


# --- what is sent ---


def test_the_order_of_a_response() -> None:
    peer = Peer().greet().request(1, end=True)
    call = peer.calls[0].call
    call.send_headers((("a", "1"),))
    call.send(b"hello")
    call.finish(Code.NOT_FOUND, "no", (("b-bin", b"\0"),))
    head, body, trailers = (frame for frame in peer.take() if frame.stream_id)
    assert peer.headers(head) == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-accept-encoding": "identity,deflate,gzip",
        "a": "1",
    }
    assert (body.kind, body.flags, body.payload) == (frames.DATA, 0, message(b"hello"))
    assert trailers.flags == frames.END_STREAM | frames.END_HEADERS
    assert peer.headers(trailers) == {"grpc-status": "5", "grpc-message": "no", "b-bin": "AA"}


def test_a_status_alone_is_one_block() -> None:
    peer = Peer().greet().request(1, end=True)
    peer.calls[0].call.finish()
    (only,) = (frame for frame in peer.take() if frame.stream_id)
    assert only.flags == frames.END_STREAM | frames.END_HEADERS
    assert peer.headers(only) == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-status": "0",
    }


def test_nothing_is_sent_of_a_call_that_is_over() -> None:
    peer = Peer().greet().request(1, end=True)
    call = peer.calls[0].call
    call.finish()
    peer.take()
    call.send_headers()
    call.send(b"late")
    assert not call.offer(b"late")
    call.finish(Code.ABORTED)
    call.cancel()
    assert call.room() == 0
    assert not peer.take()


def test_metadata_that_cannot_be_sent_leaves_the_call_as_it_was() -> None:
    peer = Peer().greet().request(1, end=True)
    call = peer.calls[0].call
    peer.take()
    for bad in (call.send_headers, lambda pairs: call.finish(0, "", pairs)):
        with pytest.raises(ValueError, match="metadata"):
            bad((("a", "line\nbreak"),))
    assert not peer.take()
    call.finish()
    assert [frame.kind for frame in peer.take()] == [frames.HEADERS]


def test_an_offer_waits_for_nothing() -> None:
    peer = Peer().greet(INITIAL_WINDOW_SIZE=20).request(1)
    call = peer.calls[0].call
    assert not call.offer(b"before the head")
    call.send_headers()
    assert call.offer(b"x" * 15)
    assert not call.offer(b"")  # not even its five bytes
    peer.send(frames.window_update(1, 5))
    assert call.offer(b"")
    assert [len(frame.payload) for frame in peer.took(frames.DATA)] == [20, 5]


def test_too_much_that_waits_ends_who_asks_for_more() -> None:
    peer = Peer(Limits(pending_bytes=1000)).greet(INITIAL_WINDOW_SIZE=0).request(1).request(3)
    first, second = peer.calls
    for _ in range(3):
        first.call.send(bytes(400))
    assert not first.errors
    assert peer.connection.pending_bytes == 3 * 405
    second.call.send(b"one more")
    assert second.errors[0].code == Code.RESOURCE_EXHAUSTED
    first.call.cancel()
    assert peer.connection.pending_bytes == 0


def test_a_cancelled_call_is_reset() -> None:
    peer = Peer().greet(INITIAL_WINDOW_SIZE=0).request(1)
    peer.calls[0].call.send(b"never sent")
    peer.calls[0].call.cancel()
    (reset,) = peer.took(frames.RST_STREAM)
    assert ErrorCode(reset.number) == ErrorCode.CANCEL
    peer.send(frames.window_update(1, 100))
    assert not peer.took(frames.DATA)
