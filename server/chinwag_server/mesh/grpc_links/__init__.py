"""Links between nodes over gRPC: `chinwag.mesh.v1.MeshService` on a listener of its own.

Who asks dials by grpc.aio (`outgoing`), who answers listens by `wire` (`incoming`). Each link is
one stream on one connection. Nothing here knows what is asked.
"""

from chinwag_server.mesh.grpc_links.links import GrpcLinks
from chinwag_server.mesh.grpc_links.options import LinkOptions

__all__ = ["GrpcLinks", "LinkOptions"]
