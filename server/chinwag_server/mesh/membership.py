"""The nodes of a mesh: this one announces itself under a lease and follows the others."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

from chinwag_server.clock import Clock
from chinwag_server.mesh.coordination import (
    Changes,
    Coordination,
    CoordinationUnavailable,
    Entry,
    LeaseGone,
    Snapshot,
)
from chinwag_server.mesh.lease import HeldLease, check_margin, keep

TTL_S = 10
MARGIN_S = 2.0
RETRY_S = 0.5
PREFIX = "/chinwag/"

log = logging.getLogger(__name__)


class WrongCluster(Exception):
    """The prefix belongs to another cluster: the text says which and what to do."""


class NodeState(StrEnum):
    """What a node does: shards go to those that serve, calls not to those that start."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


@dataclass(slots=True, frozen=True)
class NodeRecord:
    """What a node says of itself.

    Attributes:
        node_id: Drawn at random when its process started: a restarted node is another one.
        address: HOST:PORT at which other nodes reach it.
        zone: Of whatever fails together; "": not said.
        capacity: Its share of the shards, against others'; greater than 0.
        version: Of its software.
        client_address: HOST:PORT at which clients reach it; "": not said (yet).
    """

    node_id: str
    address: str
    zone: str = ""
    capacity: float = 1.0
    version: str = ""
    state: NodeState = NodeState.STARTING
    client_address: str = ""

    def to_json(self) -> bytes:
        """For the key of the node."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True).encode()

    @classmethod
    def from_json(cls, value: bytes) -> NodeRecord:
        """Reads what a node wrote, also one of a newer version: what is unknown is left out.

        Raises:
            ValueError: This is no node's record.
        """
        try:
            fields = json.loads(value)
            record = cls(
                node_id=str(fields["node_id"]),
                address=str(fields["address"]),
                zone=str(fields["zone"]),
                capacity=float(fields["capacity"]),
                version=str(fields["version"]),
                state=NodeState(fields["state"]),
                client_address=str(fields.get("client_address", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"expected the record of a node, got {value[:200]!r}") from error
        if not 0 < record.capacity < float("inf"):
            raise ValueError(f"expected a capacity above 0, got {record.capacity}")
        return record


class NodesSeen:
    """The nodes as the watch of their keys tells of them."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def take(self, news: Snapshot | Changes) -> dict[str, NodeRecord]:
        """Takes news; gives all nodes by id. What is no node's record is passed over."""
        if isinstance(news, Snapshot):
            self.entries = {entry.key: entry for entry in news.entries}
        else:
            for change in news.changes:
                if isinstance(change, Entry):
                    self.entries[change.key] = change
                else:
                    self.entries.pop(change.key, None)
        nodes: dict[str, NodeRecord] = {}
        for entry in self.entries.values():
            try:
                record = NodeRecord.from_json(entry.value)
            except ValueError as error:
                log.warning("%s is passed over: %s", entry.key, error)
            else:
                nodes[record.node_id] = record
        return nodes


def new_node_id(random_bytes: Callable[[int], bytes]) -> str:
    """An id for this process; 64 bits, in hex."""
    return random_bytes(8).hex()


def serving(nodes: Mapping[str, NodeRecord]) -> dict[str, float]:
    """Capacity by id of the nodes that serve: among these the shards are shared out."""
    return {
        record.node_id: record.capacity
        for record in nodes.values()
        if record.state is NodeState.SERVING
    }


async def check_cluster(coordination: Coordination, prefix: str, cluster_id: str) -> None:
    """Makes a prefix a mesh's, if it is nobody's.

    Raises:
        WrongCluster: It belongs to another one.
        CoordinationUnavailable: It cannot be told.
    """
    key, wanted = f"{prefix}cluster", cluster_id.encode()
    found = await coordination.create(key, wanted)
    if found.value != wanted:
        raise WrongCluster(
            f"{key} in etcd says {found.value.decode(errors='replace')!r}, this node is configured "
            f"for the cluster {cluster_id!r}: give it that cluster's id, or an etcd of its own: "
            f"all use the prefix {prefix}"
        )


class Membership:
    """This node among the others.

    Args:
        cluster_id: Of the mesh that this node is configured for.
        changed: Called with all nodes whenever one comes, goes or changes.
        prefix: Of all keys of the mesh.

    Attributes:
        nodes: By id, as last seen. While etcd is away this stays as it was.
    """

    def __init__(
        self,
        coordination: Coordination,
        clock: Clock,
        node: NodeRecord,
        *,
        cluster_id: str,
        changed: Callable[[Mapping[str, NodeRecord]], None] = lambda nodes: None,
        prefix: str = PREFIX,
        ttl_s: int = TTL_S,
        margin_s: float = MARGIN_S,
    ) -> None:
        check_margin(ttl_s, margin_s)
        self._coordination = coordination
        self._clock = clock
        self._cluster_id = cluster_id
        self._prefix = prefix
        self._nodes_prefix = f"{prefix}nodes/"
        self._changed = changed
        self._ttl_s = ttl_s
        self._margin_s = margin_s
        self.node = node
        self.nodes: Mapping[str, NodeRecord] = {}
        self._held: HeldLease | None = None
        self._entry: Entry | None = None  # our key as we last wrote it
        self._writing = asyncio.Lock()
        self._seen = NodesSeen()
        self._revision = 0
        self._first_look = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Registers this node and reads the others.

        Raises:
            WrongCluster: The prefix belongs to another cluster.
            CoordinationUnavailable: It cannot be reached, or not be used.
        """
        try:
            await self._register()
        except LeaseGone as error:
            raise CoordinationUnavailable(f"a lease ended as it was made: {error}") from error
        self._tasks = [
            asyncio.create_task(self._stay_registered()),
            asyncio.create_task(self._follow()),
        ]
        try:
            async with asyncio.timeout(self._ttl_s):
                await self._first_look.wait()
        except TimeoutError as error:
            await self._end_tasks()
            raise CoordinationUnavailable(f"no nodes were read in {self._ttl_s} s") from error

    async def set_state(self, state: NodeState) -> None:
        """Says what this node does now. If it cannot be said now, it is with the next
        registration.

        Raises:
            CoordinationUnavailable: It is not known whether the others will hear.
        """
        self.node = dataclasses.replace(self.node, state=state)
        try:
            await self._write()
        except LeaseGone:
            if self._held is not None:
                self._held.end()

    async def stop(self) -> None:
        """Leaves: the others see it at once, or after the TTL."""
        await self._end_tasks()
        held, self._held = self._held, None
        if held is not None:
            try:
                await self._coordination.revoke(held.id)
            except CoordinationUnavailable as error:
                log.warning("the others see this node for another %g s: %s", held.ttl_s, error)

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    # --- this node ---

    async def _register(self) -> None:
        await check_cluster(self._coordination, self._prefix, self._cluster_id)
        lease = await self._coordination.grant(self._ttl_s)
        self._held = HeldLease(lease, self._margin_s, self._clock)
        self._entry = None
        await self._write()

    async def _write(self) -> None:
        """Brings our key up to date. By `replace`, so that a late write never undoes a newer."""
        async with self._writing:
            if self._held is None:
                return
            key, lease = self._nodes_prefix + self.node.node_id, self._held.id
            value = self.node.to_json()
            entry = self._entry or await self._coordination.create(key, value, lease)
            while (entry.value, entry.lease) != (value, lease):
                replaced = await self._coordination.replace(key, entry.mod_revision, value, lease)
                entry = replaced or await self._coordination.create(key, value, lease)
            self._entry = entry

    async def _stay_registered(self) -> None:
        while True:
            if self._held is not None:
                await keep(self._held, self._coordination)
            log.warning("the lease of node %s is over: it registers again", self.node.node_id)
            try:
                await self._register()
            except WrongCluster as error:
                log.error("this node is cut off: %s", error)
                await asyncio.sleep(self._ttl_s)
            except (CoordinationUnavailable, LeaseGone) as error:
                log.warning("node %s cannot register: %s", self.node.node_id, error)
                await asyncio.sleep(RETRY_S)

    # --- all nodes ---

    async def _follow(self) -> None:
        async with aclosing(self._coordination.watch(self._nodes_prefix)) as watch:
            async for news in watch:
                self._look(self._seen.take(news), news.revision)

    def _look(self, nodes: Mapping[str, NodeRecord], revision: int) -> None:
        fell, self._revision = revision < self._revision, revision
        mine, held = self._entry, self._held
        gone = mine is not None and mine.key not in self._seen.entries
        if gone and held and mine and (fell or revision >= mine.mod_revision):
            # Somebody deleted it, or the cluster was restored: a lease without our key is no use.
            held.end()
        if nodes != self.nodes:
            self.nodes = nodes
            try:
                self._changed(nodes)
            except Exception:
                log.exception("the nodes changed, and what follows from it failed")
        self._first_look.set()
