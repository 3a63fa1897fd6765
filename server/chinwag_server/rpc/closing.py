"""What the server says when it ends a stream."""

from __future__ import annotations

from chinwag.common.v1 import close_pb2
from chinwag_server.rpc.errors import Refusal

Reason = close_pb2.CloseReason


def closing(
    reason: Reason.ValueType,
    *,
    reconnect: bool,
    refusal: Refusal | None = None,
    min_delay_s: float = 0,
    jitter_s: float = 0,
    address: str = "",
) -> close_pb2.Close:
    """A `Close` frame's content."""
    close = close_pb2.Close(reason=reason, reconnect=reconnect, address=address)
    if min_delay_s:
        close.min_delay.FromNanoseconds(int(min_delay_s * 1e9))
    if jitter_s:
        close.jitter.FromNanoseconds(int(jitter_s * 1e9))
    if refusal is not None:
        close.status.CopyFrom(refusal.status())
    return close
