"""One channel, as a client sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from chinwag.calls import set_fields
from chinwag.chat.v1 import channel_pb2, chat_service_pb2, message_pb2
from chinwag.content import content_of
from chinwag.events import Cursor
from chinwag.outbox import Sent

if TYPE_CHECKING:
    from chinwag.client import Client

_PAGE = 200


class PendingSend:
    """A message in the outbox: await it for its `Sent`.

    It goes out, over any number of connections, whether somebody waits for it or not.
    """

    def __init__(self, channel_id: str, client_message_id: str) -> None:
        self.channel_id = channel_id
        self.client_message_id = client_message_id
        self.is_awaited = False
        self.future: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()
        # Who only posts does not care; the failure comes as a SendResolved event.
        self.future.add_done_callback(lambda future: future.cancelled() or future.exception())

    @property
    def is_done(self) -> bool:
        """Whether it is stored, or has failed."""
        return self.future.done()

    def __await__(self) -> Generator[None, None, Sent]:
        self.is_awaited = True
        # Shielded: who stops waiting does not take the message back.
        return asyncio.shield(self.future).__await__()


class Channel:
    """One channel. Making one asks nothing of the server; every coroutine may raise
    `ChinwagError`.

    Attributes:
        id: The channel's id.
    """

    def __init__(self, client: Client, channel_id: str) -> None:
        self._client = client
        self._call = client.call
        self._chat = client.chat
        self.id = channel_id

    def __repr__(self) -> str:
        return f"<chinwag.Channel {self.id}>"

    # --- sending ---

    def post(
        self,
        content: str | message_pb2.MessageContent,
        *,
        reply_to: int = 0,
        thread: int = 0,
        mentions: Iterable[str] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> PendingSend:
        """Puts a message into the outbox and returns at once. Messages of one channel are stored
        in the order of the calls, each once, also over breaks and restarts.

        Args:
            content: The text, or a whole content.
            reply_to: The message that this one answers; 0: none.
            thread: The message in whose thread it goes; 0: the main timeline.
            mentions: The ids of users whom it addresses.
            metadata: The application's own data.

        Raises:
            OutboxFull: Too many wait: await some of them.
            InvalidArgument: It is larger than any message may be, or no valid text.
            ClientClosed: The client is closed.
        """
        content = content_of(content, mentions, metadata)
        return self._client.post(self.id, content, reply_to_id=reply_to, thread_root_id=thread)

    async def send(
        self,
        content: str | message_pb2.MessageContent,
        *,
        reply_to: int = 0,
        thread: int = 0,
        mentions: Iterable[str] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> Sent:
        """`post`, and waits until the message is durable: as long as it takes, over breaks too.
        A timeout around it stops the waiting, not the message.

        Raises:
            SendExpired: It could not be sent for 7 days.
            ChinwagError: It was refused (`reason`), or see `post`.
        """
        return await self.post(
            content, reply_to=reply_to, thread=thread, mentions=mentions, metadata=metadata
        )

    def typing(self, *, active: bool = True, thread: int = 0) -> None:
        """Tells the others that the user types, or has stopped. Call it with every key: it goes
        out every four seconds at most. Lost while there is no connection."""
        self._client.typing(self.id, active=active, thread_root_id=thread)

    def mark_read(self, entry_id: int) -> None:
        """The user has read up to an entry. Goes out soon, also after a break; never falls."""
        self._client.mark(self.id, read_id=entry_id)

    def mark_delivered(self, entry_id: int) -> None:
        """This device has received up to an entry. `connect(delivered_marks=True)` does it."""
        self._client.mark(self.id, delivered_id=entry_id)

    # --- messages ---

    async def history(
        self,
        *,
        before: int | None = None,
        after: int | None = None,
        around: int | None = None,
        thread: int = 0,
        limit: int | None = None,
    ) -> AsyncIterator[message_pb2.Message]:
        """Messages as they are now, from the server: the newest first, or from `after` on the
        oldest first, or those around one with ids rising.

        Args:
            before: Only messages with smaller ids.
            after: Only messages with greater ids.
            around: The one page with this message in its middle.
            thread: Only the thread below this message; 0: the main timeline.
            limit: At most so many; None: all.
        """
        left = limit
        while left is None or left > 0:
            request = chat_service_pb2.ListMessagesRequest(
                channel_id=self.id,
                thread_root_id=thread,
                page_size=_PAGE if left is None else min(left, _PAGE),
            )
            for name, anchor in (("before", before), ("after", after), ("around", around)):
                if anchor is not None:
                    setattr(request, f"{name}_id", anchor)
            page = await self._call(self._chat.ListMessages, request)
            if around is not None or after is not None:
                messages: Sequence[message_pb2.Message] = page.messages
                has_more = page.has_more_after and around is None
            else:
                messages = page.messages[::-1]
                has_more = page.has_more_before
            for message in messages:
                yield message
            if not messages or not has_more:
                return
            if left is not None:
                left -= len(messages)
            if after is not None:
                after = messages[-1].id
            else:
                before = messages[-1].id

    def kept(
        self, *, before: int = 0, limit: int = 50, thread: int = 0
    ) -> list[message_pb2.Message]:
        """The newest messages that this device's store holds, ids rising: without the server."""
        return self._client.store.messages(
            self.id, before_id=before, limit=limit, thread_root_id=thread
        )

    async def message(self, message_id: int) -> message_pb2.Message:
        """One message as it is now."""
        request = chat_service_pb2.GetMessageRequest(channel_id=self.id, message_id=message_id)
        return (await self._call(self._chat.GetMessage, request)).message

    async def edit(
        self, message_id: int, content: str | message_pb2.MessageContent
    ) -> message_pb2.Message:
        """Replaces the content of one's own message."""
        request = chat_service_pb2.EditMessageRequest(
            channel_id=self.id, message_id=message_id, content=content_of(content)
        )
        return (await self._call(self._chat.EditMessage, request)).message

    async def delete(self, message_id: int) -> message_pb2.Message:
        """Deletes a message for everybody; its content is gone."""
        request = chat_service_pb2.DeleteMessageRequest(channel_id=self.id, message_id=message_id)
        return (await self._call(self._chat.DeleteMessage, request)).message

    async def react(self, message_id: int, emoji: str) -> message_pb2.Message:
        """Adds the user to a reaction."""
        request = chat_service_pb2.AddReactionRequest(
            channel_id=self.id, message_id=message_id, emoji=emoji
        )
        return (await self._call(self._chat.AddReaction, request)).message

    async def unreact(self, message_id: int, emoji: str) -> message_pb2.Message:
        """Takes the user out of a reaction."""
        request = chat_service_pb2.RemoveReactionRequest(
            channel_id=self.id, message_id=message_id, emoji=emoji
        )
        return (await self._call(self._chat.RemoveReaction, request)).message

    # --- the channel itself ---

    async def view(self) -> chat_service_pb2.ChannelView:
        """The channel with the user's membership, registers and its last message."""
        request = chat_service_pb2.GetChannelRequest(channel_id=self.id)
        return (await self._call(self._chat.GetChannel, request)).channel

    async def update(
        self,
        *,
        name: str | None = None,
        description: str | None = None,
        avatar_url: str | None = None,
        metadata: Mapping[str, str] | None = None,
        is_public: bool | None = None,
        history_visibility: channel_pb2.HistoryVisibility.ValueType | None = None,
    ) -> channel_pb2.Channel:
        """Changes those settings that are given."""
        request = chat_service_pb2.UpdateChannelRequest(channel_id=self.id)
        set_fields(
            request,
            request.update_mask,
            name=name,
            description=description,
            avatar_url=avatar_url,
            metadata=dict(metadata) if metadata is not None else None,
            is_public=is_public,
            history_visibility=history_visibility,
        )
        return (await self._call(self._chat.UpdateChannel, request)).channel

    async def delete_channel(self) -> None:
        """Ends the channel for everybody."""
        request = chat_service_pb2.DeleteChannelRequest(channel_id=self.id)
        await self._call(self._chat.DeleteChannel, request)

    async def look(self) -> None:
        """A broadcast channel's entries come as events from now on, from its head. Direct channels
        and groups need no look."""
        head = (await self.view()).channel
        self._client.look(Cursor(self.id, head.generation, head.head_id))

    def look_away(self) -> None:
        """They do not come any more."""
        self._client.look_away(self.id)

    async def set_preferences(
        self,
        *,
        notification_level: channel_pb2.NotificationLevel.ValueType | None = None,
        mute_until: datetime | None = None,
        archived: bool | None = None,
        pinned: bool | None = None,
        marked_unread: bool | None = None,
        unmute: bool = False,
    ) -> channel_pb2.ChannelState:
        """Changes those of the user's own settings that are given.

        Args:
            mute_until: With a time zone.
            unmute: Ends a mute.
        """
        request = chat_service_pb2.SetChannelPreferencesRequest(channel_id=self.id)
        preferences = request.preferences
        preferences.SetInParent()
        set_fields(
            preferences,
            request.update_mask,
            notification_level=notification_level,
            archived=archived,
            pinned=pinned,
            marked_unread=marked_unread,
        )
        if mute_until is not None:
            preferences.mute_until.FromDatetime(mute_until)
        if mute_until is not None or unmute:
            request.update_mask.paths.append("mute_until")
        return (await self._call(self._chat.SetChannelPreferences, request)).state

    # --- members ---

    async def members(self) -> AsyncIterator[channel_pb2.Member]:
        """The members, by user id."""
        request = chat_service_pb2.ListMembersRequest(channel_id=self.id, page_size=1000)
        while True:
            page = await self._call(self._chat.ListMembers, request)
            for member in page.members:
                yield member
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def receipts(self) -> AsyncIterator[channel_pb2.Receipt]:
        """How far each member has received and read, by user id."""
        request = chat_service_pb2.ListReceiptsRequest(channel_id=self.id, page_size=1000)
        while True:
            page = await self._call(self._chat.ListReceipts, request)
            for receipt in page.receipts:
                yield receipt
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def add_members(
        self,
        user_ids: Iterable[str],
        role: channel_pb2.MemberRole.ValueType = channel_pb2.MEMBER_ROLE_UNSPECIFIED,
    ) -> list[channel_pb2.Member]:
        """Makes users members, all of them or none.

        Raises:
            PermissionDenied: ROLE_REQUIRED, or RECIPIENT_UNAVAILABLE.
            LimitExceeded: MEMBER_LIMIT.
        """
        request = chat_service_pb2.AddMembersRequest(
            channel_id=self.id, user_ids=user_ids, role=role
        )
        return list((await self._call(self._chat.AddMembers, request)).members)

    async def remove_member(self, user_id: str) -> None:
        """Ends somebody else's membership."""
        request = chat_service_pb2.RemoveMemberRequest(channel_id=self.id, user_id=user_id)
        await self._call(self._chat.RemoveMember, request)

    async def set_role(
        self, user_id: str, role: channel_pb2.MemberRole.ValueType
    ) -> channel_pb2.Member:
        """Gives a member another role."""
        request = chat_service_pb2.SetMemberRoleRequest(
            channel_id=self.id, user_id=user_id, role=role
        )
        return (await self._call(self._chat.SetMemberRole, request)).member

    async def leave(self) -> None:
        """Ends the user's own membership."""
        request = chat_service_pb2.LeaveChannelRequest(channel_id=self.id)
        await self._call(self._chat.LeaveChannel, request)
