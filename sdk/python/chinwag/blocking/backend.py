"""A team's backend without asyncio: see `chinwag.backend`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

import grpc

from chinwag import ids
from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import account_service_pb2_grpc, user_pb2
from chinwag.addresses import Addresses
from chinwag.backend import UPSERTS, FeedBatch
from chinwag.blocking.calls import ApiKey, Calls
from chinwag.blocking.routes import open_routes
from chinwag.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, connect_pb2, message_pb2
from chinwag.content import content_of
from chinwag.errors import ChinwagError, from_rpc_error, from_status
from chinwag.transport import Security, Tls


class Backend:
    """`Backend` without asyncio; any other method goes through `call`."""

    def __init__(
        self, address: Addresses, api_key: str, *, tls: Tls = None, insecure: bool = False
    ) -> None:
        self._channel = open_routes(address, Security(tls, insecure))
        self._ids = ids.MessageIds()
        self.call = Calls(ApiKey(api_key))
        self.chat = chat_service_pb2_grpc.ChatServiceStub(self._channel)
        self.account = account_service_pb2_grpc.AccountServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()

    def upsert_users(self, users: Iterable[pb.UserUpsert]) -> list[user_pb2.User | ChinwagError]:
        """Makes or changes users: see `Backend.upsert_users`."""
        wanted = list(users)
        outcomes: list[user_pb2.User | ChinwagError] = []
        for start in range(0, len(wanted), UPSERTS):
            request = pb.UpsertUsersRequest(users=wanted[start : start + UPSERTS])
            outcomes.extend(
                from_status(result.error) if result.HasField("error") else result.user
                for result in self.call(self.account.UpsertUsers, request).results
            )
        return outcomes

    def issue_user_token(
        self, user_id: str, *, device_id: str = "", with_refresh_token: bool = False
    ) -> user_pb2.Tokens:
        """Opens a session for a user: see `Backend.issue_user_token`."""
        request = pb.IssueUserTokenRequest(
            user_id=user_id, device_id=device_id, with_refresh_token=with_refresh_token
        )
        return self.call(self.account.IssueUserToken, request).tokens

    def send(
        self,
        user_id: str,
        channel_id: str,
        content: str | message_pb2.MessageContent,
        *,
        client_message_id: str = "",
    ) -> message_pb2.Message:
        """Sends a message as a user: see `Backend.send`."""
        request = connect_pb2.SendMessageRequest(
            channel_id=channel_id,
            client_message_id=client_message_id or self._ids.draw(time.time()),
            content=content_of(content),
        )
        return self.call(self.chat.SendMessage, request, on_behalf_of=user_id).message

    def stream_events(
        self, cursor: str = "", *, from_now: bool = False, channel_ids: Sequence[str] = ()
    ) -> Iterator[FeedBatch]:
        """Every entry of every channel: see `Backend.stream_events`."""
        backoff, endpoints = self.call.backoff(), self._channel.endpoints
        while True:
            request = chat_service_pb2.StreamEventsRequest(
                cursor=cursor, from_now=from_now and not cursor, channel_ids=channel_ids
            )
            metadata = self.call.metadata()
            address = endpoints.current
            call = self.chat.StreamEvents(request, metadata=metadata)
            error: ChinwagError | None = None
            try:
                for batch in call:
                    backoff.reset()
                    endpoints.works(address)
                    cursor = batch.cursor
                    yield FeedBatch(batch.entries, batch.cursor)
            except grpc.RpcError as failure:
                error = from_rpc_error(failure)
                if not error.is_temporary:
                    raise error from failure
            finally:
                call.cancel()
            if endpoints.ended(address, error):
                continue
            wait = (error.retry_after if error is not None else None) or 0.0
            self.call.sleep(max(backoff.next(), wait))
