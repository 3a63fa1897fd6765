"""What is fuzzed: bytes to a connection, with an application that does all it may.

An input's first byte says what the others are: `GRPC`, and they are a conversation in sound
frames (`grpc_target`); else they are the bytes themselves, in pieces.
"""

from __future__ import annotations

from chinwag_server.wire import frames
from chinwag_server.wire.limits import Limits
from tests.wire.core import grpc_target, invariants
from tests.wire.core.peer import Peer, Recorder, message, read_frames

GRPC = 0xFF

LIMITS = Limits(
    concurrent_streams=8,
    stream_window=2_000,
    connection_window=70_000,
    message_bytes=4_000,
    header_list_bytes=2_000,
    pending_bytes=50_000,
    burst=300,
    resets_burst=20,
)


def act(recorder: Recorder, choice: int) -> None:
    """Something that an application does with a call."""
    call = recorder.call
    match choice % 10:
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
        case 7:
            call.cancel()
        case 8:
            call.room()
        case _:
            call.send(bytes(9_000))


def run(data: bytes) -> None:
    """One input.

    Raises:
        AssertionError: Something that must hold does not; any other error is one of the core's.
    """
    if not data:
        return
    if data[0] == GRPC:
        grpc_target.run(data[1:])
    else:
        _run_bytes(data[0], data[1:])


def _run_bytes(mode: int, rest: bytes) -> None:
    """The mode says how: with the preface already said or not, trusted or not, behind proper
    frame heads or not; then pieces, each with what happens after it."""
    peer = Peer(LIMITS, trusted=bool(mode & 1))
    connection = peer.connection
    output = invariants.Output()
    if mode & 2:
        connection.receive(frames.PREFACE + frames.settings({}))
    if mode & 4:
        peer.opened = lambda recorder: act(recorder, mode >> 4)
    if mode & 8:
        # A call with a sound head, so that what follows reaches the layer of messages.
        peer.request(1, ("grpc-encoding", "gzip"))
        output.check(peer.take())
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
            invariants.check(connection)
            connection.receive(b"")
        _happen(peer, choice)
        _check(peer, output, take=choice & 0x18 != 0x18)
    _check(peer, output, take=True)
    connection.lost()
    assert connection.closed
    assert not connection.streams
    assert not connection.pending_bytes
    for recorder in peer.calls:
        assert recorder.call.over


def _happen(peer: Peer, choice: int) -> None:
    connection = peer.connection
    if choice & 128 and peer.calls:
        act(peer.calls[choice % len(peer.calls)], choice)
    if choice & 16:
        connection.pause()
    elif connection.paused:
        connection.resume()
    if choice & 15 == 7:
        peer.now += 5
        connection.tick()
    if choice == 9:
        connection.shutdown()


def _check(peer: Peer, output: invariants.Output, *, take: bool) -> None:
    connection = peer.connection
    invariants.check(connection)
    assert sum(map(len, connection._out)) <= invariants.MAX_OUT
    if not take and not connection.closed:
        return
    output.check(read_frames(connection.take_output()))
    connection.drain()
    output.check(read_frames(connection.take_output()))
    if connection.closed:
        connection.receive(frames.ping(bytes(8)))
        connection.tick()
        connection.shutdown()
        assert not connection.take_output(), "a closed connection says nothing"
        assert connection.closed
