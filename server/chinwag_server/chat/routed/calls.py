"""Calls that are about one channel, run by its owner."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import Message as ProtobufMessage

from chinwag.chat.v1 import chat_service_pb2 as chat_pb
from chinwag.chat.v1 import connect_pb2
from chinwag.mesh.v1 import mesh_service_pb2 as pb
from chinwag_server.chat.lifecycle import id_of_new
from chinwag_server.chat.requests import content_hash
from chinwag_server.chat.routed.callers import put_caller
from chinwag_server.chat.routed.owners import WAIT_S, Owners, Until, nobody_owns, owner_of
from chinwag_server.mesh.links import Links, Unreachable
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal

ASK_S = 15.0

# What a method takes and gives. Those of which nothing is left to repeat change nothing, or have
# a request_id when the client wants to repeat them.
METHODS: dict[str, tuple[type[ProtobufMessage], type[ProtobufMessage]]] = {
    "SendMessage": (connect_pb2.SendMessageRequest, chat_pb.SendMessageResponse),
    "EditMessage": (chat_pb.EditMessageRequest, chat_pb.EditMessageResponse),
    "DeleteMessage": (chat_pb.DeleteMessageRequest, chat_pb.DeleteMessageResponse),
    "AddReaction": (chat_pb.AddReactionRequest, chat_pb.AddReactionResponse),
    "RemoveReaction": (chat_pb.RemoveReactionRequest, chat_pb.RemoveReactionResponse),
    "ListMessages": (chat_pb.ListMessagesRequest, chat_pb.ListMessagesResponse),
    "GetMessage": (chat_pb.GetMessageRequest, chat_pb.GetMessageResponse),
    "CreateChannel": (chat_pb.CreateChannelRequest, chat_pb.CreateChannelResponse),
    "JoinChannel": (chat_pb.JoinChannelRequest, chat_pb.JoinChannelResponse),
    "GetChannel": (chat_pb.GetChannelRequest, chat_pb.GetChannelResponse),
    "UpdateChannel": (chat_pb.UpdateChannelRequest, chat_pb.UpdateChannelResponse),
    "DeleteChannel": (chat_pb.DeleteChannelRequest, chat_pb.DeleteChannelResponse),
    "AddMembers": (chat_pb.AddMembersRequest, chat_pb.AddMembersResponse),
    "RemoveMember": (chat_pb.RemoveMemberRequest, chat_pb.RemoveMemberResponse),
    "LeaveChannel": (chat_pb.LeaveChannelRequest, chat_pb.LeaveChannelResponse),
    "SetMemberRole": (chat_pb.SetMemberRoleRequest, chat_pb.SetMemberRoleResponse),
    "ListMembers": (chat_pb.ListMembersRequest, chat_pb.ListMembersResponse),
    "MarkRead": (chat_pb.MarkReadRequest, chat_pb.MarkReadResponse),
    "MarkDelivered": (chat_pb.MarkDeliveredRequest, chat_pb.MarkDeliveredResponse),
    "ListReceipts": (chat_pb.ListReceiptsRequest, chat_pb.ListReceiptsResponse),
    "SetChannelPreferences": (
        chat_pb.SetChannelPreferencesRequest,
        chat_pb.SetChannelPreferencesResponse,
    ),
    "SendTyping": (chat_pb.SendTypingRequest, chat_pb.SendTypingResponse),
}
_REPEATABLE = frozenset(
    {
        "SendMessage",
        "ListMessages",
        "GetMessage",
        "GetChannel",
        "ListMembers",
        "MarkRead",
        "MarkDelivered",
        "ListReceipts",
        "SendTyping",
    }
)


def is_repeatable(method: str, request: Any) -> bool:
    """Whether a call may be made again when it is not known what the first one did."""
    return method in _REPEATABLE or bool(getattr(request, "request_id", ""))


def channel_of(method: str, caller: Caller, request: Any, name: str) -> str:
    """The channel that a call is about. One that is to be made under a request_id has its id
    already; otherwise it gets one from the owner of any `name`."""
    if method != "CreateChannel":
        return str(request.channel_id)
    return id_of_new(caller.user_id, request) or content_hash(name.encode()).hex()


# Runs a call here.
Local = Callable[[], Awaitable[ProtobufMessage | bytes]]


class RoutedCalls:
    """Has calls run by the owner of their channel."""

    def __init__(self, owners: Owners, links: Links) -> None:
        self._owners = owners
        self._links = links
        self._calls = 0

    async def call(
        self, method: str, caller: Caller, request: ProtobufMessage, local: Local
    ) -> ProtobufMessage:
        """The method's response.

        Args:
            method: Of `METHODS`.
            request: Valid.
            local: Runs it if the owner is this node.

        Raises:
            Refusal: The method's; STORAGE_UNAVAILABLE while the channel has no owner.
        """
        self._calls += 1
        name = f"{self._owners.node_id}.{self._calls}"
        channel_id = channel_of(method, caller, request, name)
        question = pb.Question(
            call=pb.Call(
                method=method,
                caller=put_caller(caller),
                request=request.SerializeToString(),
                channel_id=channel_id,
            )
        )
        response = METHODS[method][1]()
        answer = await self.ask(
            channel_id, question, local, repeatable=is_repeatable(method, request)
        )
        if isinstance(answer, bytes):
            response.ParseFromString(answer)
            return response
        return answer

    async def ask(
        self, channel_id: str, question: pb.Question, local: Local, *, repeatable: bool
    ) -> ProtobufMessage | bytes:
        """A call's response, serialised if another node made it.

        Raises:
            Refusal: The call's; STORAGE_UNAVAILABLE.
        """
        until, again = Until(WAIT_S), False
        while True:
            node_id = await owner_of(self._owners, channel_id, until, again=again)
            again = True
            if node_id == self._owners.node_id:
                try:
                    return await local()
                except Refusal as refusal:
                    lost = refusal.reason == "STORAGE_UNAVAILABLE"
                    if not (lost and repeatable) or self._owners.owns(channel_id):
                        raise
                    continue
            try:
                answer = await self._links.ask(node_id, question, ASK_S)
            except Unreachable as error:
                if error.sent and not repeatable:
                    raise _unknown() from error
                continue
            if answer.HasField("error"):
                raise Refusal("INTERNAL", "the channel's node failed; its log has it")
            failed = answer.call.failed
            if failed.not_owner:
                continue
            if failed.HasField("refusal"):
                raise Refusal.of(failed.refusal)
            return answer.call.response


def _unknown() -> Refusal:
    refusal = nobody_owns()
    refusal.message = (
        "the channel's node did not answer, and it is not known what it did: look before you "
        "repeat the call, or give calls a request_id"
    )
    return refusal
