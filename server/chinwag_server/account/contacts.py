"""Asks the chat store who shares a channel with whom."""

from __future__ import annotations

from chinwag.chat.v1 import channel_pb2
from chinwag_server.chat.ids import direct_channel_id
from chinwag_server.chat.store import ChatStore


class ChatContacts:
    """`audiences.Contacts` over the chat store."""

    def __init__(self, store: ChatStore) -> None:
        self._store = store

    async def share_channel(self, user_id: str, other_id: str) -> bool:
        direct = await self._store.member(direct_channel_id(user_id, other_id), other_id)
        if direct is not None and direct.role:
            return True
        groups = await self._groups(user_id)
        return bool(groups) and not groups.isdisjoint(await self._groups(other_id))

    async def _groups(self, user_id: str) -> set[str]:
        return {
            channel.channel_id
            for channel, member in await self._store.user_channels(user_id)
            if member.role
            and not channel.deleted
            and channel.kind == channel_pb2.CHANNEL_KIND_GROUP
        }
