"""Frames from a device: from bytes to a frame of which it is known what may be handled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from chinwag.chat.v1 import connect_pb2
from chinwag_server.rpc.errors import Refusal

_PARTS = frozenset(
    {
        "hello",
        "renew_token",
        "sends",
        "marks",
        "typing",
        "subscribe",
        "unsubscribe",
        "watches",
        "ping",
    }
)


@dataclass(slots=True)
class Bad:
    """What of a frame is refused.

    Attributes:
        sends: By index the sends that break a rule; the others are handled.
        whole: Why nothing of the frame is handled, or None.
        part: Which part of it is to blame; empty: the frame.
    """

    sends: dict[int, Refusal] = field(default_factory=dict)
    whole: Refusal | None = None
    part: str = ""


def parse(data: bytes, max_bytes: int) -> connect_pb2.ConnectRequest:
    """A frame's bytes as a message.

    Raises:
        Refusal: TOO_LARGE, MALFORMED.
    """
    if len(data) > max_bytes:
        raise Refusal("TOO_LARGE", f"a frame has at most {max_bytes} bytes, got {len(data)}")
    try:
        return connect_pb2.ConnectRequest.FromString(data)
    except DecodeError:
        raise Refusal("MALFORMED", "the bytes are no ConnectRequest") from None


def check(frame: connect_pb2.ConnectRequest, violations: Sequence[tuple[str, str]]) -> Bad:
    """What of a frame is refused, from its broken rules as (field path, problem)."""
    if not violations:  # most frames: nothing else is looked at
        if any(descriptor.name in _PARTS for descriptor, _ in frame.ListFields()):
            return Bad()
        return Bad(whole=Refusal("UNKNOWN_FRAME", "the frame sets no field that this server knows"))
    bad = Bad()
    for path, problem in violations:
        part, _, rest = path.partition("]")
        if not part.startswith("sends["):
            refusal = Refusal("INVALID_FIELD", f"{path}: {problem}", fields=[(path, problem)])
            return Bad(whole=refusal, part=path)
        index = int(part.removeprefix("sends["))
        name = rest.removeprefix(".")
        bad.sends.setdefault(
            index, Refusal("INVALID_FIELD", f"{name}: {problem}", fields=[(name, problem)])
        )
    return bad
