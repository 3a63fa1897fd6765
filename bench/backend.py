"""Makes users, tokens and channels as a team's backend does: with an API key."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration

from bench.drive import Place
from bench.process import CHINWAG, Server
from chinwag.account.v1 import account_service_pb2, account_service_pb2_grpc
from chinwag.chat.v1 import channel_pb2, chat_service_pb2, chat_service_pb2_grpc

SCOPES = (
    "users:read",
    "users:write",
    "tokens:issue",
    "channels:read",
    "channels:write",
    "messages:read",
    "messages:write",
)
TOKEN_S = 6 * 3600
UPSERT_AT_ONCE = 100
CALL_TIMEOUT_S = 30.0


def make_key(data: Path) -> str:
    """An API key's secret; the server must not run."""
    command: list[str | Path] = [CHINWAG, "apikey", "create", "--data", data, "--name", "bench"]
    command += ["--scopes", ",".join(SCOPES)]
    output = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"cwk_[\w.~-]+", output.stdout)
    if output.returncode or not found:
        raise RuntimeError(f"chinwag apikey create: {output.stderr.strip() or output.stdout}")
    return found.group()


class Backend:
    """Calls with the API key."""

    def __init__(self, channel: grpc.Channel, key: str) -> None:
        self._account = account_service_pb2_grpc.AccountServiceStub(channel)
        self._chat = chat_service_pb2_grpc.ChatServiceStub(channel)
        self._key = key

    def _metadata(self, on_behalf_of: str = "") -> tuple[tuple[str, str], ...]:
        authorization = ("authorization", f"Bearer {self._key}")
        if not on_behalf_of:
            return (authorization,)
        return (authorization, ("chinwag-on-behalf-of", on_behalf_of))

    def users(self, user_ids: Sequence[str]) -> list[tuple[str, str]]:
        """Makes users that are not there yet; gives (user, token of a new device) of each."""
        for first in range(0, len(user_ids), UPSERT_AT_ONCE):
            some = user_ids[first : first + UPSERT_AT_ONCE]
            answer = self._account.UpsertUsers(
                account_service_pb2.UpsertUsersRequest(
                    users=[account_service_pb2.UserUpsert(id=user_id) for user_id in some]
                ),
                metadata=self._metadata(),
                timeout=CALL_TIMEOUT_S,
            )
            for result in answer.results:
                if result.HasField("error"):
                    raise RuntimeError(f"UpsertUsers: {result.error.message}")
        with ThreadPoolExecutor(8) as pool:
            return list(zip(user_ids, pool.map(self.token, user_ids), strict=True))

    def token(self, user_id: str) -> str:
        """A new device's access token."""
        answer = self._account.IssueUserToken(
            account_service_pb2.IssueUserTokenRequest(
                user_id=user_id, access_lifetime=Duration(seconds=TOKEN_S)
            ),
            metadata=self._metadata(),
            timeout=CALL_TIMEOUT_S,
        )
        return answer.tokens.access_token

    def group(self, user_ids: Sequence[str], members: Sequence[int], name: str) -> Place:
        """Makes a group, owned by the first member."""
        return self._channel(user_ids, members, channel_pb2.CHANNEL_KIND_GROUP, name)

    def direct(self, user_ids: Sequence[str], first: int, second: int) -> Place:
        """Opens the direct channel of two."""
        return self._channel(user_ids, (first, second), channel_pb2.CHANNEL_KIND_DIRECT, "")

    def _channel(
        self,
        user_ids: Sequence[str],
        members: Sequence[int],
        kind: channel_pb2.ChannelKind.ValueType,
        name: str,
    ) -> Place:
        answer = self._chat.CreateChannel(
            chat_service_pb2.CreateChannelRequest(
                kind=kind, name=name, member_user_ids=[user_ids[member] for member in members[1:]]
            ),
            metadata=self._metadata(user_ids[members[0]]),
            timeout=CALL_TIMEOUT_S,
        )
        channel = answer.channel.channel
        return Place(
            channel.id, members, channel.generation, cursor=channel.head_id, head=channel.head_id
        )

    def newest(self, user_id: str, channel_id: str) -> int:
        """Reads the newest page of a channel; gives the head."""
        answer = self._chat.ListMessages(
            chat_service_pb2.ListMessagesRequest(channel_id=channel_id, page_size=50),
            metadata=self._metadata(user_id),
            timeout=CALL_TIMEOUT_S,
        )
        return answer.head_id


@contextmanager
def backend(server: Server, key: str) -> Iterator[Backend]:
    """A backend's connection to a server."""
    with grpc.insecure_channel(server.address) as channel:
        yield Backend(channel, key)
