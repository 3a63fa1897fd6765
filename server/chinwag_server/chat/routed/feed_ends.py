"""How far the feeds of all shards may be read, as their owners say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from chinwag.mesh.v1 import mesh_service_pb2 as pb
from chinwag_server.chat.routed.owners import LOOK_S, Until
from chinwag_server.chat.sequenced.feed import FeedEnds, Place
from chinwag_server.chat.store import StoreUnavailable
from chinwag_server.mesh.links import Links, Unreachable
from chinwag_server.mesh.shards import SHARDS

log = logging.getLogger(__name__)

# A node answers after so long even if nothing changed, and gathers for so long what changes.
HOLD_S = 2.0
GATHER_S = 0.02
ASK_S = 5.0
RETRY_S = 0.25
NODES_S = 0.25
# How long a reader of what is new waits for all shards to have owners.
OWNERS_S = 15.0


async def answer(ends: FeedEnds, after: int) -> pb.FeedEndsResult:
    """What a node says of its own shards. Waits while there is nothing new."""
    if after and ends.version <= after:
        await ends.change(after, HOLD_S)
        await asyncio.sleep(GATHER_S)
    return pb.FeedEndsResult(
        number=ends.version,
        ends=[
            pb.FeedEnd(shard=shard, epoch=place.epoch, number=place.number)
            for shard, place in ends.after(after)
        ],
    )


class KnownEnds:
    """Asks all nodes, as long as somebody reads.

    Args:
        own: Of the shards of this node.
        nodes: The other nodes that live.
    """

    def __init__(
        self, node_id: str, own: FeedEnds, links: Links, nodes: Callable[[], Collection[str]]
    ) -> None:
        self._node_id = node_id
        self._own = own
        self._links = links
        self._nodes = nodes
        self._ends = [Place(0, 0)] * SHARDS
        self._watchers: set[Callable[[], None]] = set()
        self._following: asyncio.Task[None] | None = None
        self._asking: dict[str, asyncio.Task[None]] = {}

    def __getitem__(self, shard: int) -> Place:
        """Where the shard ends, as far as is known here; (0, 0): nothing is known. What was true
        once stays true."""
        return self._ends[shard]

    def watch(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Calls `wake` whenever more may be read; gives the function that stops it."""
        self._watchers.add(wake)
        if self._following is None:
            self._following = asyncio.ensure_future(self._follow_nodes())

        def undo() -> None:
            self._watchers.discard(wake)
            if not self._watchers:
                self._end()

        return undo

    async def stop(self) -> None:
        """Asks no more."""
        tasks = self._end()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self) -> list[asyncio.Task[None]]:
        tasks = [*self._asking.values(), *([self._following] if self._following else [])]
        for task in tasks:
            task.cancel()
        self._asking.clear()
        self._following = None
        return tasks

    async def now(self) -> list[Place]:
        """The ends of all shards, not older than this call.

        Raises:
            StoreUnavailable: There is a shard without an owner, for long.
        """
        until, found = Until(OWNERS_S), [Place(0, 0)] * SHARDS
        while True:
            nodes = [self._node_id, *self._nodes()]
            answers = await asyncio.gather(*(self._ask(node_id, 0) for node_id in nodes))
            for result in answers:
                for end in result.ends if result is not None else ():
                    if end.shard < SHARDS:
                        place = Place(end.epoch, end.number)
                        found[end.shard] = max(found[end.shard], place)
            missing = found.count(Place(0, 0))
            if not missing:
                return found
            if not until.left:
                raise StoreUnavailable(f"no owner says where the feeds of {missing} shards end")
            await asyncio.sleep(LOOK_S)

    # --- asking ---

    async def _follow_nodes(self) -> None:
        while True:
            nodes = {self._node_id, *self._nodes()}
            for node_id in nodes - self._asking.keys():
                self._asking[node_id] = asyncio.ensure_future(self._follow(node_id))
            for node_id in self._asking.keys() - nodes:
                self._asking.pop(node_id).cancel()
            await asyncio.sleep(NODES_S)

    async def _follow(self, node_id: str) -> None:
        after = 0
        while True:
            result = await self._ask(node_id, after)
            if result is None:
                await asyncio.sleep(RETRY_S)
                continue
            if not result.number:
                await asyncio.sleep(RETRY_S)  # it owns nothing yet
            after = result.number
            self._take(result)

    async def _ask(self, node_id: str, after: int) -> pb.FeedEndsResult | None:
        if node_id == self._node_id:
            return await answer(self._own, after)
        question = pb.Question(feed_ends=pb.FeedEnds(after=after))
        try:
            found = await self._links.ask(node_id, question, ASK_S)
        except Unreachable as error:
            log.debug("%s does not say how far its feeds may be read: %s", node_id, error)
            return None
        return found.feed_ends if found.HasField("feed_ends") else None

    def _take(self, result: pb.FeedEndsResult) -> None:
        moved = False
        for end in result.ends:
            if (
                end.shard < SHARDS
                and (place := Place(end.epoch, end.number)) > self._ends[end.shard]
            ):
                self._ends[end.shard] = place
                moved = True
        if moved:
            for wake in list(self._watchers):
                wake()
