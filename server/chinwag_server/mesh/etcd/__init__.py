"""etcd as the coordination of a mesh: a client over grpc.aio, and the adapter of the port.

`pb` is generated from proto_etcd/.
"""

from chinwag_server.mesh.etcd.client import EtcdClient, EtcdTls
from chinwag_server.mesh.etcd.coordination import EtcdCoordination

__all__ = ["EtcdClient", "EtcdCoordination", "EtcdTls"]
