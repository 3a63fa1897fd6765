"""What is fuzzed: bytes to a connection, with an application that does all it may."""

from __future__ import annotations

from chinwag_server.wire import frames
from chinwag_server.wire.limits import Limits
from tests.wire.core.peer import Peer, Recorder, message, read_frames

LIMITS = Limits(
    concurrent_streams=8,
    stream_window=2_000,
    connection_window=70_000,
    message_bytes=4_000,
    header_list_bytes=1_000,
    burst=300,
    resets_burst=20,
)
# What a connection may keep of what it was sent, and have ready to send, for one piece of input.
MAX_KEPT = 200_000


def _act(recorder: Recorder, choice: int) -> None:
    """Something that an application does with a call."""
    call = recorder.call
    match choice % 8:
        case 0:
            call.send(b"answer")
        case 1:
            call.send(bytes(500))
        case 2:
            call.finish()
        case 3:
            call.finish(5, "not här")
        case 4:
            call.hold()
        case 5:
            call.release()
        case 6:
            call.offer(b"to many")
        case _:
            call.cancel()


def run(data: bytes) -> None:
    """One input. Its first byte says how: with the preface already said or not, trusted or not,
    behind proper frame heads or not; then pieces, each with what happens after it.

    Raises:
        AssertionError: Something that must hold does not; any other error is one of the core's.
    """
    if not data:
        return
    mode, rest = data[0], data[1:]
    peer = Peer(LIMITS, trusted=bool(mode & 1))
    connection = peer.connection
    if mode & 2:
        connection.receive(frames.PREFACE + frames.settings({}))
    if mode & 4:
        peer.opened = lambda recorder: _act(recorder, mode >> 4)
    if mode & 8:
        # A call with a sound head, so that what follows reaches the layer of messages.
        peer.request(1, ("grpc-encoding", "gzip"))
    while rest:
        size, choice = rest[0] + 1, rest[1] if len(rest) > 1 else 0
        piece, rest = rest[2 : 2 + size], rest[2 + size :]
        if choice & 64 and connection.streams:
            connection.receive(frames.head(len(piece), frames.DATA, 0, 1) + piece)
        elif choice & 32:
            whole = message(piece, choice & 1)
            connection.receive(frames.head(len(whole), frames.DATA, 0, 1) + whole)
        else:
            connection.receive(piece)
        while connection.more:
            connection.receive(b"")
        if choice & 128 and peer.calls:
            _act(peer.calls[choice % len(peer.calls)], choice)
        if choice & 16:
            connection.pause()
            connection.resume()
        if choice == 7:
            peer.now += 5
            connection.tick()
        if choice == 9:
            connection.shutdown()
        _check(peer)
    connection.lost()
    assert connection.closed
    assert not connection.streams
    for recorder in peer.calls:
        assert recorder.call.over


def _check(peer: Peer) -> None:
    connection = peer.connection
    out = connection.take_output()
    assert len(out) <= MAX_KEPT
    read_frames(out)
    if connection.closed:
        connection.receive(frames.ping(bytes(8)))
        assert not connection.take_output(), "a closed connection says nothing"
        return
    limits = connection.limits
    assert len(connection.streams) <= limits.concurrent_streams
    assert connection.recv_window >= 0
    assert connection.recv_left <= limits.connection_window
    for stream in connection.streams.values():
        assert stream.send_window <= frames.MAX_WINDOW
        assert stream.pending_bytes <= MAX_KEPT
