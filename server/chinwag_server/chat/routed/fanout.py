"""The way of what was committed from a channel's owner to the nodes of its members' devices.

How it goes depends on how many members the channel has, and what devices see does not: *direct*,
each node is told what its users get; *pub/sub*, all nodes that subscribed hear one publication, and
the others are told; *lazy* (broadcast channels), only nodes on which somebody looks are told.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from chinwag.mesh.v1 import mesh_service_pb2 as pb
from chinwag_server.chat.routed.edge import Edge
from chinwag_server.chat.routed.recent import Recent
from chinwag_server.chat.routed.whereabouts import Targets, Whereabouts
from chinwag_server.mesh.bus import Bus
from chinwag_server.mesh.links import Links

log = logging.getLogger(__name__)

HEADS_S = 2.0
MAX_QUEUED = 50_000
HEADS_IN_ONE = 200
STOP_S = 1.0

_Kind = pb.ForUsers.Kind


@dataclass(slots=True, frozen=True)
class FanoutLimits:
    """Which way a channel's entries go.

    Attributes:
        direct_members: Up to so many members they are told directly.
        pubsub_members: Up to so many by pub/sub; 0: never.
    """

    direct_members: int = 20
    pubsub_members: int = 1000


@dataclass(slots=True)
class _Item:
    """News of one channel. `users` None: who looks."""

    channel_id: str
    users: Collection[str] | None
    entries: pb.Entries | None = None
    piece: pb.ForUsers | None = None


class Fanout:
    """`chat.listeners.Delivery` over nodes.

    Args:
        nodes: The other nodes, now.
        touch: Notes in users' inboxes that registers of a channel changed.
    """

    def __init__(
        self,
        node_id: str,
        edge: Edge,
        links: Links,
        bus: Bus,
        whereabouts: Whereabouts,
        limits: FanoutLimits,
        *,
        nodes: Callable[[], Collection[str]],
        touch: Callable[[str, Collection[str]], None],
    ) -> None:
        self._node_id = node_id
        self._edge = edge
        self._links = links
        self._bus = bus
        self._whereabouts = whereabouts
        self._limits = limits
        self._nodes = nodes
        self._touch = touch
        self._queue: deque[_Item] = deque()
        self._queued = asyncio.Event()
        self._recent = Recent()
        self._missed: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.dropped = 0

    def start(self) -> None:
        """Begins to pass on."""
        self._tasks = [
            asyncio.ensure_future(self._run()),
            asyncio.ensure_future(self._repeat_heads()),
        ]

    async def stop(self) -> None:
        """Passes on what is queued, and ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        left = list(self._queue)
        try:
            async with asyncio.timeout(STOP_S):
                await self._pass_on(left)
        except TimeoutError:
            log.warning("%d pieces of news were not told before the end", len(left))

    # --- Delivery ---

    def reaches(self, user_id: str, but_device_id: str = "") -> bool:
        return True  # who knows

    def entry(
        self, channel_id: str, entry_id: int, piece: bytes, user_ids: Collection[str] | None
    ) -> None:
        users = None if user_ids is None else tuple(user_ids)
        self._edge.entries(channel_id, entry_id, [piece], users)
        self._recent.note(channel_id, entry_id, users)
        last = self._queue[-1] if self._queue else None
        if (
            last is not None
            and last.channel_id == channel_id
            and last.entries is not None
            and last.users == users
        ):
            last.entries.entries.append(piece)
            return
        entries = pb.Entries(channel_id=channel_id, first_id=entry_id, entries=[piece])
        self._put(_Item(channel_id, users, entries=entries))

    def announce(
        self, channel_id: str, since_id: int, head_id: int, users: Collection[str]
    ) -> None:
        """Tells of a channel that was taken over: some of its entries may have been told to
        nobody."""
        self._recent.note(channel_id, head_id, tuple(users), since_id=since_id)
        self._edge.head(channel_id, since_id, head_id, users)

    def opened(self, user_id: str, channel_id: str, piece: bytes) -> None:
        self._tell_users(_Kind.KIND_OPENED, channel_id, piece, [user_id])

    def gone(self, user_id: str, channel_id: str) -> None:
        self._touch(channel_id, [user_id])
        self._tell_users(_Kind.KIND_GONE, channel_id, b"", [user_id])

    def state(self, user_id: str, channel_id: str, piece: bytes, but_device_id: str) -> None:
        self._touch(channel_id, [user_id])
        self._tell_users(_Kind.KIND_STATE, channel_id, piece, [user_id], but_device_id)

    def receipts(self, channel_id: str, piece: bytes, user_ids: Collection[str]) -> None:
        self._touch(channel_id, user_ids)
        self._tell_users(_Kind.KIND_RECEIPTS, channel_id, piece, user_ids)

    def typing(self, channel_id: str, piece: bytes, user_ids: Collection[str] | None) -> None:
        self._tell_users(_Kind.KIND_TYPING, channel_id, piece, user_ids)

    def _tell_users(
        self,
        kind: _Kind.ValueType,
        channel_id: str,
        piece: bytes,
        user_ids: Collection[str] | None,
        but_device_id: str = "",
    ) -> None:
        told = pb.ForUsers(
            kind=kind,
            channel_id=channel_id,
            user_ids=user_ids or (),
            piece=piece,
            but_device_id=but_device_id,
        )
        self._edge.for_users(told)
        users = None if user_ids is None else tuple(user_ids)
        self._put(_Item(channel_id, users, piece=told))

    def _put(self, item: _Item) -> None:
        if len(self._queue) >= MAX_QUEUED:
            # The oldest: their heads are repeated, and so they are read by who misses them.
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(item)
        self._queued.set()

    # --- to the nodes ---

    async def _run(self) -> None:
        while True:
            await self._queued.wait()
            self._queued.clear()
            items = list(self._queue)
            self._queue.clear()
            if not self._nodes():
                continue
            try:
                await self._pass_on(items)
            except Exception:
                log.exception("passing on failed: the heads of channels are repeated")

    async def _pass_on(self, items: Sequence[_Item]) -> None:
        fresh: set[str] = set()
        old: set[str] = set()
        for item in items:
            if item.users is not None:
                (fresh if self._is_once(item) else old).update(item.users)
        targets = await self._whereabouts.of(fresh, old)
        for item in items:
            if item.entries is not None and self._by_pubsub(item):
                self._publish(item, targets)
            else:
                self._tell(item, targets)

    def _is_once(self, item: _Item) -> bool:
        """Whether a device that came a moment ago would miss it: nothing tells of it again soon."""
        if item.piece is not None:
            return item.piece.kind in (_Kind.KIND_OPENED, _Kind.KIND_GONE)
        return item.entries is not None and not self._by_pubsub(item)

    def _by_pubsub(self, item: _Item) -> bool:
        return (
            item.users is not None
            and self._limits.direct_members < len(item.users) <= self._limits.pubsub_members
        )

    def _who(self, item: _Item, targets: Targets) -> Mapping[str, Collection[str]]:
        """Per node the users whose devices are to get it."""
        who = targets.by_node(item.users, self._nodes())
        for node_id in self._whereabouts.watching(item.channel_id):
            if node_id != self._node_id:
                # Users may have come to it that are not yet noted.
                who[node_id] = item.users or ()
        who.pop(self._node_id, None)
        return who

    def _tell(self, item: _Item, targets: Targets) -> None:
        for node_id, users in self._who(item, targets).items():
            self._tell_node(node_id, item, users)

    def _tell_node(
        self, node_id: str, item: _Item, users: Collection[str], *, published: bool = False
    ) -> None:
        if item.entries is not None:
            entries = item.entries
            news = pb.News(
                entries=pb.Entries(
                    channel_id=entries.channel_id,
                    first_id=entries.first_id,
                    entries=entries.entries,
                    user_ids=users,
                    published=published,
                )
            )
        else:
            assert item.piece is not None
            news = pb.News(for_users=item.piece)
            if len(users) != len(item.piece.user_ids):
                del news.for_users.user_ids[:]
                news.for_users.user_ids.extend(users)
        if not self._links.tell(node_id, news) and self._links.is_up(node_id):
            self._missed.add(node_id)  # it reads too slowly

    def _publish(self, item: _Item, targets: Targets) -> None:
        """One publication for the nodes that subscribed; the others are told, and subscribe."""
        assert item.entries is not None
        who = self._who(item, targets)
        subscribed = self._whereabouts.subscribed(item.channel_id) & who.keys()
        if len(subscribed) > 1:
            news = pb.News(
                entries=pb.Entries(
                    channel_id=item.channel_id,
                    first_id=item.entries.first_id,
                    entries=item.entries.entries,
                    user_ids=item.users or (),
                )
            )
            self._bus.publish(topic_of(item.channel_id), news.SerializeToString())
        else:
            subscribed = set()
        for node_id in who:
            if node_id not in subscribed:
                # All users, as in a publication: who is where may be some seconds old, and a node
                # that has passed an entry on to some of its users looks for it no more.
                self._tell_node(node_id, item, item.users or (), published=True)

    # --- heads ---

    async def _repeat_heads(self) -> None:
        while True:
            await asyncio.sleep(HEADS_S)
            for node_id in list(self._missed):
                if self._links.tell(node_id, pb.News(missed=pb.Missed())):
                    self._missed.discard(node_id)
            self._missed &= set(self._nodes())
            try:
                await self._repeat(self._recent.turn())
            except Exception:
                log.exception("heads were not repeated")

    async def _repeat(self, recent: Mapping[str, tuple[int, int, Collection[str] | None]]) -> None:
        if not recent or not self._nodes():
            return
        users: set[str] = set()
        for _, _, some in recent.values():
            users.update(some or ())
        targets = await self._whereabouts.of(users, ())
        heads: dict[str, list[pb.Head]] = {}
        for channel_id, (since_id, head_id, some) in recent.items():
            item = _Item(channel_id, some)
            for node_id, who in self._who(item, targets).items():
                heads.setdefault(node_id, []).append(
                    pb.Head(channel_id=channel_id, since_id=since_id, head_id=head_id, user_ids=who)
                )
        for node_id, found in heads.items():
            for start in range(0, len(found), HEADS_IN_ONE):
                part = pb.Heads(heads=found[start : start + HEADS_IN_ONE])
                self._links.tell(node_id, pb.News(heads=part))


def topic_of(channel_id: str) -> str:
    """Under which a channel's entries are published."""
    return f"entries:{channel_id}"
