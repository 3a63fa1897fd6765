"""What a team's backend does: users, tokens, bans, messages on behalf of users, the event feed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc
from grpc import aio

from chinwag import ids
from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import account_service_pb2_grpc, user_pb2
from chinwag.addresses import Addresses
from chinwag.calls import ApiKey, Calls
from chinwag.chat.v1 import (
    channel_pb2,
    chat_service_pb2,
    chat_service_pb2_grpc,
    connect_pb2,
    entry_pb2,
    message_pb2,
)
from chinwag.endpoints import Endpoints
from chinwag.errors import ChinwagError, from_rpc_error, from_status
from chinwag.routes import open_routes
from chinwag.transport import Security, Tls

UPSERTS = 100


@dataclass(frozen=True, slots=True)
class FeedBatch:
    """Entries of all channels.

    Attributes:
        cursor: Save it with what the entries led to, and start there again.
    """

    entries: Sequence[entry_pb2.Entry]
    cursor: str


def upsert(
    user_id: str,
    *,
    username: str | None = None,
    display_name: str | None = None,
    bio: str | None = None,
    avatar_url: str | None = None,
    metadata: Mapping[str, str] | None = None,
    service_account: bool | None = None,
) -> pb.UserUpsert:
    """A user as `Backend.upsert_users` takes it; None: as it was."""
    user = pb.UserUpsert(
        id=user_id,
        username=username,
        display_name=display_name,
        bio=bio,
        avatar_url=avatar_url,
        service_account=service_account,
    )
    if metadata is not None:
        user.metadata.SetInParent()
        user.metadata.pairs.update(metadata)
    return user


class Backend:
    """A team's backend. Use it in an `async with`; every method may raise `ChinwagError`.

    Args:
        address: "host:port" of any node, or several: see `connect`.
        api_key: The key's secret; each method needs a scope of it.
        tls, insecure: See `connect`.
        channel: A channel to use instead of opening one.
    """

    def __init__(
        self,
        address: Addresses,
        api_key: str,
        *,
        tls: Tls = None,
        insecure: bool = False,
        channel: aio.Channel | None = None,
    ) -> None:
        self._own = channel is None
        self._endpoints: Endpoints | None = None
        if channel is None:
            channel = routes = open_routes(address, Security(tls, insecure))
            self._endpoints = routes.endpoints
        self._channel = channel
        self._calls = Calls(ApiKey(api_key))
        self._ids = ids.MessageIds()
        self.chat = chat_service_pb2_grpc.ChatServiceStub(self._channel)
        self.account = account_service_pb2_grpc.AccountServiceStub(self._channel)

    @property
    def call(self) -> Calls:
        """Any other call: `await backend.call(backend.chat.GetChannel, request,
        on_behalf_of=user_id)`."""
        return self._calls

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection."""
        if self._own:
            await self._channel.close()

    # --- users ---

    async def upsert_users(
        self, users: Iterable[pb.UserUpsert]
    ) -> list[user_pb2.User | ChinwagError]:
        """Makes or changes users by the team's own ids.

        Args:
            users: Any number; see `upsert`.

        Returns:
            In the order of `users`, each one's profile or why that one failed.
        """
        wanted = list(users)
        outcomes: list[user_pb2.User | ChinwagError] = []
        for start in range(0, len(wanted), UPSERTS):
            request = pb.UpsertUsersRequest(users=wanted[start : start + UPSERTS])
            answer = await self._calls(self.account.UpsertUsers, request)
            outcomes.extend(
                from_status(result.error) if result.HasField("error") else result.user
                for result in answer.results
            )
        return outcomes

    async def issue_user_token(
        self,
        user_id: str,
        *,
        device_id: str = "",
        device_name: str = "",
        lifetime_s: float | None = None,
        with_refresh_token: bool = False,
    ) -> user_pb2.Tokens:
        """Opens a session for a user, or gives one of theirs a new access token.

        Args:
            device_id: An existing session; empty: a new one.
            lifetime_s: Of the access token, 60 to 86,400; None: the server's.

        Returns:
            `Session.of` makes a session of them.
        """
        request = pb.IssueUserTokenRequest(
            user_id=user_id, device_id=device_id, with_refresh_token=with_refresh_token
        )
        if device_name:
            request.device.name = device_name
        if lifetime_s is not None:
            request.access_lifetime.FromNanoseconds(int(lifetime_s * 1e9))
        return (await self._calls(self.account.IssueUserToken, request)).tokens

    async def users(self, user_ids: Sequence[str]) -> list[user_pb2.User]:
        """At most 1,000 profiles; ids that do not exist are left out."""
        request = pb.GetUsersRequest(user_ids=user_ids)
        return list((await self._calls(self.account.GetUsers, request)).users)

    async def ban(self, user_id: str, reason: str = "", *, until_s: float | None = None) -> None:
        """Keeps a user out.

        Args:
            until_s: Seconds since 1970; None: for ever.
        """
        request = pb.BanUserRequest(user_id=user_id, reason=reason)
        if until_s is not None:
            request.expire_time.FromNanoseconds(int(until_s * 1e9))
        await self._calls(self.account.BanUser, request)

    async def unban(self, user_id: str) -> None:
        """Ends a ban."""
        await self._calls(self.account.UnbanUser, pb.UnbanUserRequest(user_id=user_id))

    # --- on behalf of users ---

    async def send(
        self,
        user_id: str,
        channel_id: str,
        content: str | message_pb2.MessageContent,
        *,
        reply_to: int = 0,
        thread: int = 0,
        client_message_id: str = "",
    ) -> message_pb2.Message:
        """Sends a message as a user; when it returns, the message is durable.

        Args:
            client_message_id: A UUIDv7 that makes a retry by the caller store once; empty: drawn
                anew, and retries within this call store once.
        """
        if isinstance(content, str):
            content = message_pb2.MessageContent(text=content)
        request = connect_pb2.SendMessageRequest(
            channel_id=channel_id,
            client_message_id=client_message_id or self._ids.draw(time.time()),
            content=content,
            reply_to_id=reply_to,
            thread_root_id=thread,
        )
        answer = await self._calls(self.chat.SendMessage, request, on_behalf_of=user_id)
        return answer.message

    async def create_group(
        self, owner_id: str, name: str = "", member_ids: Iterable[str] = ()
    ) -> chat_service_pb2.ChannelView:
        """Makes a group that a user owns."""
        request = chat_service_pb2.CreateChannelRequest(
            kind=channel_pb2.CHANNEL_KIND_GROUP, name=name, member_user_ids=member_ids
        )
        answer = await self._calls(self.chat.CreateChannel, request, on_behalf_of=owner_id)
        return answer.channel

    async def add_members(self, by_id: str, channel_id: str, user_ids: Iterable[str]) -> None:
        """Adds members as one of the channel's admins."""
        request = chat_service_pb2.AddMembersRequest(channel_id=channel_id, user_ids=user_ids)
        await self._calls(self.chat.AddMembers, request, on_behalf_of=by_id)

    async def leave(self, user_id: str, channel_id: str) -> None:
        """Ends a user's membership."""
        request = chat_service_pb2.LeaveChannelRequest(channel_id=channel_id)
        await self._calls(self.chat.LeaveChannel, request, on_behalf_of=user_id)

    # --- the feed ---

    async def stream_events(
        self, cursor: str = "", *, from_now: bool = False, channel_ids: Sequence[str] = ()
    ) -> AsyncIterator[FeedBatch]:
        """Every entry of every channel, each at least once after the cursor, over any number of
        broken connections.

        Args:
            cursor: That of the last batch that was handled; empty: from the beginning.
            from_now: With an empty cursor: only what happens from now on.
            channel_ids: Only these; empty: all.

        Raises:
            InvalidArgument: CURSOR_EXPIRED: start from the beginning.
        """
        backoff, endpoints = self._calls.backoff(), self._endpoints
        while True:
            request = chat_service_pb2.StreamEventsRequest(
                cursor=cursor, from_now=from_now and not cursor, channel_ids=channel_ids
            )
            metadata = await self._calls.metadata()
            address = endpoints.current if endpoints is not None else ""
            call = self.chat.StreamEvents(request, metadata=metadata)
            failure: ChinwagError | None = None
            try:
                async for batch in call:
                    backoff.reset()
                    if endpoints is not None:
                        endpoints.works(address)
                    cursor = batch.cursor
                    yield FeedBatch(batch.entries, batch.cursor)
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
            finally:
                call.cancel()
            if failure is not None and not failure.is_temporary:
                raise failure
            if endpoints is not None and endpoints.ended(address, failure):
                continue
            wait = (failure.retry_after if failure is not None else None) or 0.0
            await self._calls.sleep(max(backoff.next(), wait))
