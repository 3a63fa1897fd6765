"""RFC 9113 where h2spec does not look: windows, time, floods, the end, and proxies."""

from __future__ import annotations

import pytest

from chinwag_server.wire import frames
from chinwag_server.wire.connection import Connection
from chinwag_server.wire.dispatch import Dispatch
from chinwag_server.wire.errors import ErrorCode
from chinwag_server.wire.limits import Limits
from chinwag_server.wire.status import Code
from tests.wire.core.peer import HEAD, Peer, Recorder, message

CANCEL = int(ErrorCode.CANCEL).to_bytes(4, "big")


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


def test_who_cancels_all_that_is_open_at_once_is_no_flood() -> None:
    peer = Peer(Limits(resets_burst=0, resets_per_second=100, keepalive_s=1e6)).greet()
    most = peer.connection.limits.concurrent_streams
    for start in (1, 2 * most + 1):
        opened = range(start, start + 2 * most - 2, 2)
        for stream_id in opened:
            peer.request(stream_id).data(stream_id, message(b""))
        for stream_id in opened:
            peer.frame(frames.RST_STREAM, 0, stream_id, CANCEL)
        peer.pass_time(10)
    assert peer.is_open()
    assert len(peer.calls) == 2 * (most - 1)
    assert all(recorder.gone_by is Code.CANCELLED for recorder in peer.calls)


def test_who_resets_each_stream_that_the_server_ends_is_no_flood() -> None:
    peer = Peer().greet()
    for stream_id in range(1, 10_000, 2):
        peer.request(stream_id).data(stream_id, message(b""))
        peer.calls[-1].call.finish()
        peer.frame(frames.RST_STREAM, 0, stream_id, bytes(4))
    assert peer.is_open()


def test_a_flood_of_resets_of_one_stream() -> None:
    peer = Peer().greet().request(1)
    for _ in range(5000):
        if peer.is_open():
            peer.frame(frames.RST_STREAM, 0, 1, CANCEL)
    assert code_of(peer) == ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("code", [Code.OK, Code.NOT_FOUND])
def test_empty_calls_at_any_rate_are_no_flood(code: Code) -> None:
    peer = Peer().greet()
    for stream_id in range(1, 10_000, 2):
        # As grpc's clients do: windows are opened with each call, and the bandwidth is measured.
        peer.request(stream_id).send(frames.window_update(stream_id, 5))
        peer.data(stream_id, message(b""), end=True)
        call = peer.calls[-1].call
        if code is Code.OK:
            call.send(b"")
        call.finish(code)
        peer.send(frames.window_update(0, 5) + frames.ping(bytes(8)))
        peer.take()
    assert peer.is_open()


def test_a_ping_pong_of_empty_messages_is_no_flood() -> None:
    peer = Peer().greet().request(1)
    for _ in range(5000):
        peer.data(1, message(b""))
        peer.calls[0].call.send(b"")
        peer.send(frames.window_update(1, 5) + frames.window_update(0, 5) + frames.ping(bytes(8)))
        peer.take()
    assert peer.is_open()


def test_empty_messages_may_be_answered_late() -> None:
    peer = Peer().greet(INITIAL_WINDOW_SIZE=1 << 20).request(1)
    peer.send(frames.window_update(0, 1 << 20))
    for _ in range(8000):
        peer.calls[0].call.send(b"")
    for _ in range(8000):
        peer.send(frames.window_update(1, 5) + frames.window_update(0, 5))
    assert peer.is_open()


@pytest.mark.parametrize("size", [1, 5, 15])
def test_who_takes_a_message_in_crumbs_is_a_flood(size: int) -> None:
    peer = Peer().greet(INITIAL_WINDOW_SIZE=0).request(1)
    peer.calls[0].call.send(bytes(200_000))
    for _ in range(5000):
        if peer.is_open():
            peer.send(frames.window_update(1, size))
    assert code_of(peer) == ErrorCode.ENHANCE_YOUR_CALM


def test_messages_on_their_way_to_a_stream_that_has_ended_are_nobodys_fault() -> None:
    peer = Peer().greet().request(1).data(1, message(b""))
    peer.calls[0].call.finish(Code.NOT_FOUND)
    for _ in range(5000):
        peer.data(1, message(b""))
    assert peer.is_open()
    for _ in range(5000):
        if peer.is_open():
            peer.data(1, b"")
    assert code_of(peer) == ErrorCode.ENHANCE_YOUR_CALM


def test_a_connection_that_ends_within_a_turn_has_no_more_to_do() -> None:
    peer = Peer(Limits(handshake_s=10))
    peer.connection.receive(frames.PREFACE + frames.head(0, 0x77, 0, 0) * 300)
    before = peer.connection.more
    peer.now += 11
    peer.connection.tick()
    peer.connection.receive(b"")
    assert (before, peer.connection.more) == (True, False)
    assert code_of(peer) == ErrorCode.SETTINGS_TIMEOUT


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


# --- rules of frames ---

SETTING = b"\0\4\0\0\0\1"


@pytest.mark.parametrize(
    ("kind", "flags", "stream_id", "payload", "code"),
    [
        (frames.DATA, 0, 0, b"x", ErrorCode.PROTOCOL_ERROR),
        (frames.DATA, 0, 3, b"x", ErrorCode.PROTOCOL_ERROR),
        (frames.DATA, frames.PADDED, 1, b"\x01", ErrorCode.PROTOCOL_ERROR),
        (frames.DATA, frames.PADDED, 1, b"", ErrorCode.PROTOCOL_ERROR),
        (frames.DATA, 0, 1, bytes(16_385), ErrorCode.FRAME_SIZE_ERROR),
        (frames.HEADERS, frames.END_HEADERS, 0, b"\x82", ErrorCode.PROTOCOL_ERROR),
        (frames.HEADERS, frames.END_HEADERS, 2, b"\x82", ErrorCode.PROTOCOL_ERROR),
        (frames.HEADERS, frames.END_HEADERS, 3, b"\xff", ErrorCode.COMPRESSION_ERROR),
        (frames.HEADERS, frames.PADDED, 3, b"\x05\x82", ErrorCode.PROTOCOL_ERROR),
        (frames.HEADERS, frames.HAS_PRIORITY, 3, bytes(4), ErrorCode.FRAME_SIZE_ERROR),
        (frames.PRIORITY, 0, 0, bytes(5), ErrorCode.PROTOCOL_ERROR),
        (frames.RST_STREAM, 0, 0, bytes(4), ErrorCode.PROTOCOL_ERROR),
        (frames.RST_STREAM, 0, 3, bytes(4), ErrorCode.PROTOCOL_ERROR),
        (frames.RST_STREAM, 0, 2, bytes(4), ErrorCode.PROTOCOL_ERROR),
        (frames.RST_STREAM, 0, 1, bytes(3), ErrorCode.FRAME_SIZE_ERROR),
        (frames.SETTINGS, 0, 1, b"", ErrorCode.PROTOCOL_ERROR),
        (frames.SETTINGS, 0, 0, bytes(5), ErrorCode.FRAME_SIZE_ERROR),
        (frames.SETTINGS, frames.ACK, 0, SETTING, ErrorCode.FRAME_SIZE_ERROR),
        (frames.SETTINGS, 0, 0, b"\0\2\0\0\0\2", ErrorCode.PROTOCOL_ERROR),
        (frames.SETTINGS, 0, 0, b"\0\4\x80\0\0\0", ErrorCode.FLOW_CONTROL_ERROR),
        (frames.SETTINGS, 0, 0, b"\0\5\0\0\x3f\xff", ErrorCode.PROTOCOL_ERROR),
        (frames.SETTINGS, 0, 0, b"\0\5\x01\0\0\0", ErrorCode.PROTOCOL_ERROR),
        (frames.PUSH_PROMISE, frames.END_HEADERS, 1, bytes(4), ErrorCode.PROTOCOL_ERROR),
        (frames.PING, 0, 1, bytes(8), ErrorCode.PROTOCOL_ERROR),
        (frames.PING, 0, 0, bytes(7), ErrorCode.FRAME_SIZE_ERROR),
        (frames.GOAWAY, 0, 1, bytes(8), ErrorCode.PROTOCOL_ERROR),
        (frames.GOAWAY, 0, 0, bytes(7), ErrorCode.FRAME_SIZE_ERROR),
        (frames.WINDOW_UPDATE, 0, 0, bytes(4), ErrorCode.PROTOCOL_ERROR),
        (frames.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff", ErrorCode.FLOW_CONTROL_ERROR),
        (frames.WINDOW_UPDATE, 0, 3, b"\0\0\0\1", ErrorCode.PROTOCOL_ERROR),
        (frames.WINDOW_UPDATE, 0, 1, bytes(5), ErrorCode.FRAME_SIZE_ERROR),
        (frames.CONTINUATION, frames.END_HEADERS, 1, b"", ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_what_ends_the_connection(
    kind: int, flags: int, stream_id: int, payload: bytes, code: ErrorCode
) -> None:
    peer = Peer().greet().request(1)
    peer.frame(kind, flags, stream_id, payload)
    assert code_of(peer) == code
    assert peer.calls[0].gone_by is not None
    assert peer.connection.fault is not None
    assert not peer.connection.streams
    peer.frame(frames.PING, 0, 0, bytes(8))
    assert not peer.take()


@pytest.mark.parametrize(
    ("kind", "flags", "payload", "code"),
    [
        (frames.PRIORITY, 0, bytes(4), ErrorCode.FRAME_SIZE_ERROR),
        (frames.PRIORITY, 0, b"\0\0\0\1\0", ErrorCode.PROTOCOL_ERROR),
        (frames.WINDOW_UPDATE, 0, bytes(4), ErrorCode.PROTOCOL_ERROR),
        (frames.WINDOW_UPDATE, 0, b"\x7f\xff\xff\xff", ErrorCode.FLOW_CONTROL_ERROR),
        # A second HEADERS without END_STREAM; with a pseudo-header field; with a bad name.
        (frames.HEADERS, frames.END_HEADERS, b"\0\1a\0", ErrorCode.PROTOCOL_ERROR),
        (frames.HEADERS, 5, b"\x82", ErrorCode.PROTOCOL_ERROR),
        (frames.HEADERS, 5, b"\0\1A\0", ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_what_ends_one_stream(kind: int, flags: int, payload: bytes, code: ErrorCode) -> None:
    peer = Peer().greet().request(1).request(3)
    peer.frame(kind, flags, 1, payload)
    (reset,) = peer.took(frames.RST_STREAM)
    assert (reset.stream_id, ErrorCode(reset.number)) == (1, code)
    assert [recorder.gone_by is None for recorder in peer.calls] == [False, True]
    assert set(peer.connection.streams) == {3}


@pytest.mark.parametrize("kind", range(10))
def test_nothing_comes_between_the_parts_of_a_header_block(kind: int) -> None:
    peer = Peer().greet().frame(frames.HEADERS, 0, 1, b"\x83")
    peer.frame(kind, 0, 3 if kind == frames.CONTINUATION else 1, bytes(8))
    assert code_of(peer) == ErrorCode.PROTOCOL_ERROR


def test_what_nobody_knows_is_ignored() -> None:
    peer = Peer().greet(MAX_CONCURRENT_STREAMS=7, MAX_HEADER_LIST_SIZE=9).request(1)
    peer.frame(0x77, 0xFF, 99, b"new").frame(frames.PING, 0xFE, 0, bytes(8))
    peer.send(frames.settings({0xAAAA: 5}))
    assert not peer.connection.closed
    # The reserved bit of a stream id is not looked at (4.1).
    peer.data(1 | 1 << 31, message(b"hello"))
    assert peer.calls[0].messages == [b"hello"]


def test_the_first_frame_is_our_settings() -> None:
    limits = Limits(concurrent_streams=77, stream_window=100_000, header_list_bytes=9_999)
    first, window, ack = Peer(limits).greet().take()
    assert (first.kind, first.flags) == (frames.SETTINGS, 0)
    assert dict(frames.read_settings(first.payload)) == {
        frames.MAX_CONCURRENT_STREAMS: 77,
        frames.INITIAL_WINDOW_SIZE: 100_000,
        frames.MAX_HEADER_LIST_SIZE: 9_999,
    }
    assert window.number == limits.connection_window - frames.DEFAULT_WINDOW
    assert (ack.kind, ack.flags) == (frames.SETTINGS, frames.ACK)


@pytest.mark.parametrize("size", [16_384, 60_000, 1 << 20])
def test_frames_are_as_large_as_the_peer_takes_and_no_larger(size: int) -> None:
    peer = Peer().greet(MAX_FRAME_SIZE=size, INITIAL_WINDOW_SIZE=1 << 20)
    peer.send(frames.window_update(0, 1 << 20)).request(1)
    peer.calls[0].call.send(bytes(300_000))
    sizes: list[int] = []
    while peer.calls[0].call.stream.pending_bytes or not sizes:
        sizes += [len(frame.payload) for frame in peer.took(frames.DATA)]
        peer.connection.drain()
    sizes += [len(frame.payload) for frame in peer.took(frames.DATA)]
    assert sum(sizes) == 300_005
    assert max(sizes) == min(size, 65_536)


def test_the_connections_window_may_not_be_passed() -> None:
    peer = Peer(Limits(stream_window=1 << 20, connection_window=70_000)).greet().request(1)
    peer.calls[0].call.hold()
    for _ in range(4):
        peer.data(1, message(bytes(16_000)))
    assert not peer.connection.closed
    peer.data(1, message(bytes(16_000)))
    assert code_of(peer) == ErrorCode.FLOW_CONTROL_ERROR


def test_padding_counts_for_the_windows_and_comes_back() -> None:
    peer = Peer(Limits(stream_window=1000, connection_window=70_000)).greet().request(1)
    peer.calls[0].call.hold()
    peer.take()
    for _ in range(50):
        peer.frame(frames.DATA, frames.PADDED, 1, b"\xff" + bytes(255))
        if peer.connection.closed or 1 not in peer.connection.streams:
            break
        given = sum(f.number for f in peer.took(frames.WINDOW_UPDATE) if f.stream_id)
        assert given in (0, 512)
    assert 1 in peer.connection.streams
    assert peer.connection.recv_left == 70_000


@pytest.mark.parametrize(
    ("length", "parts", "trailers", "sound"),
    [
        ("10", (10,), False, True),
        ("10", (4, 6), False, True),
        ("10", (10,), True, True),
        ("10", (7,), False, False),
        ("10", (7,), True, False),
        ("10", (11,), False, False),
        ("0", (), False, True),
        ("0", (5,), False, False),
        ("010", (10,), False, True),
    ],
)
def test_content_length(length: str, parts: tuple[int, ...], trailers: bool, sound: bool) -> None:
    peer = Peer().greet().request(1, ("content-length", length))
    whole = message(bytes(sum(parts) - 5)) if parts else b""
    for size in parts:
        part, whole = whole[:size], whole[size:]
        peer.data(1, part, end=not whole and not trailers)
    if trailers:
        peer.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, b"\0\1a\0")
    elif not parts:
        peer.data(1, b"", end=True)
    resets = peer.took(frames.RST_STREAM)
    assert [ErrorCode(reset.number) for reset in resets] == (
        [] if sound else [ErrorCode.PROTOCOL_ERROR]
    )
    assert peer.calls[0].ended is sound
    assert not peer.connection.closed
    assert peer.connection.recv_left == peer.connection.limits.connection_window


def test_trailers_end_a_request() -> None:
    peer = Peer().greet().request(1).data(1, message(b"hello"))
    peer.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, b"\0\1a\1b")
    assert peer.calls[0].messages == [b"hello"]
    assert peer.calls[0].ended
    peer.data(1, b"more")
    (reset,) = peer.took(frames.RST_STREAM)
    assert ErrorCode(reset.number) == ErrorCode.STREAM_CLOSED


@pytest.mark.parametrize("kind", [frames.DATA, frames.HEADERS])
def test_a_stream_that_has_ended_stays_so(kind: int) -> None:
    peer = Peer().greet().request(1, end=True)
    peer.calls[0].call.finish()
    peer.send(frames.window_update(1, 5) + frames.rst_stream(1, 8))  # may be on their way
    assert not peer.connection.closed
    peer.frame(kind, frames.END_HEADERS | frames.END_STREAM, 1, b"\0\1a\0")
    assert code_of(peer) == ErrorCode.STREAM_CLOSED


def test_stream_ids_only_grow() -> None:
    peer = Peer().greet().request(5, end=True)
    peer.request(3, end=True)
    assert code_of(peer) == ErrorCode.STREAM_CLOSED
    assert len(peer.calls) == 1


def test_a_refused_block_is_decoded_all_the_same() -> None:
    peer = Peer(Limits(concurrent_streams=1)).greet().request(1)
    peer.request(3, ("kept-in-the-table", "x"))
    peer.calls[0].call.finish()
    peer.request(5, ("kept-in-the-table", "x"))
    assert peer.calls[1].call.metadata == (("kept-in-the-table", "x"),)


def test_a_table_of_no_size_is_that_of_all_blocks_of_the_client_too() -> None:
    peer = Peer().greet()
    peer.encoder.header_table_size = 0
    for stream_id in (1, 3):
        peer.request(stream_id, ("a", "b"), end=True)
    assert [recorder.call.metadata for recorder in peer.calls] == [(("a", "b"),)] * 2


def test_a_table_that_grows_again_is_emptied_once() -> None:
    peer = Peer().greet(HEADER_TABLE_SIZE=100)
    peer.send(frames.settings({frames.HEADER_TABLE_SIZE: 4096})).request(1, end=True)
    peer.calls[0].call.finish()
    (head,) = peer.took(frames.HEADERS)
    assert peer.headers(head)["grpc-status"] == "0"


# --- turns, and the socket ---


def test_others_have_their_turn() -> None:
    peer = Peer().greet().request(1)
    body = message(bytes(20))
    data = (frames.head(len(body), frames.DATA, 0, 1) + body) * 500
    peer.connection.receive(data)
    seen = []
    while peer.connection.more:
        seen.append(len(peer.calls[0].messages))
        peer.connection.receive(b"")
    assert seen == [200, 400]
    assert len(peer.calls[0].messages) == 500


def test_responses_wait_for_the_socket() -> None:
    peer = Peer().greet().request(1).request(3)
    connection = peer.connection
    connection.pause()
    peer.take()
    for recorder in peer.calls:
        assert recorder.call.room() == 0
        recorder.call.send(b"hello")
        assert not recorder.call.offer(b"many")
    peer.frame(frames.PING, 0, 0, bytes(8))
    assert {frame.kind for frame in peer.take()} == {frames.HEADERS, frames.PING}
    connection.resume()
    assert [frame.payload for frame in peer.took(frames.DATA)] == [message(b"hello")] * 2
    assert [recorder.writables for recorder in peer.calls] == [1, 1]


def test_what_lies_ready_is_bounded() -> None:
    peer = Peer().greet(INITIAL_WINDOW_SIZE=1 << 30)
    peer.send(frames.window_update(0, 1 << 30)).request(1)
    peer.take()
    call = peer.calls[0].call
    for _ in range(50):
        call.send(bytes(16_000))
    sent = 0
    for _ in range(100):
        out = peer.connection.take_output()
        assert len(out) < 200_000
        sent += len(out)
        peer.connection.drain()
    assert sent > 50 * 16_000
    assert not peer.connection.pending_bytes


def test_who_waits_is_told_once_there_is_output() -> None:
    woken: list[int] = []
    connection = Connection(
        Dispatch(lambda _: None), Limits(), lambda: 1.0, wake=lambda: woken.append(1)
    )
    connection.receive(frames.PREFACE)
    connection.receive(frames.settings({}))
    assert len(woken) == 1
    assert connection.take_output()
    connection.receive(frames.ping(bytes(8)))
    assert len(woken) == 2
    connection.take_output()
    assert connection.take_output() == b""


# --- more of time ---


def test_settings_end_the_handshake_and_nothing_else_does() -> None:
    peer = Peer(Limits(keepalive_s=1e6)).send(frames.PREFACE).frame(frames.PING, 0, 0, bytes(8))
    peer.pass_time(11)
    assert code_of(peer) == ErrorCode.SETTINGS_TIMEOUT
    peer = Peer(Limits(keepalive_s=1e6)).greet()
    peer.pass_time(1000)
    assert not peer.connection.closed


def test_the_time_for_the_handshake_is_from_the_acceptance_on() -> None:
    connection = Connection(
        Dispatch(lambda _call: None), Limits(handshake_s=10), lambda: 100.0, accepted_at=89.0
    )
    connection.receive(frames.PREFACE)
    connection.tick()
    assert connection.fault is not None
    assert connection.fault.code is ErrorCode.SETTINGS_TIMEOUT


def test_a_frame_may_be_slow_and_each_has_its_time() -> None:
    peer = Peer(Limits(frame_s=10, keepalive_s=1e6)).greet()
    whole = frames.ping(bytes(8))
    for _ in range(5):
        peer.send(whole[:5])
        peer.pass_time(8)
        peer.send(whole[5:] + whole[:3])
        peer.pass_time(8)
        peer.send(whole[3:])
    assert peer.is_open()
    peer.send(whole[:1])
    for at in range(1, 13):  # one that trickles
        assert peer.is_open() or at > 10
        peer.pass_time(1)
        peer.send(whole[at : at + 1])
    assert code_of(peer) == ErrorCode.ENHANCE_YOUR_CALM


def test_any_progress_is_no_stall() -> None:
    peer = Peer(Limits(stall_s=10, keepalive_s=1e6)).greet(INITIAL_WINDOW_SIZE=0).request(1)
    peer.calls[0].call.send(bytes(100))
    for _ in range(10):
        peer.pass_time(8)
        peer.send(frames.window_update(1, 1))
    assert set(peer.connection.streams) == {1}
    peer.pass_time(12)
    assert peer.calls[0].gone_by is not None
    assert not peer.connection.blocked


def test_any_byte_is_a_sign_of_life() -> None:
    peer = Peer().greet()
    for _ in range(20):
        peer.pass_time(25)
        peer.frame(0x77, 0, 0)
    assert not peer.took(frames.PING)
    peer.pass_time(31)
    assert len(peer.took(frames.PING)) == 1


# --- more of the end ---


def leave(peer: Peer) -> None:
    """A shutdown whose first step the client has read."""
    peer.connection.shutdown()
    (ping,) = peer.took(frames.PING)
    peer.frame(frames.PING, frames.ACK, 0, ping.payload)


def test_a_shutdown_is_said_once() -> None:
    peer = Peer().greet().request(1)
    peer.take()
    for _ in range(3):
        peer.connection.shutdown()
    assert [frame.kind for frame in peer.take()] == [frames.GOAWAY, frames.PING]
    peer.frame(frames.PING, frames.ACK, 0, b"farewell").frame(
        frames.PING, frames.ACK, 0, b"farewell"
    )
    assert len(peer.took(frames.GOAWAY)) == 1


def test_an_answer_to_another_ping_is_no_farewell() -> None:
    peer = Peer().greet().frame(frames.PING, frames.ACK, 0, b"farewell")
    peer.connection.shutdown()
    peer.frame(frames.PING, frames.ACK, 0, bytes(8))
    assert not peer.connection.closed


def test_a_shutdown_before_the_preface() -> None:
    peer = Peer()
    peer.connection.shutdown()
    assert peer.connection.closed
    assert not peer.take()


def test_data_of_a_request_that_came_too_late_is_nobodys_fault() -> None:
    peer = Peer().greet().request(1)
    leave(peer)
    peer.request(3).data(3, message(b"hello")).data(3, b"", end=True)
    assert not peer.connection.closed
    assert peer.connection.recv_left == peer.connection.limits.connection_window


@pytest.mark.parametrize(
    "late", [frames.rst_stream(3, 8), frames.window_update(3, 5)], ids=["reset", "window"]
)
def test_frames_of_a_request_that_came_too_late_are_nobodys_fault(late: bytes) -> None:
    # RFC 9113, 6.8: those with higher ids than the GOAWAY's are discarded.
    peer = Peer().greet().request(1)
    leave(peer)
    peer.request(3).send(late)
    assert not peer.connection.closed
    assert peer.calls[0].gone_by is None


def test_nothing_is_said_after_the_last_goaway() -> None:
    peer = Peer().greet()
    peer.connection.shutdown()
    peer.take()
    peer.now += 40
    peer.connection.tick()
    assert peer.connection.closed
    assert [frame.kind for frame in peer.take()] == [frames.GOAWAY]


def test_calls_are_told_when_a_rule_is_broken_and_nothing_is_left() -> None:
    peer = Peer().greet(INITIAL_WINDOW_SIZE=0)
    for stream_id in (1, 3, 5):
        peer.request(stream_id)
        peer.calls[-1].call.send(b"waits")
    peer.frame(frames.PING, 0, 1, bytes(8))
    connection = peer.connection
    assert [recorder.gone_by for recorder in peer.calls] == [Code.CANCELLED] * 3
    assert not connection.streams
    assert not connection.blocked
    assert not connection.queue
    assert not connection.pending_bytes


def test_a_stream_of_small_messages_is_no_flood() -> None:
    peer = Peer().greet(INITIAL_WINDOW_SIZE=1 << 20).request(1)
    peer.opened = lambda _: None
    for _ in range(10):
        for _ in range(1000):  # a second: 1,000 empty messages, each answered with one
            peer.data(1, message(b""))
            if not peer.connection.closed:
                peer.calls[0].call.send(b"")
        peer.pass_time(1)
    assert not peer.connection.closed


def test_a_window_that_is_closed_by_settings_and_opened_again_lets_all_go_on() -> None:
    peer = Peer().greet(INITIAL_WINDOW_SIZE=50)
    for stream_id in (1, 3, 5):
        peer.request(stream_id, end=True)
        peer.calls[-1].call.send(bytes(100))
        peer.calls[-1].call.finish()
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
    sent = len(b"".join(frame.payload for frame in peer.took(frames.DATA)))
    assert sent == 150
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 200}))
    sent += len(b"".join(frame.payload for frame in peer.took(frames.DATA)))
    assert sent == 3 * 105
    assert not peer.connection.streams
    assert not peer.connection.pending_bytes


def test_a_window_that_would_be_too_large_through_settings() -> None:
    peer = Peer().greet().request(1)
    peer.send(frames.window_update(1, frames.MAX_WINDOW - frames.DEFAULT_WINDOW))
    assert not peer.connection.closed
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: frames.DEFAULT_WINDOW + 1}))
    assert code_of(peer) == ErrorCode.FLOW_CONTROL_ERROR


@pytest.mark.parametrize("trusted", [True, False])
def test_who_waits_for_the_connection_alone_is_blamed_only_where_it_is_ones_own(
    trusted: bool,
) -> None:
    limits = Limits(keepalive_s=1e6)
    peer = Peer(limits, trusted=trusted).greet(INITIAL_WINDOW_SIZE=1 << 20)
    peer.request(1, end=True)
    peer.calls[0].call.send(bytes(100_000))  # more than the connection's window
    peer.pass_time(40)
    assert (peer.calls[0].gone_by is None) is trusted
