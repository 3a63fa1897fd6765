"""What chat says when a client is to slow down."""

from __future__ import annotations

from chinwag.common.v1 import close_pb2
from chinwag_server.rpc.admission import ComeBack
from chinwag_server.rpc.closing import Reason, closing
from chinwag_server.rpc.errors import Refusal


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
