"""A mesh as the measures use it: `tools.mesh` without rate limits, who owns what in it, and what
its Cassandra did."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from bench.backend import SCOPES, Backend
from bench.drive import Place
from bench.process import UNLIMITED, Server
from chinwag_server.mesh.membership import PREFIX
from chinwag_server.mesh.shards import SHARDS, shard_of
from tools.engines.cassandra import Cassandra
from tools.engines.etcd import Etcd
from tools.mesh import Mesh, MeshNode, temporary_folder
from tools.mesh.engines import KEYSPACE

NODES = 3
OWNED_S = 60.0
POLL_S = 0.2
CALLS_AT_ONCE = 8


class BenchMesh:
    """Three nodes on one of each engine, all on this machine.

    Args:
        run: Runs the mesh's own steps to their end.

    Attributes:
        backend: Calls the first node.
        cassandra: What it has done.
    """

    def __init__(self, mesh: Mesh, run: asyncio.Runner, backend: Backend) -> None:
        self.backend = backend
        self.cassandra = CassandraCounts(mesh.engines.cassandra)
        self._mesh = mesh
        self._run = run

    @property
    def nodes(self) -> Sequence[MeshNode]:
        return self._mesh.nodes

    @property
    def targets(self) -> list[str]:
        """HOST:PORT of each node, for clients."""
        return self._mesh.targets

    def cpu_s(self) -> float:
        """CPU that the nodes have taken, all together, without the engines, in seconds."""
        return sum(_process(node).cpu_s() for node in self.nodes)

    def rss_kib(self) -> int:
        """Their resident memory, in KiB."""
        return sum(_process(node).rss_kib() for node in self.nodes)

    def database(self) -> Server:
        """Cassandra as a process, for its CPU."""
        node = self._mesh.engines.cassandra.nodes[0]
        return Server(node.pid, f"{node.address}:{node.port}", 0.0, node.log)

    def restart(self, number: int) -> None:
        """Starts a node again and waits until all shards have an owner."""
        self._run.run(self._mesh.restart_node(number))
        self.wait_owned(among=NODES)

    # --- who owns what ---

    def owners(self) -> list[int | None]:
        """The node of each shard, by its number; None: nobody, or one that has gone."""
        etcd = self._mesh.engines.etcd[0]
        numbers = {f"127.0.0.1:{node.mesh_port}": number for number, node in enumerate(self.nodes)}
        ids = {
            record["node_id"]: numbers.get(record["address"])
            for record in _objects(etcd, "nodes/").values()
        }
        holders = _objects(etcd, "shards/")
        return [
            ids.get(holders[name]["node"]) if (name := f"{shard:04d}") in holders else None
            for shard in range(SHARDS)
        ]

    def wait_owned(self, *, among: int) -> list[int | None]:
        """Waits until so many nodes own all shards, and nothing has moved for a second.

        Raises:
            RuntimeError: They do not within a minute.
        """
        until = time.monotonic() + OWNED_S
        before: list[int | None] = []
        since = time.monotonic()
        while time.monotonic() < until:
            owners = self.owners()
            if owners != before:
                before, since = owners, time.monotonic()
            elif None not in owners and len(set(owners)) == among and time.monotonic() > since + 1:
                return owners
            time.sleep(POLL_S)
        raise RuntimeError(
            f"expected {among} nodes that own all shards within {OWNED_S:.0f} s, got "
            f"{before.count(None)} shards without one, the others on {len(set(before) - {None})}"
        )

    def groups(self, people: Sequence[str], count: int) -> list[Place]:
        """Makes groups of all these people, whose owners are any of the nodes."""
        with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
            names = [f"bench {number}" for number in range(count)]
            members = range(len(people))
            return list(pool.map(lambda name: self.backend.group(people, members, name), names))

    def of(self, node: int, places: Sequence[Place]) -> list[Place]:
        """Those that a node owns."""
        owners = self.wait_owned(among=NODES)
        return [place for place in places if owners[shard_of(place.channel_id)] == node]


class CassandraCounts:
    """What a Cassandra of one node says that it has done, of each of the chat's tables."""

    def __init__(self, cassandra: Cassandra) -> None:
        self._cluster = cassandra.connect(cassandra.nodes[0])
        self._session: Any = None

    def reads(self) -> Counter[str]:
        """Reads by table, since Cassandra was started."""
        return self._count("system_views.local_read_latency")

    def writes(self) -> Counter[str]:
        """Writes by table: each row of a batch is one."""
        return self._count("system_views.local_write_latency")

    def close(self) -> None:
        """Disconnects."""
        self._cluster.shutdown()

    def _count(self, view: str) -> Counter[str]:
        if self._session is None:
            self._session = self._cluster.connect()
        rows = self._session.execute(f"SELECT keyspace_name, table_name, count FROM {view}")
        return Counter({row.table_name: row.count for row in rows if row.keyspace_name == KEYSPACE})


@contextmanager
def bench_mesh(settings: Mapping[str, str] | None = None) -> Iterator[BenchMesh]:
    """A mesh with no data, whose shards all have an owner.

    Args:
        settings: More CHINWAG_... variables of the nodes.

    Raises:
        EngineError, RuntimeError: It does not start.
    """
    with temporary_folder() as folder, asyncio.Runner() as run:
        mesh = Mesh(folder, nodes=NODES, settings={**UNLIMITED, **(settings or {})})
        run.run(mesh.start())
        try:
            key = run.run(mesh.create_api_key(SCOPES))
            with grpc.insecure_channel(mesh.targets[0]) as channel:
                made = BenchMesh(mesh, run, Backend(channel, key))
                try:
                    made.wait_owned(among=NODES)
                    yield made
                finally:
                    made.cassandra.close()
        finally:
            run.run(mesh.stop())


def _process(node: MeshNode) -> Server:
    return Server(node.pid, node.target, 0.0, node.log)


def _objects(etcd: Etcd, folder: str) -> dict[str, dict[str, str]]:
    """The JSON objects under a prefix of the mesh's keys, by the rest of their names."""
    prefix = PREFIX + folder
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    answer = etcd.call("kv/range", {"key": _base64(prefix), "range_end": _base64(end)})
    pairs = {
        base64.b64decode(pair["key"]).decode(): json.loads(base64.b64decode(pair["value"]))
        for pair in answer.get("kvs", ())
    }
    return {
        name.removeprefix(prefix): value for name, value in pairs.items() if isinstance(value, dict)
    }


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
