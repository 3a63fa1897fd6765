"""What one peer may cost: the bounds that whoever runs a server may choose, with their units.

Those that nobody has to choose are constants beside what they bound: how much may lie ready for
a socket (`connection`, `link`), how long a peer that broke a rule may read why (`link`), how many
frames are handled in a turn (`connection`), and which messages go first when a window is full
(`call`). RFC 9113, 10.5 says what servers have to bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from chinwag_server.wire.frames import DEFAULT_WINDOW


@dataclass(slots=True, frozen=True)
class Limits:
    """Bounds of a server and its connections.

    Attributes:
        connections: Open at one time, from their acceptance on; more are closed at once.
        handshakes: Of them, those within a TLS handshake; see `Listener.admit`.
        concurrent_streams: Of a connection.
        message_bytes: Of a received gRPC message, compressed or not.
        header_list_bytes: Of a request's fields as RFC 9113 counts them (32 bytes each above
            name and value); a request with more is refused. With more than four times that the
            connection ends, since its header table is lost.
        continuation_frames: Of one header block.
        stream_window, connection_window: Bytes that a peer may send before the application has
            taken them. A message that is not whole yet counts for the connection alone.
        handshake_s: From the connection to the client's first SETTINGS frame, TLS included.
        frame_s: From the first byte of a frame or header block to its last.
        message_s: From the first byte of a message to its last.
        stall_s: How long a response may wait for a window without any progress, or a connection
            for somebody who reads its bytes; then the stream, or the connection, is ended.
        pending_bytes: Of responses of one connection that wait for a reader; a call that would
            add to more is refused.
        keepalive_s: A silent connection is sent a PING so often; keepalive_timeout_s: and is
            ended if nothing comes for so long after it.
        age_s: A connection is told to go away after that, give or take a tenth (so that clients
            do not all come back at once); 0: never. age_grace_s: for what still runs then.
        burst, per_second: Frames that carry nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE,
            empty DATA, unknown ones), each at its price in `connection.PRICES`; each frame that
            carries data, and each answered call, earns some. More is a flood.
        inflated_burst, inflated_per_second: Bytes that compressed messages may become, beyond
            sixteen times what they were sent as.
        resets_burst, resets_per_second: Streams that the peer resets or that are reset for what
            it did, and requests that nothing here answers. The burst is on top
            of the most streams that it had open when it reset one: all may be cancelled at once.
    """

    connections: int = 50_000
    handshakes: int = 1_000
    concurrent_streams: int = 1_000
    message_bytes: int = 4 << 20
    header_list_bytes: int = 16 << 10
    continuation_frames: int = 16
    stream_window: int = 256 << 10
    connection_window: int = 16 << 20
    handshake_s: float = 10.0
    frame_s: float = 20.0
    message_s: float = 120.0
    stall_s: float = 30.0
    pending_bytes: int = 8 << 20
    keepalive_s: float = 30.0
    keepalive_timeout_s: float = 10.0
    age_s: float = 0.0
    age_grace_s: float = 30.0
    burst: int = 4_000
    per_second: float = 400.0
    inflated_burst: int = 4 << 20
    inflated_per_second: int = 8 << 20
    resets_burst: int = 500
    resets_per_second: float = 100.0

    def __post_init__(self) -> None:
        if self.connection_window <= DEFAULT_WINDOW:
            raise ValueError(f"connection_window is more than {DEFAULT_WINDOW} bytes")

    def for_proxy(self) -> Limits:
        """For a connection that carries the streams of thousands of people.

        The proxy has checked each of them; what one of them does must not cost the others their
        connection, so nothing here that somebody behind the proxy can use up ends it.
        """
        unbounded = 1 << 40
        return replace(
            self,
            concurrent_streams=max(100_000, self.concurrent_streams),
            connection_window=max(512 << 20, self.connection_window),
            pending_bytes=max(256 << 20, self.pending_bytes),
            inflated_burst=max(64 << 20, self.inflated_burst),
            inflated_per_second=max(64 << 20, self.inflated_per_second),
            burst=unbounded,
            resets_burst=unbounded,
        )
