"""Which calls may be made again at another node, and after which failures."""

from __future__ import annotations

import functools

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from chinwag.errors import ChinwagError

_DEADLINE_EXCEEDED, _UNAVAILABLE = 4, 14
# What makes the server take a repeat for what it is.
_KEYS = ("request_id", "client_message_id")
# Of the time that is left, one attempt takes so much while there is another node to ask.
ATTEMPT_SHARE = 2 / 3
# Waits so long for a connection before a call that must not be made twice.
CONNECT_S = 3.0


def is_repeatable(request: Message) -> bool:
    """Whether a call may be made twice: it only reads, or it has an id by which the server knows a
    repeat."""
    return _is_repeatable(request.DESCRIPTOR)


@functools.lru_cache(1000)
def _is_repeatable(request: Descriptor) -> bool:
    if any(key in request.fields_by_name for key in _KEYS):
        return True
    methods = [m for s in request.file.services_by_name.values() for m in s.methods]
    levels = [m.GetOptions().idempotency_level for m in methods if m.input_type is request]
    return bool(levels) and all(levels)


def has_changed_nothing(error: ChinwagError) -> bool:
    """Whether the server itself says that it did nothing: it refused, with a reason. A call that
    broke has none, and may have been carried out."""
    return bool(error.reason) and error.code != _DEADLINE_EXCEEDED


def is_away(error: ChinwagError) -> bool:
    """Whether the fault is the node's, so that another node may do better: it cannot be reached,
    does not answer, or shuts down."""
    if error.code == _UNAVAILABLE:
        return error.reason in ("", "DRAINING")
    return error.code == _DEADLINE_EXCEEDED and not error.reason
