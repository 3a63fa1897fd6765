"""ChatService for callers: translates calls to rules and their results to answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from chinwag.chat.v1 import chat_service_pb2 as pb
from chinwag.chat.v1 import chat_service_pb2_grpc, connect_pb2
from chinwag_server.chat.feed import Feed
from chinwag_server.chat.guidance import rate_limited
from chinwag_server.chat.hub import Hub
from chinwag_server.chat.lifecycle import Lifecycle, id_of_new
from chinwag_server.chat.marks import Marks
from chinwag_server.chat.membership import Membership
from chinwag_server.chat.messages import Messages
from chinwag_server.chat.reads import DEFAULT_PAGE, Reads, page_token, read_page_token
from chinwag_server.chat.requests import Remember, Requests
from chinwag_server.chat.sends import Sends, Sent
from chinwag_server.chat.stream import DeviceStream
from chinwag_server.chat.streams import RateLimits, Streams
from chinwag_server.chat.sync import Sync
from chinwag_server.rpc.caller import Caller, current_caller
from chinwag_server.rpc.errors import Refusal
from chinwag_server.rpc.pushed import Sink

Context = Any  # of the server core that runs the servicer: nothing here looks into it


def user() -> Caller:
    """The caller, who is or stands for a user.

    Raises:
        Refusal: USER_REQUIRED.
    """
    caller = current_caller()
    if not caller.user_id:
        raise Refusal(
            "USER_REQUIRED",
            "an API key calls this on behalf of a user: name them in the metadata "
            '"chinwag-on-behalf-of"',
        )
    return caller


@dataclass(slots=True, frozen=True)
class Serving:
    """The rules that the methods call."""

    sends: Sends
    messages: Messages
    lifecycle: Lifecycle
    membership: Membership
    marks: Marks
    reads: Reads
    sync: Sync
    feed: Feed
    hub: Hub
    requests: Requests
    rates: RateLimits
    streams: Streams


class ChatServicer(chat_service_pb2_grpc.ChatServiceServicer):
    """The methods of ChatService, each a translation and nothing else."""

    def __init__(self, serving: Serving) -> None:
        self._sends = serving.sends
        self._messages = serving.messages
        self._lifecycle = serving.lifecycle
        self._membership = serving.membership
        self._marks = serving.marks
        self._reads = serving.reads
        self._sync = serving.sync
        self._feed = serving.feed
        self._hub = serving.hub
        self._requests = serving.requests
        self._rates = serving.rates
        self._streams = serving.streams

    def Connect(self, sink: Sink) -> DeviceStream:  # type: ignore[override]  # noqa: N802
        """Pushed: its frames are parsed here, since a bad one is answered inside the stream."""
        return self._streams.open(user(), sink)

    # --- messages ---

    async def SendMessage(  # noqa: N802
        self, request: connect_pb2.SendMessageRequest, context: Context
    ) -> pb.SendMessageResponse:
        caller = user()
        if wait_s := self._rates.take_sends(caller, 1):
            raise rate_limited(wait_s)
        outcome: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()

        def answer(_index: int, result: Sent | Refusal) -> None:
            if outcome.done():
                return
            if isinstance(result, Refusal):
                outcome.set_exception(result)
            else:
                outcome.set_result(result)

        await self._sends.send(caller, [request], answer)
        sent = await outcome
        message = await self._reads.message(caller, request.channel_id, sent.message_id)
        return pb.SendMessageResponse(message=message)

    async def EditMessage(  # noqa: N802
        self, request: pb.EditMessageRequest, context: Context
    ) -> pb.EditMessageResponse:
        caller = user()

        async def run(remember: Remember) -> pb.EditMessageResponse:
            await self._messages.edit(caller, request, remember)
            return pb.EditMessageResponse()

        await self._requests.once(caller, request, pb.EditMessageResponse, run)
        return pb.EditMessageResponse(
            message=await self._reads.message(caller, request.channel_id, request.message_id)
        )

    async def DeleteMessage(  # noqa: N802
        self, request: pb.DeleteMessageRequest, context: Context
    ) -> pb.DeleteMessageResponse:
        caller = user()

        async def run(remember: Remember) -> pb.DeleteMessageResponse:
            await self._messages.delete(caller, request.channel_id, request.message_id, remember)
            return pb.DeleteMessageResponse()

        await self._requests.once(caller, request, pb.DeleteMessageResponse, run)
        return pb.DeleteMessageResponse(
            message=await self._reads.message(caller, request.channel_id, request.message_id)
        )

    async def AddReaction(  # noqa: N802
        self, request: pb.AddReactionRequest, context: Context
    ) -> pb.AddReactionResponse:
        caller = user()

        async def run(remember: Remember) -> pb.AddReactionResponse:
            await self._messages.add_reaction(caller, request, remember)
            return pb.AddReactionResponse()

        await self._requests.once(caller, request, pb.AddReactionResponse, run)
        return pb.AddReactionResponse(
            message=await self._reads.message(caller, request.channel_id, request.message_id)
        )

    async def RemoveReaction(  # noqa: N802
        self, request: pb.RemoveReactionRequest, context: Context
    ) -> pb.RemoveReactionResponse:
        caller = user()

        async def run(remember: Remember) -> pb.RemoveReactionResponse:
            await self._messages.remove_reaction(caller, request, remember)
            return pb.RemoveReactionResponse()

        await self._requests.once(caller, request, pb.RemoveReactionResponse, run)
        return pb.RemoveReactionResponse(
            message=await self._reads.message(caller, request.channel_id, request.message_id)
        )

    async def ListMessages(  # noqa: N802
        self, request: pb.ListMessagesRequest, context: Context
    ) -> pb.ListMessagesResponse:
        return await self._reads.messages(user(), request)

    async def GetMessage(  # noqa: N802
        self, request: pb.GetMessageRequest, context: Context
    ) -> pb.GetMessageResponse:
        message = await self._reads.message(user(), request.channel_id, request.message_id)
        return pb.GetMessageResponse(message=message)

    # --- channels ---

    async def CreateChannel(  # noqa: N802
        self, request: pb.CreateChannelRequest, context: Context
    ) -> pb.CreateChannelResponse:
        caller = user()
        return await self._requests.once(
            caller,
            request,
            pb.CreateChannelResponse,
            lambda remember: self._lifecycle.create(caller, request, remember),
            channel_id=id_of_new(caller.user_id, request),
        )

    async def JoinChannel(  # noqa: N802
        self, request: pb.JoinChannelRequest, context: Context
    ) -> pb.JoinChannelResponse:
        caller = user()

        async def run(remember: Remember) -> pb.JoinChannelResponse:
            log = await self._membership.join(caller, request, remember)
            self._hub.opened(log, log.members[caller.user_id])
            return pb.JoinChannelResponse()

        await self._requests.once(caller, request, pb.JoinChannelResponse, run)
        return pb.JoinChannelResponse(channel=await self._reads.channel(caller, request.channel_id))

    async def GetChannel(  # noqa: N802
        self, request: pb.GetChannelRequest, context: Context
    ) -> pb.GetChannelResponse:
        return pb.GetChannelResponse(channel=await self._reads.channel(user(), request.channel_id))

    async def ListChannels(  # noqa: N802
        self, request: pb.ListChannelsRequest, context: Context
    ) -> pb.ListChannelsResponse:
        return await self._reads.channels(user(), request)

    async def UpdateChannel(  # noqa: N802
        self, request: pb.UpdateChannelRequest, context: Context
    ) -> pb.UpdateChannelResponse:
        caller = user()
        return await self._requests.once(
            caller,
            request,
            pb.UpdateChannelResponse,
            lambda remember: self._lifecycle.update(caller, request, remember),
        )

    async def DeleteChannel(  # noqa: N802
        self, request: pb.DeleteChannelRequest, context: Context
    ) -> pb.DeleteChannelResponse:
        caller = user()

        async def run(remember: Remember) -> pb.DeleteChannelResponse:
            await self._lifecycle.delete(caller, request, remember)
            return pb.DeleteChannelResponse()

        return await self._requests.once(caller, request, pb.DeleteChannelResponse, run)

    # --- members ---

    async def AddMembers(  # noqa: N802
        self, request: pb.AddMembersRequest, context: Context
    ) -> pb.AddMembersResponse:
        caller = user()
        return await self._requests.once(
            caller,
            request,
            pb.AddMembersResponse,
            lambda remember: self._membership.add(caller, request, remember),
        )

    async def RemoveMember(  # noqa: N802
        self, request: pb.RemoveMemberRequest, context: Context
    ) -> pb.RemoveMemberResponse:
        caller = user()

        async def run(remember: Remember) -> pb.RemoveMemberResponse:
            log = await self._membership.remove(caller, request, remember)
            if log.is_broadcast:
                self._hub.gone(log.id, request.user_id)
            return pb.RemoveMemberResponse()

        return await self._requests.once(caller, request, pb.RemoveMemberResponse, run)

    async def LeaveChannel(  # noqa: N802
        self, request: pb.LeaveChannelRequest, context: Context
    ) -> pb.LeaveChannelResponse:
        caller = user()

        async def run(remember: Remember) -> pb.LeaveChannelResponse:
            log = await self._membership.leave(caller, request, remember)
            if log.is_broadcast:
                self._hub.gone(log.id, caller.user_id)
            return pb.LeaveChannelResponse()

        return await self._requests.once(caller, request, pb.LeaveChannelResponse, run)

    async def SetMemberRole(  # noqa: N802
        self, request: pb.SetMemberRoleRequest, context: Context
    ) -> pb.SetMemberRoleResponse:
        caller = user()
        return await self._requests.once(
            caller,
            request,
            pb.SetMemberRoleResponse,
            lambda remember: self._membership.set_role(caller, request, remember),
        )

    async def ListMembers(  # noqa: N802
        self, request: pb.ListMembersRequest, context: Context
    ) -> pb.ListMembersResponse:
        return await self._reads.members(user(), request)

    # --- registers ---

    async def MarkRead(  # noqa: N802
        self, request: pb.MarkReadRequest, context: Context
    ) -> pb.MarkReadResponse:
        state = await self._marks.mark(user(), request.channel_id, request.read_id, 0)
        return pb.MarkReadResponse(state=state)

    async def MarkDelivered(  # noqa: N802
        self, request: pb.MarkDeliveredRequest, context: Context
    ) -> pb.MarkDeliveredResponse:
        state = await self._marks.mark(user(), request.channel_id, 0, request.delivered_id)
        return pb.MarkDeliveredResponse(state=state)

    async def ListReceipts(  # noqa: N802
        self, request: pb.ListReceiptsRequest, context: Context
    ) -> pb.ListReceiptsResponse:
        limit = request.page_size or 2 * DEFAULT_PAGE
        position = read_page_token("receipts", request.page_token, str)
        receipts = await self._marks.receipts(
            user(), request.channel_id, position[0] if position else "", limit + 1
        )
        more, receipts = len(receipts) > limit, receipts[:limit]
        return pb.ListReceiptsResponse(
            receipts=receipts,
            next_page_token=page_token("receipts", receipts[-1].user_id) if more else "",
        )

    async def SetChannelPreferences(  # noqa: N802
        self, request: pb.SetChannelPreferencesRequest, context: Context
    ) -> pb.SetChannelPreferencesResponse:
        caller = user()
        return await self._requests.once(
            caller,
            request,
            pb.SetChannelPreferencesResponse,
            lambda remember: self._marks.set_preferences(caller, request, remember),
        )

    async def SendTyping(  # noqa: N802
        self, request: pb.SendTypingRequest, context: Context
    ) -> pb.SendTypingResponse:
        await self._marks.typing(user(), request.channel_id, request.thread_root_id, request.active)
        return pb.SendTypingResponse()

    # --- what happened ---

    async def Sync(  # noqa: N802
        self, request: pb.SyncRequest, context: Context
    ) -> pb.SyncResponse:
        return await self._sync.sync(user(), request)

    async def StreamEvents(  # noqa: N802
        self, request: pb.StreamEventsRequest, context: Context
    ) -> AsyncIterator[pb.StreamEventsResponse]:
        async for batch in self._feed.stream(request, current_caller()):
            yield batch
