"""Reading: pages of messages, channels, members."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, Protocol

from chinwag.chat.v1 import chat_service_pb2, message_pb2
from chinwag_server.chat import access, ranges
from chinwag_server.chat.channels import Channels
from chinwag_server.chat.messages import message_not_found
from chinwag_server.chat.permissions import Action
from chinwag_server.chat.store import ChannelRecord, MemberRecord
from chinwag_server.chat.views import Views
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal

DEFAULT_PAGE = 50
MAX_BYTES = 1 << 20


def page_token(method: str, *position: object) -> str:
    """An opaque token that says where a method goes on."""
    raw = json.dumps([method, *position], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def read_page_token(method: str, token: str, *types: type) -> list[Any] | None:
    """What `page_token` was given; None for the empty token.

    Raises:
        Refusal: INVALID_PAGE_TOKEN.
    """
    if not token:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        name, *position = found
        # `type` and not isinstance: a bool is no number here.
        if name == method and [type(part) for part in position] == list(types):
            return list(position)
    except (ValueError, TypeError):
        pass
    raise Refusal(
        "INVALID_PAGE_TOKEN",
        "the page token is not one that this method gave: start without one",
        fields=[("page_token", "unknown")],
    )


class ChannelLists(Protocol):
    """The part of a `ChatStore` that lists a user's channels."""

    async def user_channel_page(
        self,
        user_id: str,
        kinds: Sequence[int],
        include_archived: bool,
        after: tuple[bool, int, str] | None,
        limit: int,
    ) -> list[tuple[ChannelRecord, MemberRecord]]: ...


class Reads:
    """Answers what a user may see.

    Args:
        lists: Where the users' lists are read, if not where the channels are.
    """

    def __init__(self, channels: Channels, views: Views, lists: ChannelLists | None = None) -> None:
        self._channels = channels
        self._store = channels.store
        self._views = views
        self._lists = lists or channels.store

    async def messages(
        self, caller: Caller, request: chat_service_pb2.ListMessagesRequest
    ) -> chat_service_pb2.ListMessagesResponse:
        """A page of the main timeline or of a thread.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, CHANNEL_DELETED.
        """
        async with self._channels.use(request.channel_id) as log:
            member = await self._channels.member(log, caller.user_id)
            member = access.check_read(log, member)
            stays = log.visible(member)
            if not stays:
                return chat_service_pb2.ListMessagesResponse()
            anchor = request.WhichOneof("anchor")
            page = await self._store.messages(
                log.id,
                stays,
                thread_root_id=request.thread_root_id,
                anchor=anchor.removesuffix("_id") if anchor else "before",
                anchor_id=getattr(request, anchor) if anchor else stays[-1][1] + 1,
                limit=request.page_size or DEFAULT_PAGE,
                max_bytes=MAX_BYTES,
            )
            return chat_service_pb2.ListMessagesResponse(
                messages=[await self._views.message(found, stays) for found in page.messages],
                has_more_before=page.has_more_before,
                has_more_after=page.has_more_after,
                head_id=stays[-1][1],
            )

    async def message(
        self, caller: Caller, channel_id: str, message_id: int
    ) -> message_pb2.Message:
        """One message.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, CHANNEL_DELETED, MESSAGE_NOT_FOUND.
        """
        async with self._channels.use(channel_id) as log:
            member = await self._channels.member(log, caller.user_id)
            member = access.check_read(log, member)
            stays = log.visible(member)
            if not ranges.contains(stays, message_id):
                raise message_not_found(message_id)
            found = await self._store.message(log.id, message_id)
            if found is None:
                raise message_not_found(message_id)
            return await self._views.message(found, stays)

    async def channel(self, caller: Caller, channel_id: str) -> chat_service_pb2.ChannelView:
        """A channel as the caller sees it, a deleted one too.

        Raises:
            Refusal: CHANNEL_NOT_FOUND.
        """
        async with self._channels.use(channel_id) as log:
            found = await self._channels.member(log, caller.user_id)
            if found is None:
                access.check_read(log, found)
            assert found is not None
            return await self._views.channel_view(log, found)

    async def channels(
        self, caller: Caller, request: chat_service_pb2.ListChannelsRequest
    ) -> chat_service_pb2.ListChannelsResponse:
        """A page of the caller's channels.

        Raises:
            Refusal: INVALID_PAGE_TOKEN.
        """
        limit = request.page_size or DEFAULT_PAGE
        position = read_page_token("channels", request.page_token, bool, int, str)
        rows = await self._lists.user_channel_page(
            caller.user_id,
            list(request.kinds),
            request.include_archived,
            (position[0], position[1], position[2]) if position else None,
            limit + 1,
        )
        more, rows = len(rows) > limit, rows[:limit]
        token = ""
        if more:
            record, member = rows[-1]
            token = page_token("channels", member.pinned, record.head_time_us, record.channel_id)
        return chat_service_pb2.ListChannelsResponse(
            channels=await self._views.channel_views(rows), next_page_token=token
        )

    async def members(
        self, caller: Caller, request: chat_service_pb2.ListMembersRequest
    ) -> chat_service_pb2.ListMembersResponse:
        """A page of members by user id.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, NOT_A_MEMBER, CHANNEL_DELETED, INVALID_PAGE_TOKEN.
        """
        limit = request.page_size or 100
        position = read_page_token("members", request.page_token, str)
        after = position[0] if position else ""
        async with self._channels.use(request.channel_id) as log:
            found = await self._channels.member(log, caller.user_id)
            access.check(log, found, Action.READ)
            rows: list[MemberRecord]
            if log.is_broadcast:
                rows = await self._store.member_page(log.id, after, limit + 1)
            else:
                current = [m for m in log.members.values() if m.role and m.user_id > after]
                rows = sorted(current, key=lambda m: m.user_id)[: limit + 1]
        more, rows = len(rows) > limit, rows[:limit]
        return chat_service_pb2.ListMembersResponse(
            members=[self._views.member(row) for row in rows],
            next_page_token=page_token("members", rows[-1].user_id) if more else "",
        )
