"""Reading at the edge: entries from the store, heads from the channels' owners."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Container, Iterable, Sequence

from chinwag.mesh.v1 import mesh_service_pb2 as pb
from chinwag_server.chat.routed.answers import is_broadcast, record_of
from chinwag_server.chat.routed.owners import LOOK_S, Owners, Until
from chinwag_server.chat.routed.stamps import Stamps
from chinwag_server.chat.sequenced.committed import CommittedReads
from chinwag_server.chat.sequenced.tables import Tables
from chinwag_server.chat.store import ChannelRecord, MemberRecord, StoreUnavailable
from chinwag_server.mesh.links import Links, Unreachable

ASK_S = 5.0
HEADS_S = 15.0
BATCH = 500
MAX_KINDS = 200_000

# Heads of channels that this node owns.
OwnHeads = Callable[[str, Sequence[str]], Awaitable[pb.ChannelHeadsResult]]


class EdgeReads(CommittedReads):
    """What a catch-up reads, wherever the channels are owned.

    Attributes:
        on_head: Told of each (channel, head, user) that a device of the user goes on from.
    """

    def __init__(
        self,
        tables: Tables,
        owners: Owners,
        links: Links,
        own_heads: OwnHeads,
        stamps: Stamps,
        *,
        generation: int,
    ) -> None:
        super().__init__(tables, generation)
        self._owners = owners
        self._links = links
        self._own_heads = own_heads
        self._stamps = stamps
        self._broadcasts: OrderedDict[str, bool] = OrderedDict()
        self.on_head: Callable[[str, int, str], None] = lambda _channel_id, _head_id, _user_id: None

    # --- heads ---

    async def heads(
        self, channel_ids: Sequence[str], user_id: str = ""
    ) -> list[ChannelRecord | None]:
        """The rows of channels as their owners announce them; this node hears of what follows.

        Args:
            user_id: Whose device goes on from there; "": nobody's.

        Raises:
            StoreUnavailable: An owner cannot be asked in time.
        """
        until = Until(HEADS_S)
        found: dict[str, ChannelRecord | None] = {}
        missing = list(dict.fromkeys(channel_ids))
        while missing:
            by_node: dict[str, list[str]] = {}
            for channel_id in missing:
                node_id = self._owners.owner_of(channel_id)
                if self._owners.owns(channel_id):
                    node_id = self._owners.node_id
                elif node_id == self._owners.node_id:
                    node_id = None
                if node_id is not None:
                    by_node.setdefault(node_id, []).append(channel_id)
            asks = [
                self._ask(node_id, some[start : start + BATCH])
                for node_id, some in by_node.items()
                for start in range(0, len(some), BATCH)
            ]
            for heads in await asyncio.gather(*asks):
                for head in heads:
                    if not head.HasField("failed"):
                        found[head.channel_id] = record_of(head, self._generation)
            missing = [channel_id for channel_id in missing if channel_id not in found]
            if missing:
                if not until.left:
                    raise StoreUnavailable(f"no owner says how far {len(missing)} channels are")
                await asyncio.sleep(LOOK_S)
        for channel_id, record in found.items():
            if record is not None:
                self._broadcasts[channel_id] = is_broadcast(record)
                self.on_head(channel_id, record.head_id, user_id)
        while len(self._broadcasts) > MAX_KINDS:
            self._broadcasts.popitem(last=False)
        return [found[channel_id] for channel_id in channel_ids]

    async def _ask(self, node_id: str, channel_ids: list[str]) -> Sequence[pb.ChannelHead]:
        if node_id == self._owners.node_id:
            return (await self._own_heads(node_id, channel_ids)).heads
        question = pb.Question(heads=pb.ChannelHeads(channel_ids=channel_ids))
        try:
            return (await self._links.ask(node_id, question, ASK_S)).heads.heads
        except Unreachable:
            return ()

    # --- what a catch-up reads ---

    async def channel(self, channel_id: str) -> ChannelRecord | None:
        """A channel's row."""
        return (await self.heads([channel_id]))[0]

    async def channel_of(self, user_id: str, channel_id: str) -> ChannelRecord | None:
        """A channel's row, for a device of a user that goes on from its head."""
        return (await self.heads([channel_id], user_id))[0]

    def usable(self, number: int) -> bool:
        """Whether a stamp of this generation can be one of ours."""
        return self._stamps.usable(number)

    def now(self) -> int:
        """The stamp of what has certainly reached this node's streams."""
        return self._stamps.now()

    async def moment(self) -> int:
        """The present moment's stamp."""
        return await self._stamps.moment()

    async def rows(
        self, user_id: str, since: int, known: Container[str]
    ) -> list[tuple[ChannelRecord, MemberRecord]]:
        """The user's channels that changed since a stamp."""
        # The inbox before the rows: what is changed in between is told live.
        found = await self._stamps.changed_since(user_id, since) if since else None
        if found is None:
            return await self.user_channels(user_id)
        changed, lately = found
        return await self._with_heads(
            user_id,
            (
                row
                for row in await self._reading(lambda: self._reads.user_rows(user_id))
                if row.channel_id in changed
                or (row.channel_id in lately and row.channel_id not in known)
            ),
        )

    async def user_channels(
        self, user_id: str, since_stamp: int = 0
    ) -> list[tuple[ChannelRecord, MemberRecord]]:
        return await self._with_heads(
            user_id, await self._reading(lambda: self._reads.user_rows(user_id))
        )

    async def _with_heads(
        self, user_id: str, found: Iterable[MemberRecord]
    ) -> list[tuple[ChannelRecord, MemberRecord]]:
        channel_ids = [row.channel_id for row in found]
        if not channel_ids:
            return []
        records = await self.heads(channel_ids, user_id)
        # The rows once more: if the user was removed in between, theirs must not reach up to a head
        # that they may not see.
        rows = {
            row.channel_id: row
            for row in await self._reading(lambda: self._reads.user_rows(user_id))
        }
        return [
            (record, rows[record.channel_id])
            for record in records
            if record is not None and record.channel_id in rows
        ]

    async def member(self, channel_id: str, user_id: str) -> MemberRecord | None:
        """A user's row; of a channel of which the head was read."""
        broadcast = self._broadcasts.get(channel_id, False)
        return await self._reading(
            lambda: self._reads.member(channel_id, user_id, is_broadcast=broadcast)
        )

    async def group_member(self, channel_id: str, user_id: str) -> MemberRecord | None:
        """A user's row in a channel of which all members are known."""
        return await self._reading(
            lambda: self._reads.member(channel_id, user_id, is_broadcast=False)
        )

    async def members(self, channel_id: str) -> list[MemberRecord]:
        """All rows of a direct channel or group."""
        return await self._reading(lambda: self._reads.members(channel_id, is_broadcast=False))
