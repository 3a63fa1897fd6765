"""Reading what was committed: the half of a `ChatStore` that needs no ownership."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from chinwag_server.chat.sequenced.reads import TableReads, together
from chinwag_server.chat.sequenced.tables import Tables, TablesUnavailable
from chinwag_server.chat.store import (
    ChannelRecord,
    MemberRecord,
    MessagePage,
    Ranges,
    StoredEntry,
    StoredMessage,
    StoredRequest,
    StoreUnavailable,
)

_Found = TypeVar("_Found")


class CommittedReads:
    """Reads entries and what follows from them. Of a channel nothing is to be shown above its head,
    which whoever asks must know from its owner; `_head_id` says what is known here."""

    def __init__(self, tables: Tables, generation: int) -> None:
        self._generation = generation
        self._reads = TableReads(tables, generation)

    @property
    def generation(self) -> int:
        return self._generation

    def _head_id(self, channel_id: str, otherwise: int) -> int:
        """What may be shown of a channel, if that is known here."""
        return otherwise

    async def user_channels(
        self, user_id: str, since_stamp: int = 0
    ) -> list[tuple[ChannelRecord, MemberRecord]]:
        raise NotImplementedError

    async def _reading(self, read: Callable[[], Awaitable[_Found]]) -> _Found:
        try:
            return await read()
        except TablesUnavailable as error:
            raise StoreUnavailable(f"the store cannot be read now: {error}") from error

    async def user_channel_page(
        self,
        user_id: str,
        kinds: Sequence[int],
        include_archived: bool,
        after: tuple[bool, int, str] | None,
        limit: int,
    ) -> list[tuple[ChannelRecord, MemberRecord]]:
        found = sorted(
            ((not row.pinned, -record.head_time_us, record.channel_id), record, row)
            for record, row in await self.user_channels(user_id)
            if row.role
            and (not kinds or record.kind in kinds)
            and (include_archived or not row.archived)
        )
        start = (not after[0], -after[1], after[2]) if after else None
        return [(record, row) for place, record, row in found if start is None or place > start][
            :limit
        ]

    async def count_user_channels(self, user_id: str) -> int:
        return sum(
            bool(row.role) and not record.deleted
            for record, row in await self.user_channels(user_id)
        )

    async def entries(
        self, channel_id: str, after_id: int, to_id: int, limit: int, max_bytes: int
    ) -> list[StoredEntry]:
        to_id = min(to_id, self._head_id(channel_id, to_id))
        return await self._reading(
            lambda: self._reads.entries(channel_id, after_id, to_id, limit, max_bytes)
        )

    async def entry(self, channel_id: str, entry_id: int) -> bytes | None:
        if entry_id > self._head_id(channel_id, entry_id):
            return None
        return await self._reading(lambda: self._reads.entry(channel_id, entry_id))

    async def entries_of_message(self, channel_id: str, message_id: int) -> list[StoredEntry]:
        return await self._reading(lambda: self._reads.entries_of_message(channel_id, message_id))

    async def timeline_count(self, channel_id: str, entry_id: int) -> int:
        if entry_id > self._head_id(channel_id, entry_id):
            return 0
        record = await self._reading(lambda: self._reads.record(channel_id, entry_id))
        return record.timeline_count if record is not None else 0

    async def message(self, channel_id: str, message_id: int) -> StoredMessage | None:
        if message_id > self._head_id(channel_id, message_id):
            return None
        return await self._reading(lambda: self._reads.message(channel_id, message_id))

    async def messages(
        self,
        channel_id: str,
        ranges: Ranges,
        *,
        thread_root_id: int,
        anchor: str,
        anchor_id: int,
        limit: int,
        max_bytes: int,
    ) -> MessagePage:
        head_id = self._head_id(channel_id, max((last for _, last in ranges), default=0))
        shown = [(first, min(last, head_id)) for first, last in ranges if first <= head_id]
        return await self._reading(
            lambda: self._reads.messages(
                channel_id,
                shown,
                thread_root_id=thread_root_id,
                anchor=anchor,
                anchor_id=anchor_id,
                limit=limit,
                max_bytes=max_bytes,
            )
        )

    async def last_messages(self, wanted: Sequence[tuple[str, int]]) -> dict[str, StoredMessage]:
        found = await together([lambda place=place: self.message(*place) for place in wanted])  # type: ignore[misc]
        return {
            channel_id: message
            for (channel_id, _), message in zip(wanted, found, strict=True)
            if message is not None
        }

    async def has_reaction(
        self, channel_id: str, message_id: int, emoji: str, user_id: str
    ) -> bool:
        return await self._reading(
            lambda: self._reads.has_reaction(channel_id, message_id, emoji, user_id)
        )

    async def reaction_users(
        self, channel_id: str, message_id: int, emoji: str, limit: int
    ) -> list[str]:
        return await self._reading(
            lambda: self._reads.reaction_users(channel_id, message_id, emoji, limit)
        )

    async def mention_count(self, channel_id: str, user_id: str, after_id: int, to_id: int) -> int:
        return await self._reading(
            lambda: self._reads.mention_count(channel_id, user_id, after_id, to_id)
        )

    async def find_request(self, scope: str, request_id: str) -> StoredRequest | None:
        return await self._reading(lambda: self._reads.find_request(scope, request_id))

    async def messages_of_sender(
        self, sender_id: str, after: tuple[str, int], limit: int
    ) -> list[tuple[str, int]]:
        return await self._reading(lambda: self._reads.messages_of_sender(sender_id, after, limit))
