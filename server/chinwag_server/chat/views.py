"""What one user sees of a channel: state, membership, last message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chinwag.chat.v1 import channel_pb2, chat_service_pb2, message_pb2
from chinwag_server.chat import ranges
from chinwag_server.chat.channel import ChannelLog, snapshot_of
from chinwag_server.chat.entries import content_of, parse, project, timestamp
from chinwag_server.chat.store import (
    ChannelRecord,
    MemberRecord,
    MessagePage,
    Ranges,
    StoredEntry,
    StoredMessage,
)


class ViewedStore(Protocol):
    """The reads of a `ChatStore` that views need."""

    @property
    def generation(self) -> int: ...

    async def timeline_count(self, channel_id: str, entry_id: int) -> int: ...

    async def mention_count(
        self, channel_id: str, user_id: str, after_id: int, to_id: int
    ) -> int: ...

    async def last_messages(
        self, wanted: Sequence[tuple[str, int]]
    ) -> dict[str, StoredMessage]: ...

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
    ) -> MessagePage: ...

    async def entries_of_message(self, channel_id: str, message_id: int) -> list[StoredEntry]: ...


class Views:
    """Builds views from what is committed."""

    def __init__(self, store: ViewedStore) -> None:
        self._store = store

    def member(self, member: MemberRecord) -> channel_pb2.Member:
        """A membership as the other members see it."""
        return channel_pb2.Member(
            user_id=member.user_id,
            role=member.role,  # type: ignore[arg-type]
            join_time=timestamp(member.join_time_us),
            join_id=member.join_id,
        )

    async def state(
        self, member: MemberRecord, head_id: int, head_count: int
    ) -> channel_pb2.ChannelState:
        """The user's registers; of a past member, up to the last entry that they may see."""
        if not member.role:
            stays = ranges.visible(member.ranges, head_id)
            head_id = stays[-1][1] if stays else 0
            head_count = await self._store.timeline_count(member.channel_id, head_id)
        mentions = 0
        if member.read_id < head_id:
            mentions = await self._store.mention_count(
                member.channel_id, member.user_id, member.read_id, head_id
            )
        return channel_pb2.ChannelState(
            channel_id=member.channel_id,
            read_id=member.read_id,
            read_count=member.read_count,
            delivered_id=member.delivered_id,
            unread_count=max(0, head_count - member.read_count),
            unread_mention_count=mentions,
            preferences=channel_pb2.ChannelPreferences.FromString(member.preferences),
            head_id=head_id,
            role=member.role,  # type: ignore[arg-type]
        )

    async def channel_view(
        self, log: ChannelLog, member: MemberRecord
    ) -> chat_service_pb2.ChannelView:
        """A channel in memory as one of its members sees it."""
        channel = log.snapshot(self._store.generation)
        record = ChannelRecord(
            log.id,
            log.kind,
            b"",
            head_id=log.committed_id,
            head_count=log.committed_count,
            last_message_id=log.record.last_message_id,
            deleted=log.record.deleted,
        )
        last = await self._store.last_messages([(log.id, record.last_message_id)])
        return await self._view(channel, record, member, last.get(log.id))

    async def channel_views(
        self, rows: Sequence[tuple[ChannelRecord, MemberRecord]]
    ) -> list[chat_service_pb2.ChannelView]:
        """Rows of the store as their member sees them."""
        last = await self._store.last_messages(
            [(record.channel_id, record.last_message_id) for record, _ in rows]
        )
        return [
            await self._view(
                snapshot_of(record, self._store.generation),
                record,
                member,
                last.get(record.channel_id),
            )
            for record, member in rows
        ]

    async def _view(
        self,
        channel: channel_pb2.Channel,
        record: ChannelRecord,
        member: MemberRecord,
        last: StoredMessage | None,
    ) -> chat_service_pb2.ChannelView:
        state = await self.state(member, record.head_id, record.head_count)
        view = chat_service_pb2.ChannelView(state=state)
        stays = ranges.visible(member.ranges, record.head_id)
        if member.role:
            view.channel.CopyFrom(channel)
            view.member.CopyFrom(self.member(member))
        else:
            # The settings may have changed after the last entry that the user may see.
            view.channel.CopyFrom(self._past(channel, state.head_id))
            last = await self._last_in(record.channel_id, stays)
        if record.deleted:
            return view
        if last is not None and ranges.contains(stays, last.id):
            view.last_message.CopyFrom(await self.message(last, stays))
        return view

    def _past(self, channel: channel_pb2.Channel, head_id: int) -> channel_pb2.Channel:
        return channel_pb2.Channel(
            id=channel.id,
            kind=channel.kind,
            create_time=channel.create_time,
            generation=channel.generation,
            head_id=head_id,
        )

    async def _last_in(
        self, channel_id: str, stays: Sequence[ranges.Range]
    ) -> StoredMessage | None:
        if not stays:
            return None
        page = await self._store.messages(
            channel_id,
            stays,
            thread_root_id=0,
            anchor="before",
            anchor_id=stays[-1][1] + 1,
            limit=1,
            max_bytes=1 << 20,
        )
        return page.messages[-1] if page.messages else None

    async def message(
        self, stored: StoredMessage, stays: Sequence[ranges.Range]
    ) -> message_pb2.Message:
        """A message for a reader: somebody who was removed sees nothing of what came after."""
        message = project(stored)
        end = stays[-1][1]
        if message.last_entry_id <= end or message.HasField("delete_time"):
            return message
        return await self._as_of(message, stored, end)

    async def _as_of(
        self, message: message_pb2.Message, stored: StoredMessage, end: int
    ) -> message_pb2.Message:
        """The message without the entries after `end`. Reactions and the thread cannot be told
        apart by their entries, so they are left out."""
        del message.reactions[:]
        message.ClearField("thread")
        message.ClearField("edit_time")
        message.content.CopyFrom(content_of(stored.entry))
        message.last_entry_id = message.id
        for entry in await self._store.entries_of_message(message.channel_id, message.id):
            if message.id < entry.id <= end:
                parsed = parse(entry.payload)
                if parsed.WhichOneof("kind") == "message_edited":
                    message.content.CopyFrom(parsed.message_edited.content)
                    message.edit_time.CopyFrom(parsed.create_time)
                    message.last_entry_id = parsed.id
        return message
