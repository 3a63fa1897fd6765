"""The permission table, walked whole through a real server."""

from __future__ import annotations

import time
from typing import Any

import grpc

from chinwag.chat.v1 import chat_service_pb2 as pb
from chinwag.chat.v1 import chat_service_pb2_grpc, connect_pb2, message_pb2
from chinwag.errors import from_rpc_error
from chinwag.ids import MessageIds
from chinwag_server.chat import permissions
from chinwag_server.rpc.errors import Refusal
from tests.server.chat.test_permissions import CASES, ROLES, attempt, channel_of
from tests.server.serving import Served, bearer


class RealRoom:
    """What `attempt` and `channel_of` call, over a socket."""

    def __init__(self, served: Served) -> None:
        self._stub = chat_service_pb2_grpc.ChatServiceStub(served.channel())
        self._ids = MessageIds()

    async def call(self, user_id: str, method: str, /, **fields: Any) -> Any:
        if isinstance(mask := fields.get("update_mask"), str):
            fields["update_mask"] = {"paths": [mask]}
        kind: Any = (
            connect_pb2.SendMessageRequest
            if method == "SendMessage"
            else getattr(pb, f"{method}Request")
        )
        call: Any = getattr(self._stub, method)
        try:
            return await call(kind(**fields), metadata=bearer(f"{user_id}/d"), timeout=20)
        except grpc.RpcError as error:
            refused = from_rpc_error(error)
            raise Refusal(refused.reason, refused.message) from error

    async def send(self, user_id: str, channel_id: str, text: str) -> int:
        answer = await self.call(
            user_id,
            "SendMessage",
            channel_id=channel_id,
            client_message_id=self._ids.draw(time.time()),
            content=message_pb2.MessageContent(text=text),
        )
        return int(answer.message.id)

    async def direct(self, user_id: str, other: str) -> str:
        answer = await self.call(user_id, "CreateChannel", kind=1, member_user_ids=[other])
        return str(answer.channel.channel.id)


async def test_the_table_holds_through_a_real_server(bare_server: Served) -> None:
    room: Any = RealRoom(bare_server)
    wrong = []
    for kind, role, action in CASES:
        channel_id = await channel_of(room, kind)
        try:
            await attempt(room, action, ROLES[role], channel_id, kind)
            reason = ""
        except Refusal as refusal:
            reason = refusal.reason
        if permissions.allowed(kind, role, action):
            expected = ""
        elif kind == permissions.DIRECT and action in permissions.FIXED_IN_DIRECT:
            expected = "CHANNEL_KIND"
        else:
            expected = "ROLE_REQUIRED"
        if reason != expected:
            wrong.append((kind, ROLES[role], action.name, expected, reason))
    assert not wrong
