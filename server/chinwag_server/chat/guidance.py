"""What the server says when it ends a stream, or wants a client to slow down."""

from __future__ import annotations

from chinwag.common.v1 import close_pb2
from chinwag_server.rpc.admission import ComeBack
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


def overloaded(when: ComeBack) -> tuple[close_pb2.Close, Refusal]:
    """The node opens as many streams as it can: come back to it, each in its turn."""
    refusal = Refusal(
        "OVERLOADED",
        "many streams are being opened here: come back when min_delay and jitter say",
        retry_after=when.min_delay_s,
    )
    close = closing(
        Reason.CLOSE_REASON_OVERLOADED,
        reconnect=True,
        refusal=refusal,
        min_delay_s=when.min_delay_s,
        jitter_s=when.jitter_s,
    )
    return close, refusal


def rate_limited(wait_s: float) -> Refusal:
    """Too much in a time."""
    return Refusal("RATE_LIMITED", "too many: slow down and try again", retry_after=wait_s)
