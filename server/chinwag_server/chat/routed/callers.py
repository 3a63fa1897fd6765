"""Callers and refusals between nodes."""

from __future__ import annotations

from chinwag.mesh.v1 import mesh_service_pb2 as pb
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal


def put_caller(caller: Caller) -> pb.Caller:
    """For another node, which trusts this one to have authenticated them."""
    return pb.Caller(
        user_id=caller.user_id,
        device_id=caller.device_id,
        api_key_id=caller.api_key_id,
        scopes=sorted(caller.scopes),
        address=caller.address,
    )


def caller_of(caller: pb.Caller) -> Caller:
    """As another node has authenticated them."""
    return Caller(
        user_id=caller.user_id,
        device_id=caller.device_id,
        api_key_id=caller.api_key_id,
        scopes=frozenset(caller.scopes),
        address=caller.address,
    )


def refused(refusal: Refusal) -> pb.Outcome:
    """For another node."""
    return pb.Outcome(refusal=refusal.status())


NOT_OWNER = pb.Outcome(not_owner=True)
