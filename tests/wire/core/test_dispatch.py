"""What is a gRPC call, and what the others are told ("Requests" of the gRPC document)."""

from __future__ import annotations

import pytest

from chinwag_server.wire import frames
from chinwag_server.wire.errors import ErrorCode
from chinwag_server.wire.limits import Limits
from chinwag_server.wire.status import Code
from tests.wire.core.peer import HEAD, Frame, Peer


def head(method: str, *more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return ((":method", method), (":scheme", "http"), (":path", "/a.B/C"), *more)


def answer(peer: Peer) -> list[Frame]:
    return [frame for frame in peer.take() if frame.stream_id]


@pytest.mark.parametrize(
    "kind",
    [
        *("application/grpc", "application/grpc+proto", "application/grpc+json"),
        *("application/grpc;charset=utf-8", "Application/GRPC"),
    ],
)
def test_calls(kind: str) -> None:
    peer = Peer().greet().request(1, head=head("POST", ("content-type", kind)))
    assert [recorder.call.path for recorder in peer.calls] == ["/a.B/C"]


@pytest.mark.parametrize(
    "more",
    [
        (),
        (("content-type", "application/json"),),
        (("content-type", "application/grpc-web"),),
        (("content-type", "application/grpcx"),),
        (("content-type", ""),),
    ],
)
def test_other_types(more: tuple[tuple[str, str], ...]) -> None:
    peer = Peer().greet().request(1, head=head("POST", *more), end=True)
    assert not peer.calls
    first, body = answer(peer)
    fields = peer.headers(first)
    assert fields[":status"] == "415"
    assert int(fields["content-length"]) == len(body.payload)
    assert b"gRPC client" in body.payload
    assert body.flags & frames.END_STREAM


@pytest.mark.parametrize(("method", "status"), [("GET", "415"), ("PUT", "405"), ("OPTIONS", "405")])
def test_other_methods(method: str, status: str) -> None:
    peer = Peer().greet().request(1, head=head(method, *HEAD[4:]), end=True)
    assert not peer.calls
    assert peer.headers(answer(peer)[0])[":status"] == status


def test_an_answer_to_head_has_no_body() -> None:
    # RFC 9110, 9.3.2.
    peer = Peer().greet().request(1, head=head("HEAD"), end=True)
    assert [(frame.kind, frame.flags & frames.END_STREAM) for frame in answer(peer)] == [
        (frames.HEADERS, frames.END_STREAM)
    ]


def test_the_body_of_what_is_no_call_goes_nowhere() -> None:
    peer = Peer(Limits(stream_window=1000)).greet().request(1, head=head("PUT"))
    peer.take()
    for _ in range(20):
        peer.data(1, bytes(500))
    assert not answer_kinds(peer) & {frames.HEADERS, frames.DATA}
    peer.data(1, b"", end=True)
    assert {frames.HEADERS, frames.DATA} <= answer_kinds(peer)
    assert not peer.connection.streams
    assert peer.connection.recv_left == peer.connection.limits.connection_window


def answer_kinds(peer: Peer) -> set[int]:
    return {frame.kind for frame in answer(peer)}


def test_what_is_no_call_and_does_not_end() -> None:
    peer = Peer(Limits(keepalive_s=1e6, message_s=10)).greet().request(1, head=head("PUT"))
    peer.pass_time(12)
    (reset,) = peer.took(frames.RST_STREAM)
    assert ErrorCode(reset.number) == ErrorCode.CANCEL
    assert not peer.connection.streams


def test_who_asks_much_that_is_no_call_is_told_to_calm_down() -> None:
    peer = Peer(Limits(resets_burst=5, resets_per_second=0)).greet()
    for stream_id in range(1, 11, 2):
        peer.request(stream_id, head=head("GET"), end=True)
    assert peer.is_open()
    peer.request(11, head=head("GET"), end=True)
    assert not peer.is_open()
    (goaway,) = peer.took(frames.GOAWAY)
    assert ErrorCode(goaway.number) == ErrorCode.ENHANCE_YOUR_CALM


def test_a_head_that_is_not_sound_is_refused_and_never_opened() -> None:
    peer = Peer().greet().request(1, ("grpc-timeout", "soon"))
    assert not peer.calls
    frames_sent = answer(peer)
    assert peer.headers(frames_sent[0])["grpc-status"] == str(int(Code.INTERNAL))
    # The request was not whole: the client is told that the rest is not needed (8.1).
    assert [(frame.kind, frame.number) for frame in frames_sent[1:]] == [
        (frames.RST_STREAM, ErrorCode.NO_ERROR)
    ]
    peer.data(1, b"on its way", end=True)
    assert not peer.connection.closed
