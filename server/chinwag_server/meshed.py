"""A node among others: who it is, what it owns, and its chat room's way to the others."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from chinwag.mesh.v1 import mesh_service_pb2 as pb
from chinwag_server.chat.routed.across import Across, Engines
from chinwag_server.chat.routed.fanout import FanoutLimits
from chinwag_server.chat.sequenced.store import SequencedStore
from chinwag_server.chat.sequenced.tables import Tables, TablesUnavailable
from chinwag_server.chat.store import StoreUnavailable
from chinwag_server.clock import Clock
from chinwag_server.mesh.agreed import Agreed
from chinwag_server.mesh.bus import Bus
from chinwag_server.mesh.coordination import Coordination, CoordinationUnavailable
from chinwag_server.mesh.inbox import Inbox
from chinwag_server.mesh.links import Answers, Links
from chinwag_server.mesh.membership import (
    MARGIN_S,
    PREFIX,
    TTL_S,
    Membership,
    NodeRecord,
    NodeState,
    new_node_id,
    serving,
)
from chinwag_server.mesh.ownership import Epoch, EpochRefused, Ownership, Owning
from chinwag_server.mesh.sessions import Sessions
from chinwag_server.mesh.shards import shard_of
from chinwag_server.mesh.unavailable import Unavailable
from chinwag_server.rpc.errors import Refusal

log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class Shared:
    """What nodes share.

    Attributes:
        links: Makes this node's links, given its id and who answers.
        agreed: The numbers that they agree on.
    """

    coordination: Coordination
    tables: Tables
    bus: Bus
    sessions: Sessions
    inbox: Inbox
    agreed: Agreed
    links: Callable[[str, Answers], Links]


class _Late:
    """Who answers other nodes, once it is there."""

    def __init__(self) -> None:
        self.to: Answers | None = None

    def told(self, node_id: str, news: pb.News) -> None:
        if self.to is not None:
            self.to.told(node_id, news)

    async def asked(self, node_id: str, question: pb.Question) -> pb.Answer:
        if self.to is None:
            return pb.Answer(error=Refusal("DRAINING", "the node starts").status())
        return await self.to.asked(node_id, question)


class Meshed:
    """One node's part of a mesh; the chat room is built upon `store` and `across`.

    Args:
        generation: Of the store, as the nodes agree.
        cluster_id: Of the mesh.
        feed: Whether commits are noted for StreamEvents; the same on all nodes.
        zone, capacity, version: What the node says of itself.

    Attributes:
        node_id: Of this process's life.
        store: The chat store.
        across: For the chat room.
    """

    def __init__(
        self,
        shared: Shared,
        *,
        generation: int,
        cluster_id: str,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        limits: FanoutLimits,
        feed: bool = True,
        zone: str = "",
        capacity: float = 1.0,
        version: str = "",
        prefix: str = PREFIX,
        ttl_s: int = TTL_S,
        margin_s: float = MARGIN_S,
    ) -> None:
        self.node_id = new_node_id(random_bytes)
        self._tables = shared.tables
        self._agreed = shared.agreed
        self._inbox = shared.inbox
        late = _Late()
        self.links = shared.links(self.node_id, late)
        owning = Owning(self._confirm, self._won, self._hand_over, self._lost)
        self.ownership = Ownership(
            shared.coordination,
            clock,
            random_bytes,
            self.node_id,
            owning,
            prefix=prefix,
            ttl_s=ttl_s,
            margin_s=margin_s,
        )
        record = NodeRecord(self.node_id, "", zone=zone, capacity=capacity, version=version)
        self.membership = Membership(
            shared.coordination,
            clock,
            record,
            cluster_id=cluster_id,
            changed=self._nodes_changed,
            prefix=prefix,
            ttl_s=ttl_s,
            margin_s=margin_s,
        )
        engines = Engines(
            shared.tables,
            self.links,
            shared.bus,
            shared.sessions,
            shared.inbox,
            shared.agreed.raise_inbox_generation,
        )
        self.across = Across(
            engines,
            self,
            nodes=self._others,
            generation=generation,
            limits=limits,
            clock=clock,
            feed=feed,
        )
        late.to = self.across
        self.store = SequencedStore(
            shared.tables,
            lambda channel_id: self.ownership.epoch_of(shard_of(channel_id)),
            self.ownership.give_up,  # type: ignore[arg-type]  # it gives its own epochs back
            generation=generation,
            clock=clock,
            before_ack=self.across.before_ack,
            feed=self.across.feed_ends,
        )
        self._draining = False
        self._tasks: set[asyncio.Task[None]] = set()

    # --- chat.routed.owners.Owners ---

    def owns(self, channel_id: str) -> bool:
        return self.store.owns(channel_id)

    def owner_of(self, channel_id: str) -> str | None:
        holder = self.ownership.holder_of(shard_of(channel_id))
        return holder if holder is None or holder in self.membership.nodes else None

    # --- life ---

    @property
    def port(self) -> int:
        """Of the links, once they are open."""
        return int(getattr(self.links, "port", 0))

    async def open_links(self) -> None:
        """Listens for the other nodes.

        Raises:
            ListenError: The port or address cannot be used.
        """
        await self.links.start()

    async def start(self, address: str, state: NodeState = NodeState.STARTING) -> None:
        """Registers, and begins to own.

        Args:
            address: HOST:PORT of this node's links for the others.

        Raises:
            WrongCluster: The coordination belongs to another mesh.
            CoordinationUnavailable: It cannot be reached.
        """
        self.membership.node = dataclasses.replace(
            self.membership.node, address=address, state=state
        )
        await self.membership.start()
        self.ownership.start()
        self._spawn(self._follow_inbox())

    async def serve(self, client_address: str = "") -> None:
        """Takes shards from now on.

        Args:
            client_address: HOST:PORT at which clients reach this node.
        """
        self.membership.node = dataclasses.replace(
            self.membership.node, client_address=client_address
        )
        await self._say(NodeState.SERVING)

    async def drain(self, timeout_s: float) -> None:
        """Hands all shards over, for so long at most. Devices may stay meanwhile: what they send
        goes to the new owners."""
        self._draining = True
        await self._say(NodeState.DRAINING)
        await self.ownership.hand_over(timeout_s, self._takers(self.membership.nodes))

    async def stop(self) -> None:
        """Leaves."""
        await self.ownership.stop(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.membership.stop()
        await self.links.stop()

    async def _say(self, state: NodeState) -> None:
        try:
            await self.membership.set_state(state)
        except CoordinationUnavailable as error:
            log.warning("the others do not hear yet that this node is %s: %s", state, error)

    # --- the others ---

    def _others(self) -> Collection[str]:
        return self.membership.nodes.keys() - {self.node_id}

    def _nodes_changed(self, nodes: Mapping[str, NodeRecord]) -> None:
        others = {
            node.node_id: node.address for node in nodes.values() if node.node_id != self.node_id
        }
        self.across.follow(others.keys())
        self.links.follow(others)
        self.ownership.assign(self._takers(nodes))

    def _takers(self, nodes: Mapping[str, NodeRecord]) -> Mapping[str, float]:
        """Capacity by id of the nodes that own from now on."""
        takers = serving(nodes)
        if self._draining:
            # Also if etcd did not hear that it drains.
            takers.pop(self.node_id, None)
        return takers

    async def _follow_inbox(self) -> None:
        await self._agreed.follow_inbox(self._inbox.agree)

    # --- owning ---

    async def _confirm(self, epoch: Epoch) -> None:
        try:
            stored = await self._tables.claim(epoch.shard, epoch.number, epoch.nonce)
        except (TablesUnavailable, Unavailable) as error:
            raise CoordinationUnavailable(f"the epoch is not stored: {error}") from error
        if stored != (epoch.number, epoch.nonce):
            raise EpochRefused(
                f"shard {epoch.shard} was claimed with epoch {epoch.number}, and its data has "
                f"epoch {stored[0]}: etcd was restored from an older backup, or is another one. "
                "`chinwag raise-epochs` mends it (docs/deploy.md)"
            )

    def _won(self, epoch: Epoch) -> None:
        self._spawn(self.across.take_over(self.store, epoch))

    async def _hand_over(self, epoch: Epoch) -> None:
        try:
            await self.store.hand_over(epoch)
        except StoreUnavailable as error:
            log.warning("shard %d ended before it was handed over: %s", epoch.shard, error)

    def _lost(self, epoch: Epoch) -> None:
        self.across.lost(self.store, epoch)

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("work of the mesh failed", exc_info=task.exception())
