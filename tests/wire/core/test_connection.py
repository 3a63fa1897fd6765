"""RFC 9113 where h2spec does not look: windows, time, floods, the end, and proxies."""

from __future__ import annotations

import pytest

from chinwag_server.wire import frames
from chinwag_server.wire.errors import ErrorCode
from chinwag_server.wire.limits import Limits
from chinwag_server.wire.status import Code
from tests.wire.core.peer import HEAD, Peer, Recorder, message


def code_of(peer: Peer) -> ErrorCode:
    """Why the server has ended the connection."""
    (goaway,) = peer.took(frames.GOAWAY)
    assert peer.connection.closed
    return ErrorCode(goaway.number)


def body_of(taken: list[bytes]) -> bytes:
    return b"".join(taken)


# --- windows ---


def test_a_response_waits_for_the_window_and_is_whole() -> None:
    peer = Peer().greet(INITIAL_WINDOW_SIZE=10).request(1, end=True)
    call = peer.calls[0].call
    call.send(b"x" * 100)
    sent = [frame.payload for frame in peer.took(frames.DATA)]
    assert body_of(sent) == message(b"x" * 100)[:10]
    assert call.room() == 0
    peer.send(frames.window_update(1, 45))
    assert peer.calls[0].writables == 0
    peer.send(frames.window_update(1, 1000))
    sent += [frame.payload for frame in peer.took(frames.DATA)]
    assert body_of(sent) == message(b"x" * 100)
    assert peer.calls[0].writables == 1
    assert call.room() == 950


def test_the_status_comes_after_what_waits() -> None:
    peer = Peer().greet(INITIAL_WINDOW_SIZE=0).request(1, end=True)
    call = peer.calls[0].call
    call.send(b"late")
    call.finish(Code.OK)
    assert [frame.kind for frame in peer.take() if frame.stream_id] == [frames.HEADERS]
    peer.send(frames.window_update(1, 100))
    kinds = [(frame.kind, frame.flags) for frame in peer.take()]
    assert kinds == [(frames.DATA, 0), (frames.HEADERS, frames.END_HEADERS | frames.END_STREAM)]
    assert not peer.connection.streams


def test_a_smaller_window_makes_it_negative() -> None:
    peer = Peer().greet(INITIAL_WINDOW_SIZE=100).request(1)
    call = peer.calls[0].call
    call.send(b"x" * 95)
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 10}))
    assert call.stream.send_window == -90
    assert call.room() == 0
    peer.send(frames.window_update(1, 91))
    assert call.room() == 1


def test_the_connections_window_is_shared_in_turn() -> None:
    peer = Peer().greet(INITIAL_WINDOW_SIZE=1 << 20)
    for stream_id in (1, 3):
        peer.request(stream_id, end=True)
    peer.calls[0].call.send(bytes(60_000))
    for recorder in peer.calls:
        recorder.call.send(bytes(40_000))
    peer.take()
    peer.send(frames.window_update(0, 40_000))
    sent = {1: 0, 3: 0}
    for frame in peer.took(frames.DATA):
        sent[frame.stream_id] += len(frame.payload)
    assert sum(sent.values()) == 40_000
    assert min(sent.values()) > 10_000


def test_who_holds_messages_gives_no_window() -> None:
    limits = Limits(stream_window=1000)
    peer = Peer(limits).greet().request(1)
    recorder = peer.calls[0]
    recorder.call.hold()
    peer.take()
    for _ in range(9):
        peer.data(1, message(bytes(95)))
    assert not recorder.messages
    assert not peer.took(frames.WINDOW_UPDATE)
    recorder.call.release()
    assert len(recorder.messages) == 9
    given = [frame.number for frame in peer.took(frames.WINDOW_UPDATE) if frame.stream_id]
    assert 500 <= sum(given) <= 900


def test_more_than_the_streams_window_ends_the_stream_alone() -> None:
    peer = Peer(Limits(stream_window=100)).greet().request(1)
    peer.calls[0].call.hold()
    peer.data(1, message(bytes(90))).data(1, message(bytes(90)))
    (reset,) = peer.took(frames.RST_STREAM)
    assert ErrorCode(reset.number) == ErrorCode.FLOW_CONTROL_ERROR
    assert peer.calls[0].gone_by is not None
    assert not peer.connection.closed


def test_a_large_message_comes_through_a_small_window() -> None:
    peer = Peer(Limits(stream_window=1000)).greet().request(1)
    peer.take()
    window, whole = 1000, message(bytes(range(256)) * 40)
    while whole:
        part, whole = whole[:window], whole[window:]
        peer.data(1, part)
        given = sum(f.number for f in peer.took(frames.WINDOW_UPDATE) if f.stream_id)
        window = window - len(part) + given
        assert window, "the client may send nothing more, and the message is not whole"
    assert peer.calls[0].messages == [bytes(range(256)) * 40]


def test_the_connections_window_comes_back_when_a_call_ends() -> None:
    limits = Limits(stream_window=40_000, connection_window=80_000)
    peer = Peer(limits).greet()
    for stream_id in range(1, 40, 2):
        peer.request(stream_id)
        peer.calls[-1].call.hold()
        peer.data(stream_id, message(bytes(30_000 - 5))[:16_000])
        peer.data(stream_id, message(bytes(30_000 - 5))[16_000:])
        peer.frame(frames.RST_STREAM, 0, stream_id, (8).to_bytes(4, "big"))
    assert not peer.connection.closed
    assert peer.connection.recv_left == 80_000


# --- time ---


def test_no_handshake_in_time() -> None:
    peer = Peer()
    peer.pass_time(11)
    assert code_of(peer) == ErrorCode.SETTINGS_TIMEOUT


@pytest.mark.parametrize("torn", [b"\0", frames.head(100, frames.DATA, 0, 1) + b"half"])
def test_a_frame_that_does_not_end(torn: bytes) -> None:
    peer = Peer().greet().send(torn)
    peer.pass_time(30)
    assert code_of(peer) == ErrorCode.ENHANCE_YOUR_CALM


def test_a_header_block_that_does_not_end() -> None:
    peer = Peer().greet().frame(frames.HEADERS, 0, 1, b"\x82")
    peer.pass_time(30)
    assert code_of(peer) == ErrorCode.ENHANCE_YOUR_CALM


def test_a_response_that_nobody_reads() -> None:
    peer = Peer(Limits(keepalive_s=1e6)).greet(INITIAL_WINDOW_SIZE=0).request(1).request(3)
    peer.calls[0].call.send(b"x")
    peer.pass_time(40)
    (reset,) = peer.took(frames.RST_STREAM)
    assert reset.stream_id == 1
    assert peer.calls[0].gone_by is not None
    assert peer.calls[1].gone_by is None


def test_room_is_asked_for_and_never_comes() -> None:
    peer = Peer(Limits(keepalive_s=1e6)).greet(INITIAL_WINDOW_SIZE=0).request(1)
    assert peer.calls[0].call.room() == 0
    peer.pass_time(40)
    assert peer.calls[0].gone_by is not None


def test_a_message_that_does_not_end() -> None:
    peer = Peer(Limits(keepalive_s=1e6)).greet().request(1).data(1, message(bytes(100))[:50])
    peer.pass_time(130)
    assert [error.code for error in peer.calls[0].errors] == [Code.DEADLINE_EXCEEDED]


def test_a_silent_peer_is_asked_and_dropped() -> None:
    peer = Peer().greet()
    peer.pass_time(31)
    (ping,) = [frame for frame in peer.took(frames.PING) if not frame.flags]
    peer.frame(frames.PING, frames.ACK, 0, ping.payload)
    peer.pass_time(29)
    assert not peer.connection.closed
    peer.pass_time(20)
    assert peer.connection.closed


# --- the end ---


def test_goaway_comes_in_two_steps() -> None:
    peer = Peer().greet().request(1)
    peer.take()
    peer.connection.shutdown()
    goaway, ping = peer.take()
    assert int.from_bytes(goaway.payload[:4], "big") == frames.MAX_STREAM_ID
    # A request that was on its way is served.
    peer.request(3, end=True)
    assert len(peer.calls) == 2
    peer.frame(frames.PING, frames.ACK, 0, ping.payload)
    (second,) = peer.took(frames.GOAWAY)
    assert int.from_bytes(second.payload[:4], "big") == 3
    # One that comes later is not, and costs nobody anything.
    peer.request(5, end=True)
    assert len(peer.calls) == 2
    for recorder in peer.calls:
        assert not peer.connection.closed
        recorder.call.finish()
    assert peer.connection.closed


def test_a_peer_that_does_not_answer_goes_all_the_same() -> None:
    peer = Peer().greet()
    peer.connection.shutdown()
    peer.pass_time(12)
    assert peer.connection.closed


def test_when_the_connection_is_lost_every_call_is_told_once() -> None:
    peer = Peer().greet().request(1).request(3)
    peer.connection.lost()
    peer.connection.lost()
    assert [recorder.gone_by for recorder in peer.calls] == [Code.CANCELLED] * 2


# --- floods ---


@pytest.mark.parametrize(
    "flood",
    [
        frames.ping(bytes(8)),
        frames.settings({}),
        frames.head(5, frames.PRIORITY, 0, 3) + bytes(5),
        frames.window_update(0, 1),
        frames.head(0, frames.DATA, 0, 1),
        frames.head(3, 0x77, 0, 1) + b"new",
        frames.goaway(0, 0),
    ],
    ids=["PING", "SETTINGS", "PRIORITY", "WINDOW_UPDATE", "empty DATA", "unknown", "GOAWAY"],
)
def test_a_flood_of_frames_that_carry_nothing(flood: bytes) -> None:
    peer = Peer().greet().request(1)
    for _ in range(100):
        peer.send(flood * 50)
        if peer.connection.closed:
            break
    assert code_of(peer) == ErrorCode.ENHANCE_YOUR_CALM


def test_who_answers_each_message_with_a_ping_is_no_flood() -> None:
    peer = Peer().greet(INITIAL_WINDOW_SIZE=1 << 30).request(1)
    peer.send(frames.window_update(0, 1 << 30))
    for _ in range(5000):
        peer.calls[0].call.send(bytes(100))
        peer.send(frames.ping(bytes(8)) + frames.window_update(0, 100))
        peer.take()
    assert not peer.connection.closed


def test_rapid_reset() -> None:
    peer = Peer().greet()
    for stream_id in range(1, 4000, 2):
        peer.request(stream_id)
        peer.frame(frames.RST_STREAM, 0, stream_id, (8).to_bytes(4, "big"))
        if peer.connection.closed:
            break
    assert code_of(peer) == ErrorCode.ENHANCE_YOUR_CALM
    assert len(peer.calls) < 600


def test_continuation_flood() -> None:
    peer = Peer().greet().frame(frames.HEADERS, 0, 1, b"")
    for _ in range(100):
        peer.frame(frames.CONTINUATION, 0, 1, b"")
        if peer.connection.closed:
            break
    assert code_of(peer) == ErrorCode.ENHANCE_YOUR_CALM


def test_an_hpack_bomb() -> None:
    peer = Peer().greet()
    size = 4000 - 127
    entry = b"\x40\x01a\x7f" + bytes((size & 127 | 128, size >> 7)) + b"v" * 4000
    peer.frame(frames.HEADERS, frames.END_HEADERS, 1, entry + b"\xbe" * 10_000)
    assert code_of(peer) == ErrorCode.ENHANCE_YOUR_CALM


def test_too_much_metadata_is_refused_and_no_more() -> None:
    peer = Peer().greet().request(1, ("big", "x" * 17_000), end=True)
    head = peer.took(frames.HEADERS)[0]
    assert peer.headers(head)["grpc-status"] == str(int(Code.RESOURCE_EXHAUSTED))
    assert not peer.connection.closed
    peer.request(3, end=True)
    assert len(peer.calls) == 1


def test_too_many_streams() -> None:
    peer = Peer(Limits(concurrent_streams=2)).greet()
    for stream_id in (1, 3, 5):
        peer.request(stream_id)
    (reset,) = peer.took(frames.RST_STREAM)
    assert (reset.stream_id, ErrorCode(reset.number)) == (5, ErrorCode.REFUSED_STREAM)
    assert len(peer.calls) == 2


# --- proxies ---


def test_behind_a_proxy_what_one_stream_does_costs_itself() -> None:
    peer = Peer(Limits(stream_window=100), trusted=True).greet().request(1).request(3, end=True)
    honest = peer.calls[1]
    peer.calls[0].call.hold()
    peer.data(1, message(bytes(90))).data(1, message(bytes(90)))  # above its window
    peer.data(3, b"after the end")
    for stream_id in range(5, 10_000, 2):
        peer.request(stream_id)
        peer.frame(frames.RST_STREAM, 0, stream_id, (8).to_bytes(4, "big"))
    peer.data(9_999, b"after the reset")
    assert not peer.connection.closed
    assert peer.calls[0].gone_by is not None
    assert honest.gone_by == Code.INTERNAL  # it sent after its end: a violation of its own
    peer.request(20_001, end=True)
    peer.calls[-1].call.finish()
    assert not peer.connection.closed


# --- header blocks ---


def test_a_smaller_table_is_acknowledged_in_the_next_block() -> None:
    peer = Peer().greet(HEADER_TABLE_SIZE=0).request(1, end=True).request(3, end=True)
    peer.decoder.header_table_size = 0
    peer.decoder.max_allowed_table_size = 0
    for recorder in peer.calls:
        recorder.call.finish()
    first, second = peer.took(frames.HEADERS)
    assert first.payload.startswith(b"\x20")
    assert not second.payload.startswith(b"\x20")
    assert peer.headers(first)["grpc-status"] == "0"


def test_padding_and_continuation() -> None:
    peer = Peer().greet()
    block = peer.encoder.encode(HEAD)
    head = b"\x03" + block[:10] + bytes(3)
    peer.frame(frames.HEADERS, frames.PADDED, 1, head)
    for part in (block[10:20], block[20:]):
        last = frames.END_HEADERS if part == block[20:] else 0
        peer.frame(frames.CONTINUATION, last, 1, part)
    peer.frame(frames.DATA, frames.PADDED, 1, b"\x02" + message(b"hello") + bytes(2))
    assert peer.calls[0].messages == [b"hello"]


def test_bytes_may_come_one_by_one() -> None:
    whole = Peer()
    block = whole.encoder.encode(HEAD)
    data = frames.PREFACE + frames.settings({})
    data += frames.head(len(block), frames.HEADERS, frames.END_HEADERS, 1) + block
    body = message(b"hello") + message(b"") + message(b"x" * 300)
    data += frames.head(len(body), frames.DATA, frames.END_STREAM, 1) + body
    peer = Peer()
    for byte in data:
        peer.send(bytes((byte,)))
    assert peer.calls[0].messages == [b"hello", b"", b"x" * 300]
    assert peer.calls[0].ended


def test_what_is_no_grpc_gets_an_http_answer() -> None:
    for method, status in (("GET", "415"), ("DELETE", "405")):
        peer = Peer().greet()
        head = ((":method", method), (":scheme", "http"), (":path", "/"), (":authority", "a"))
        peer.request(1, end=True, head=head)
        answer = peer.take()
        assert [f.kind for f in answer if f.stream_id] == [frames.HEADERS, frames.DATA]
        assert peer.headers(next(f for f in answer if f.stream_id))[":status"] == status


def test_an_http1_client_is_told() -> None:
    peer = Peer().send(b"GET / HTTP/1.1\r\n\r\n")
    assert code_of(peer) == ErrorCode.PROTOCOL_ERROR


def test_a_handler_may_answer_within_the_request() -> None:
    def answer(recorder: Recorder) -> None:
        recorder.call.finish(Code.NOT_FOUND, "no")

    peer = Peer().greet()
    peer.opened = answer
    peer.request(1, end=True)
    assert not peer.took(frames.RST_STREAM)
    peer.request(3).data(3, message(b"still coming"), end=True)
    (reset,) = peer.took(frames.RST_STREAM)
    assert ErrorCode(reset.number) == ErrorCode.NO_ERROR
    assert not peer.connection.closed
