"""The replay's way to set the stage: accounts, groups and memberships, through an API key.

Every call is repeated until it succeeds or its time is up: the server may be killed at any moment,
and a repeat with the same request_id takes effect once.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio

from chinwag.account.v1 import account_service_pb2 as account_pb
from chinwag.account.v1 import account_service_pb2_grpc as account_grpc
from chinwag.account.v1 import user_pb2
from chinwag.chat.v1 import channel_pb2, entry_pb2
from chinwag.chat.v1 import chat_service_pb2 as chat_pb
from chinwag.chat.v1 import chat_service_pb2_grpc as chat_grpc
from chinwag.routes import open_routes
from chinwag.transport import Security
from chinwag_server.cli.exits import CommandError, Exit

CALL_TIMEOUT_S = 10.0
GIVE_UP_S = 60.0
_AGAIN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
)

Answer = TypeVar("Answer")


class Admin:
    """An API key's calls, on behalf of the replay's host where they concern channels.

    Args:
        target: "host:port" of any node, or several with commas.
    """

    def __init__(self, target: str, api_key: str) -> None:
        self._channel = open_routes(
            target,
            Security(insecure=True),
            options=(
                ("grpc.max_receive_message_length", 16 << 20),
                ("grpc.max_reconnect_backoff_ms", 500),
            ),
        )
        self.accounts = account_grpc.AccountServiceStub(self._channel)
        self.chat = chat_grpc.ChatServiceStub(self._channel)
        self._key = ("authorization", f"Bearer {api_key}")

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()

    def metadata(self, user_id: str = "") -> list[tuple[str, str]]:
        """The metadata of a call, on behalf of a user if one is named."""
        return [self._key, ("chinwag-on-behalf-of", user_id)] if user_id else [self._key]

    async def call(
        self, method: Callable[..., Awaitable[Answer]], request: Any, user_id: str = ""
    ) -> Answer:
        """Makes a call until it succeeds.

        Args:
            user_id: On whose behalf; empty: the key's own call.

        Raises:
            CommandError: It was refused for good, or its time is up.
        """
        metadata = self.metadata(user_id)
        loop = asyncio.get_running_loop()
        until = loop.time() + GIVE_UP_S
        while True:
            try:
                return await method(request, metadata=metadata, timeout=CALL_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _AGAIN or loop.time() > until:
                    raise CommandError(
                        f"{type(request).__name__}: {error.code().name}: {error.details()}",
                        Exit.UNREACHABLE if error.code() in _AGAIN else Exit.REFUSED,
                    ) from error
            await asyncio.sleep(0.1)

    async def make_users(self, users: Sequence[tuple[str, str]]) -> None:
        """Makes accounts of (id, display name) pairs, or leaves those that are there."""
        for start in range(0, len(users), 100):
            request = account_pb.UpsertUsersRequest(
                users=[
                    account_pb.UserUpsert(id=user_id, display_name=name)
                    for user_id, name in users[start : start + 100]
                ]
            )
            answer = await self.call(self.accounts.UpsertUsers, request)
            for result in answer.results:
                if result.HasField("error"):
                    raise CommandError(f"UpsertUsers: {result.error.message}", Exit.REFUSED)

    async def issue_token(self, user_id: str, device: str) -> user_pb2.Tokens:
        """A new session of a user."""
        request = account_pb.IssueUserTokenRequest(
            user_id=user_id,
            device=user_pb2.DeviceInfo(name=device),
            request_id=str(uuid.uuid4()),
        )
        request.access_lifetime.FromSeconds(86_400)
        return (await self.call(self.accounts.IssueUserToken, request)).tokens

    async def make_group(self, host: str, name: str, members: Sequence[str]) -> str:
        """Makes a group that new members see from their joining on; gives its id."""
        request = chat_pb.CreateChannelRequest(
            kind=channel_pb2.CHANNEL_KIND_GROUP,
            name=name[:128],
            member_user_ids=members,
            history_visibility=channel_pb2.HISTORY_VISIBILITY_SINCE_JOINING,
            request_id=str(uuid.uuid4()),
        )
        answer = await self.call(self.chat.CreateChannel, request, host)
        return answer.channel.channel.id

    async def add_member(self, host: str, channel_id: str, user_id: str) -> None:
        """Makes a user a member."""
        request = chat_pb.AddMembersRequest(
            channel_id=channel_id, user_ids=[user_id], request_id=str(uuid.uuid4())
        )
        await self.call(self.chat.AddMembers, request, host)

    async def remove_member(self, host: str, channel_id: str, user_id: str) -> None:
        """Ends a membership."""
        request = chat_pb.RemoveMemberRequest(
            channel_id=channel_id, user_id=user_id, request_id=str(uuid.uuid4())
        )
        await self.call(self.chat.RemoveMember, request, host)

    async def read_log(self, host: str, channel_id: str) -> list[entry_pb2.Entry]:
        """A channel's whole log, as its owner may see it."""
        view = await self.call(
            self.chat.GetChannel, chat_pb.GetChannelRequest(channel_id=channel_id), host
        )
        generation = view.channel.channel.generation
        log: list[entry_pb2.Entry] = []
        while True:
            cursor = channel_pb2.Cursor(
                channel_id=channel_id, generation=generation, id=log[-1].id if log else 0
            )
            request = chat_pb.SyncRequest(cursors=[cursor], cursors_only=True, max_entries=1000)
            answer = await self.call(self.chat.Sync, request, host)
            page = [event.entry for event in answer.events if event.HasField("entry")]
            log += page
            if not page:
                return log
