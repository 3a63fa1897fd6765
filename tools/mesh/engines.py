"""What the nodes of a mesh stand on, all in one folder."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.engines.cassandra import HEAP_MIB, Cassandra
from tools.engines.etcd import Etcd, EtcdCluster
from tools.engines.postgres import Postgres
from tools.engines.redis import Redis

KEYSPACE = "chinwag"
DATABASE = "chinwag"
SMALL_HEAP_MIB = 256


class Engines:
    """Making them unpacks their programs into .engines/ if that was not done before: it blocks, and
    may take minutes.

    Args:
        folder: PostgreSQL needs one whose parents are open to all, if we are root.
        etcd_members, cassandra_nodes: 1 or 3 of each.
        small: Whether Cassandra gets little memory.

    Attributes:
        etcd: The members.
    """

    def __init__(
        self, folder: Path, *, etcd_members: int = 1, cassandra_nodes: int = 1, small: bool = False
    ) -> None:
        assert etcd_members in (1, 3), "one member of etcd, or three"
        self.etcd: list[Etcd] = (
            [Etcd(folder / "etcd")] if etcd_members == 1 else EtcdCluster(folder / "etcd").members
        )
        # Whoever may speak to these two as their superuser may run programs as we do; others use
        # this machine too.
        self.redis = Redis(folder / "redis", password=secrets.token_hex(16))
        self.postgres = Postgres(folder / "postgres", password=secrets.token_hex(16))
        self.cassandra = Cassandra(
            folder / "cassandra",
            nodes=cassandra_nodes,
            heap_mib=SMALL_HEAP_MIB if small else HEAP_MIB,
        )

    def settings(self) -> dict[str, str]:
        """CHINWAG_... variables of a node that stands on them."""
        return {
            "CHINWAG_MESH_COORDINATION_URL": f"etcd://{','.join(e.endpoint for e in self.etcd)}",
            "CHINWAG_MESH_REDIS_URL": self.redis.url,
            "CHINWAG_STORES_ACCOUNTS_URL": self.postgres.url(DATABASE),
            "CHINWAG_STORES_CHAT_URL": self.cassandra.url(KEYSPACE),
        }

    def start(self) -> None:
        """Starts all at once and waits until each serves.

        Raises:
            EngineError: One does not.
        """
        starts = (self._start_etcd, self.redis.start, self._start_postgres, self.cassandra.start)
        _all_at_once(*starts)

    def stop(self) -> None:
        """Ends all. They are killed where an end in good order takes long and saves nothing."""
        kills = [member.kill for member in self.etcd]
        _all_at_once(*kills, self.redis.kill, self.postgres.kill, self.cassandra.stop)

    def ended(self) -> Iterator[tuple[str, str]]:
        """Name and the end of the log of each that does not run."""
        children = [member.child for member in self.etcd]
        for child in (*children, self.redis.child, *self.cassandra.nodes):
            if not child.running:
                yield child.name, child.tail()
        if not self.postgres.running:
            yield "PostgreSQL", self.postgres.tail()

    def _start_etcd(self) -> None:
        for member in self.etcd:
            member.child.spawn()
        for member in self.etcd:
            member.child.wait_ready()

    def _start_postgres(self) -> None:
        self.postgres.start()
        self.postgres.create_database(DATABASE)


def _all_at_once(*jobs: Callable[[], None]) -> None:
    """Runs all; the first error once all have ended."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()
