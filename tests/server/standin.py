"""A stand-in for the account room, where a test is not about accounts.

Tokens are "USER/DEVICE"; API keys are "cwk_NAME:SCOPE,SCOPE".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import account_service_pb2_grpc
from chinwag_server.chat.room import ChatRoom
from chinwag_server.clock import Clock
from chinwag_server.config import Settings
from chinwag_server.datadir import DataDir
from chinwag_server.mesh.bus import Bus
from chinwag_server.rpc.auth import TokenKind
from chinwag_server.rpc.caller import Caller, current_caller
from chinwag_server.rpc.errors import Refusal


class Tokens:
    """The `Authenticator` of the stand-in."""

    async def authenticate(self, token: str, kind: TokenKind) -> Caller:
        if kind is TokenKind.API_KEY:
            name, _, scopes = token.removeprefix("cwk_").partition(":")
            return Caller(api_key_id=name, scopes=frozenset(scopes.split(",")))
        user_id, _, device_id = token.partition("/")
        if not device_id:
            raise Refusal("TOKEN_INVALID", "the token is none of ours")
        return Caller(user_id, device_id)

    async def on_behalf(self, key: Caller, user_id: str) -> Caller:
        if user_id == "nobody":
            raise Refusal("USER_NOT_FOUND", "there is no such user")
        return dataclasses.replace(key, user_id=user_id)


class Everybody:
    """A `Directory` in which everybody exists and may do everything."""

    async def existing(self, user_ids: Collection[str]) -> set[str]:
        return set(user_ids)

    async def may_write(self, sender_id: str, recipient_id: str) -> bool:
        return True

    async def may_add(self, adder_id: str, user_id: str) -> bool:
        return True


class Servicer(account_service_pb2_grpc.AccountServiceServicer):
    """Tells who calls, and fails on demand."""

    def __init__(self) -> None:
        self.fail: Exception | None = None

    async def GetMe(self, request: pb.GetMeRequest, context: object) -> pb.GetMeResponse:  # noqa: N802
        if self.fail is not None:
            raise self.fail
        caller = current_caller()
        answer = pb.GetMeResponse()
        answer.user.id = caller.user_id
        answer.user.display_name = f"{caller.api_key_id}@{caller.address}"
        return answer

    async def GetJwks(self, request: pb.GetJwksRequest, context: object) -> pb.GetJwksResponse:  # noqa: N802
        return pb.GetJwksResponse()


def make_servicer() -> Servicer:
    """The servicer; its other methods are not implemented, which the stubs call abstract."""
    base: Any = Servicer
    servicer: Servicer = base()
    return servicer


class StandInAccount:
    """Implements `rooms.AccountSide`."""

    def __init__(
        self, settings: Settings, data_dir: DataDir, clock: Clock, bus: Bus | None
    ) -> None:
        self.servicer = make_servicer()
        self.authenticator = Tokens()
        self.directory = Everybody()

    def watch(
        self, user_id: str, device_id: str, cursor: str, tell: Callable[[bytes], None]
    ) -> Callable[[], None]:
        return lambda: None

    def jwks(self) -> bytes:
        return b'{"keys": []}'

    def attach(self, chat: ChatRoom) -> None:
        pass

    async def start(self) -> None:
        pass

    def drain(self) -> None:
        pass

    async def stop(self) -> None:
        pass
