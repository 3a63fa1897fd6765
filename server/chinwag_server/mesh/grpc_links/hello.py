"""What the two ends of a link say first, and who is refused.

With mutual TLS nobody but a node of the mesh gets this far: hello only keeps apart meshes and
processes by mistake. Without TLS the nodes trust whoever can connect on this machine's loopback,
that is every program on it: hello is no secret there, so such a program can pass for a node. That
is for development alone; a captured hello still cannot be used twice, nor on another process.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from chinwag.mesh.v1 import mesh_service_pb2 as mesh_pb
from chinwag_server.wire.status import CallError, Code

_NONCE_BYTES = 16
# Of one peer, remembered: a link that breaks is opened a few times a second at most.
_NONCES = 256
_MOST_TEXT = 256


@dataclass(slots=True, frozen=True)
class Identity:
    """Who this process is."""

    cluster_id: str
    node_id: str
    version: str = ""

    def hello(self, to_node_id: str) -> mesh_pb.LinkHello:
        """Ours, for one link."""
        return mesh_pb.LinkHello(
            cluster_id=self.cluster_id,
            node_id=self.node_id,
            to_node_id=to_node_id,
            version=self.version,
            nonce=os.urandom(_NONCE_BYTES),
        )

    def check(self, theirs: mesh_pb.LinkHello) -> None:
        """Whether the other end is of our mesh and means us.

        Raises:
            CallError: It does not: the text says what was expected and what came.
        """
        sizes = (len(theirs.node_id), len(theirs.to_node_id), len(theirs.cluster_id))
        if not theirs.node_id or max(*sizes, len(theirs.version)) > _MOST_TEXT:
            raise CallError(
                Code.UNAUTHENTICATED,
                f"a hello names its node, in at most {_MOST_TEXT} characters",
            )
        if len(theirs.nonce) != _NONCE_BYTES:
            raise CallError(
                Code.UNAUTHENTICATED,
                f"a hello has a nonce of {_NONCE_BYTES} bytes, got {len(theirs.nonce)}",
            )
        if theirs.cluster_id != self.cluster_id:
            raise CallError(
                Code.FAILED_PRECONDITION,
                f"node {self.node_id} is of cluster {self.cluster_id!r}, and node "
                f"{theirs.node_id} of {theirs.cluster_id!r}: give each mesh addresses of its own",
            )
        if theirs.to_node_id != self.node_id:
            raise CallError(
                Code.FAILED_PRECONDITION,
                f"here is node {self.node_id}, not {theirs.to_node_id}: the address belongs to "
                "another process now",
            )


class Nonces:
    """Those of the last hellos of each known peer."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[bytes]] = {}

    def use(self, theirs: mesh_pb.LinkHello) -> None:
        """Takes a hello's.

        Raises:
            CallError: It was used before.
        """
        seen = self._seen.setdefault(theirs.node_id, deque(maxlen=_NONCES))
        if theirs.nonce in seen:
            raise CallError(
                Code.PERMISSION_DENIED,
                f"this hello of node {theirs.node_id} was used before: each link draws a nonce",
            )
        seen.append(theirs.nonce)

    def keep(self, node_ids: Collection[str]) -> None:
        """Forgets those of all other nodes: their hellos are refused anyway."""
        for node_id in self._seen.keys() - set(node_ids):
            del self._seen[node_id]
