"""Nodes that are linked over gRPC, in the test's own process."""

from __future__ import annotations

from typing import Any

from chinwag_server.mesh.grpc_links import GrpcLinks, LinkOptions
from chinwag_server.wire.status import Code
from tests.mesh.links_contract import Node

CLUSTER = "tested"


class GrpcMesh:
    """Nodes on free ports of the loopback."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    async def node(self, node_id: str, **options: Any) -> Node:
        cluster_id = options.pop("cluster_id", CLUSTER)
        node = Node(node_id)
        node.links = GrpcLinks(node_id, cluster_id, node, LinkOptions(**options))
        node.links.on_change(lambda other, up: node.changes.append((other, up)))
        await node.links.start()
        self.nodes.append(node)
        return node

    def address(self, node: Node) -> str:
        return f"127.0.0.1:{port(node)}"

    def cut(self, first: Node, second: Node) -> None:
        for node in (first, second):
            assert isinstance(node.links, GrpcLinks)
            for link in tuple(node.links._incoming.values()):
                if link.node_id in (first.node_id, second.node_id):
                    link._call.cancel()
                    link.gone(Code.CANCELLED)

    async def stop(self) -> None:
        for node in self.nodes:
            await node.links.stop()


def port(node: Node) -> int:
    """Where a node listens."""
    assert isinstance(node.links, GrpcLinks)
    return node.links.port
