"""The account room over a store, called as a server would call it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.message import Message

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import events_pb2, user_pb2
from chinwag_server.account import ids
from chinwag_server.account.records import ApiKeyRecord
from chinwag_server.account.room import AccountRoom
from chinwag_server.account.sharing import Sharing
from chinwag_server.account.store import AccountStore
from chinwag_server.clock import Clock
from chinwag_server.rpc.auth import ON_BEHALF_OF, authenticate, with_address
from chinwag_server.rpc.caller import Caller, set_caller
from chinwag_server.rpc.errors import Refusal
from chinwag_server.rpc.registry import access_of
from chinwag_server.rpc.validation import parse
from tests.server.account.clock import FakeClock
from tests.server.serving import settings_for

ADDRESS = "192.0.2.1"
PASSWORD = "correct horse"

ALL_SCOPES = ("users:read", "users:write", "tokens:issue", "bans:write", "keys:write")


class FakeChat:
    """What the account room tells chat, and asks it.

    Attributes:
        ended: (user, device or None, reason) of `session_revoked`.
        forgotten: (user, redact) of `forget_user`.
        sharing: Pairs who share a channel.
        broken: `forget_user` fails.
        callers: Who has a stream open.
    """

    def __init__(self) -> None:
        self.ended: list[tuple[str, str | None, int]] = []
        self.forgotten: list[tuple[str, bool]] = []
        self.sharing: set[frozenset[str]] = set()
        self.broken = False
        self.channels = SimpleNamespace(store=None)
        self.revoked_keys: list[str] = []
        self.callers: list[Caller] = []

    def key_revoked(self, api_key_id: str) -> None:
        self.revoked_keys.append(api_key_id)

    def connected(self) -> list[Caller]:
        return self.callers

    def session_revoked(self, user_id: str, device_id: str | None, reason: int) -> None:
        self.ended.append((user_id, device_id, reason))

    async def forget_user(self, user_id: str, *, redact: bool) -> None:
        if self.broken:
            raise RuntimeError("chat is broken")
        self.forgotten.append((user_id, redact))

    async def share_channel(self, user_id: str, other_id: str) -> bool:
        return frozenset((user_id, other_id)) in self.sharing


class Person:
    """A user with a session.

    Attributes:
        tokens: The newest ones.
    """

    def __init__(self, rules: Rules, tokens: user_pb2.Tokens) -> None:
        self.rules = rules
        self.tokens = tokens

    @property
    def id(self) -> str:
        return self.tokens.user_id

    async def call(self, name: str, request: Message | None = None, **metadata: str) -> Any:
        return await self.rules.call(name, request, token=self.tokens.access_token, **metadata)

    async def refused(self, name: str, request: Message | None = None) -> str:
        return await refused(self.call(name, request))


class Rules:
    """A started account room.

    Args:
        share: Makes the room's part in a store that others use too, from its clock.
        seed: Of what is drawn; rooms with one store have different ones.

    Attributes:
        chat: Its chat room.
        secret: An API key with all scopes that accounts know.
    """

    def __init__(
        self,
        tmp_path: Path,
        store: AccountStore,
        *,
        share: Callable[[Clock], Sharing] | None = None,
        seed: int = 7,
        **changes: Any,
    ) -> None:
        self.clock = FakeClock()
        self.store = store
        self.chat = FakeChat()
        self.secret = ""
        self._settings = settings_for(tmp_path, **changes)
        self._share = share
        self._random = random.Random(seed)
        self.room = self._new_room()

    def _new_room(self) -> AccountRoom:
        sharing = self._share(self.clock) if self._share else None
        return AccountRoom(
            self.store, self._settings, self.clock, self._random.randbytes, sharing=sharing
        )

    async def start(self) -> None:
        await self.room.start()
        chat: Any = self.chat
        self.room.attach(chat)
        self.room.audiences.contacts = self.chat

    async def restart(self) -> None:
        """As after a crash, but for what memory holds."""
        await self.room.stop()
        self.room = self._new_room()
        await self.start()

    # --- calls ---

    async def call(
        self,
        name: str,
        request: Message | None = None,
        *,
        token: str = "",
        on_behalf_of: str = "",
        address: str = ADDRESS,
    ) -> Any:
        """Calls a method through the access rules and the validation of a server."""
        method = descriptor_pool.Default().FindMethodByName(
            f"chinwag.account.v1.AccountService.{name}"
        )
        metadata = {"authorization": f"Bearer {token}"} if token else {}
        if on_behalf_of:
            metadata[ON_BEHALF_OF] = on_behalf_of
        request = request or getattr(pb, f"{name}Request")()
        caller = await authenticate(self.room.authenticator, access_of(method), metadata)
        set_caller(with_address(caller, address))
        checked = parse(type(request), request.SerializeToString())
        return await getattr(self.room.servicer, name)(checked, None)

    async def backend(
        self, name: str, request: Message | None = None, *, on_behalf_of: str = ""
    ) -> Any:
        """Calls a method with an API key that has every scope of accounts."""
        if not self.secret:
            self.secret = await self.api_key(*ALL_SCOPES)
        return await self.call(name, request, token=self.secret, on_behalf_of=on_behalf_of)

    async def api_key(self, *scopes: str, expire_time_us: int = 0) -> str:
        """The secret of a new API key, made as on the command line."""
        key_id, secret = ids.new_api_key(self._random.randbytes)
        record = ApiKeyRecord(
            key_id, "key", scopes, ids.secret_hash(secret), self.clock.time_us(), expire_time_us
        )
        await self.store.put_api_key(record)
        return secret

    # --- people ---

    async def sign_up(self, username: str, password: str = PASSWORD, **fields: Any) -> Person:
        request = pb.SignUpRequest(username=username, password=password, **fields)
        return Person(self, (await self.call("SignUp", request)).tokens)

    async def log_in(self, username: str, password: str = PASSWORD, **fields: Any) -> Person:
        request = pb.LogInRequest(username=username, password=password, **fields)
        return Person(self, (await self.call("LogIn", request)).tokens)

    async def befriend(self, one: Person, other: Person) -> None:
        await one.call("RequestFriend", pb.RequestFriendRequest(user_id=other.id))
        await other.call("AcceptFriend", pb.AcceptFriendRequest(user_id=one.id))

    async def events(self, user_id: str) -> list[str]:
        """The kinds of a user's events, in order."""
        return [
            str(events_pb2.AccountEvent.FromString(row.payload).WhichOneof("event"))
            for row in await self.store.events(user_id, 0, 1000)
        ]

    async def settle(self, done: Callable[[], bool]) -> None:
        """Waits for background work."""
        for _ in range(500):
            if done():
                return
            await asyncio.sleep(0.002)
        raise AssertionError("it does not come to that")

    async def idle(self) -> None:
        """Waits until no background work runs."""
        await self.settle(lambda: not self.room.chores._tasks)


async def refused(call: Any) -> str:
    """The reason with which a call is refused."""
    with pytest.raises(Refusal) as caught:
        await call
    return caught.value.reason
