"""The links of a mesh that tests can cut and slow."""

from __future__ import annotations

import asyncio

from tests.faults.proxy import HOST, Proxy
from tools.mesh import Mesh

# The engines of the last node are behind proxies of its own; the other nodes see an engine that
# dies as it is, with connections that are refused.
ENGINES = {
    "etcd": "CHINWAG_MESH_COORDINATION_URL",
    "Redis": "CHINWAG_MESH_REDIS_URL",
    "PostgreSQL": "CHINWAG_STORES_ACCOUNTS_URL",
}


class Links:
    """Between all nodes, and between the last node and its engines but for Cassandra, whose driver
    asks it for its address."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._nodes = [Proxy(node.mesh_port, self._running) for node in mesh.nodes]
        self._engines: dict[str, Proxy] = {}

    async def start_nodes(self) -> None:
        """Stands between the nodes; before they are started."""
        for node, proxy in zip(self._mesh.nodes, self._nodes, strict=True):
            await proxy.start()
            node.settings["CHINWAG_MESH_ADVERTISE"] = f"{HOST}:{proxy.port}"

    async def start_engines(self) -> None:
        """Stands before the engines of the last node; once they run, and before it does."""
        engines = self._mesh.engines
        ports = (engines.etcd[0].port, engines.redis.port, engines.postgres.port)
        settings = self._mesh.nodes[-1].settings
        for (name, variable), port in zip(ENGINES.items(), ports, strict=True):
            proxy = self._engines[name] = Proxy(port)
            await proxy.start()
            url = settings[variable]
            settings[variable] = url.replace(f"{HOST}:{port}", f"{HOST}:{proxy.port}")
            assert settings[variable] != url, f"{url} has no port {port}"

    async def stop(self) -> None:
        """Ends all."""
        await asyncio.gather(*(proxy.stop() for proxy in (*self._nodes, *self._engines.values())))

    def _running(self) -> list[int]:
        return [node.pid for node in self._mesh.nodes if node.running]

    # --- between nodes ---

    def cut(self, one: int, other: int) -> None:
        """Cuts the link between two, both ways; nobody is told."""
        self._nodes[one].cut_off(self._mesh.nodes[other].pid)
        self._nodes[other].cut_off(self._mesh.nodes[one].pid)

    def join(self) -> None:
        """Nothing is cut any more."""
        for proxy in self._nodes:
            proxy.join()

    def slow(self, delay_s: float) -> None:
        """All that nodes say to each other comes later."""
        for proxy in self._nodes:
            proxy.delay_s = delay_s

    # --- between the last node and its engines ---

    def cut_engine(self, name: str) -> None:
        """Cuts the link to one of `ENGINES`."""
        self._engines[name].cut_off()

    def join_engine(self, name: str) -> None:
        """It is not cut any more."""
        self._engines[name].join()

    def slow_engines(self, delay_s: float) -> None:
        """All that goes to and from `ENGINES` comes later."""
        for proxy in self._engines.values():
            proxy.delay_s = delay_s
