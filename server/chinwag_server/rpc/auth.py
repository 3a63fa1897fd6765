"""Who calls: from metadata to a `Caller` that may call the method.

Tokens come in the authorization metadata alone. Whether one is good is the account room's to
say (`Authenticator`); whether its holder may call this method is decided here, from the option
in the contract.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Protocol

from chinwag_server.rpc.caller import ANONYMOUS, Caller
from chinwag_server.rpc.errors import Refusal
from chinwag_server.rpc.ratelimit import AddressSet
from chinwag_server.rpc.registry import Access

API_KEY_PREFIX = "cwk_"
ON_BEHALF_OF = "chinwag-on-behalf-of"
MAX_TOKEN_LENGTH = 8192
MAX_ID_BYTES = 64


class TokenKind(Enum):
    """What stands after "Bearer "."""

    ACCESS = "access"
    API_KEY = "api_key"


class Authenticator(Protocol):
    """Verifies tokens; the account room implements it. Called for every call, so an
    implementation keeps what it has verified (and forgets it on revocation)."""

    async def authenticate(self, token: str, kind: TokenKind) -> Caller:
        """The holder of a token, without an address.

        Raises:
            Refusal: TOKEN_INVALID, TOKEN_EXPIRED, SESSION_REVOKED, BANNED.
        """

    async def on_behalf(self, key: Caller, user_id: str) -> Caller:
        """An API key's caller as one that stands for a user: `key` with `user_id`.

        Raises:
            Refusal: USER_NOT_FOUND, BANNED.
        """


async def authenticate(
    authenticator: Authenticator, access: Access, metadata: Mapping[str, str]
) -> Caller:
    """The caller of a method; `ANONYMOUS` where none is needed.

    Raises:
        Refusal: TOKEN_REQUIRED, SCOPE_REQUIRED, or what the authenticator says.
    """
    if access.anonymous:
        return ANONYMOUS
    token = bearer_token(metadata)
    kind = TokenKind.API_KEY if token.startswith(API_KEY_PREFIX) else TokenKind.ACCESS
    caller = await authenticator.authenticate(token, kind)
    user_id = metadata.get(ON_BEHALF_OF, "")
    if not caller.api_key_id:
        if access.api_key_only:
            raise Refusal("SCOPE_REQUIRED", "only an API key may call this method")
        if user_id:
            raise Refusal("SCOPE_REQUIRED", f"only an API key may call with {ON_BEHALF_OF}")
        return caller
    if not access.scope:
        raise Refusal("SCOPE_REQUIRED", "this method needs a user's token: no API key may call it")
    if access.scope not in caller.scopes:
        raise Refusal(
            "SCOPE_REQUIRED",
            f"the API key lacks the scope {access.scope}",
            metadata={"scope": access.scope},
        )
    if user_id:
        if len(user_id.encode()) > MAX_ID_BYTES:
            raise Refusal("USER_NOT_FOUND", f"{ON_BEHALF_OF}: there is no such user")
        return await authenticator.on_behalf(caller, user_id)
    return caller


def bearer_token(metadata: Mapping[str, str]) -> str:
    """The token of a call.

    Raises:
        Refusal: TOKEN_REQUIRED, TOKEN_INVALID.
    """
    value = metadata.get("authorization", "")
    scheme, _, token = value.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Refusal(
            "TOKEN_REQUIRED", 'expected the metadata "authorization: Bearer TOKEN": log in first'
        )
    if len(token) > MAX_TOKEN_LENGTH:
        raise Refusal("TOKEN_INVALID", f"a token has at most {MAX_TOKEN_LENGTH} characters")
    return token


class ClientAddress:
    """Whose address a call comes from.

    Args:
        trusted_proxies: Addresses and networks whose x-forwarded-for is believed.
    """

    def __init__(self, trusted_proxies: tuple[str, ...]) -> None:
        self._trusted = AddressSet(trusted_proxies)

    def of(self, peer: str, metadata: Mapping[str, str]) -> str:
        """The client's address: the peer's, or if that is a trusted proxy, the last one of
        x-forwarded-for that is none (what stands before it, anybody can have written)."""
        if peer not in self._trusted:
            return peer
        address = peer
        for hop in reversed(metadata.get("x-forwarded-for", "").split(",")):
            if not (hop := hop.strip()):
                break
            address = hop[:MAX_ID_BYTES]
            if address not in self._trusted:
                break
        return address


def with_address(caller: Caller, address: str) -> Caller:
    """The caller, with where they call from."""
    return dataclasses.replace(caller, address=address)
