"""Access tokens (JWT, RFC 7519, signed with Ed25519 as RFC 8037 says) and refresh tokens."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

import jwt

from chinwag_server.account.ids import base64url, from_base64url
from chinwag_server.account.records import SessionRecord
from chinwag_server.account.signing_keys import ALGORITHM, SECOND_US, SigningKeys
from chinwag_server.clock import Clock
from chinwag_server.rpc.errors import Refusal

REFRESH_PREFIX = "cwr_"
MAC_BYTES = 24


@dataclass(slots=True, frozen=True)
class Claims:
    """What a good access token says."""

    user_id: str
    device_id: str
    expire_time_us: int


class AccessTokens:
    """Makes and verifies access tokens.

    Args:
        issuer: `iss` and `aud`.
    """

    def __init__(self, keys: SigningKeys, clock: Clock, *, issuer: str) -> None:
        self._keys = keys
        self._clock = clock
        self._issuer = issuer

    def make(
        self, user_id: str, device_id: str, token_id: str, made_us: int, life_s: int
    ) -> tuple[str, int]:
        """(token, its end in microseconds). The same arguments give the same token: Ed25519
        signatures have no randomness."""
        made_s = made_us // SECOND_US
        key = self._keys.at(made_us)
        claims = {
            "iss": self._issuer,
            "aud": self._issuer,
            "sub": user_id,
            "sid": device_id,
            "iat": made_s,
            "exp": made_s + life_s,
            "jti": token_id,
        }
        headers = {"kid": key.record.key_id}
        token = jwt.encode(claims, key.private, algorithm=ALGORITHM, headers=headers)
        return token, (made_s + life_s) * SECOND_US

    async def find_key(self, token: str) -> None:
        """Before `verify`: sees to it that a key which another node has made is known here.

        Raises:
            StoreUnavailable: The keys cannot be read.
        """
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
        except (jwt.PyJWTError, ValueError, TypeError):
            return
        if isinstance(key_id, str) and self._keys.get(key_id) is None:
            await self._keys.look_again()

    def verify(self, token: str) -> Claims:
        """What a token says, if it is ours and has not ended. Whether its session still is,
        others know.

        Raises:
            Refusal: TOKEN_INVALID, TOKEN_EXPIRED.
        """
        try:
            key = self._keys.get(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                raise token_invalid()
            claims = jwt.decode(
                token,
                key.public,
                algorithms=[ALGORITHM],
                audience=self._issuer,
                issuer=self._issuer,
                # Against our clock, below: pyjwt has its own.
                options={
                    "require": ["iss", "aud", "sub", "sid", "iat", "exp"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise token_invalid() from error
        user_id, device_id, ends_s = claims["sub"], claims["sid"], claims["exp"]
        if not isinstance(device_id, str) or type(ends_s) is not int:
            raise token_invalid()
        ends_us = ends_s * SECOND_US
        if ends_us <= self._clock.time_us():
            raise token_expired()
        return Claims(user_id, device_id, ends_us)


@dataclass(slots=True, frozen=True)
class RefreshClaims:
    """What a refresh token says of itself; `RefreshTokens.matches` says whether it is true."""

    user_id: str
    device_id: str
    number: int
    mac: bytes = field(repr=False)


class RefreshTokens:
    """Refresh tokens are not kept: each can be made again from its session.

    A token is its user, its device, its number within the session, and an HMAC over these and the
    session's salt. So the one after a given one is always the same, an old one is recognised
    however long ago it was, and a forged one revokes nothing.

    Args:
        secret: Of the store.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return "RefreshTokens()"

    def make(self, session: SessionRecord) -> str:
        """The newest refresh token of a session."""
        names = (base64url(part.encode()) for part in (session.user_id, session.device_id))
        number = session.refresh_count
        mac = base64url(self._mac(b"refresh", session, number))
        return REFRESH_PREFIX + ".".join((*names, str(number), mac))

    def token_id(self, session: SessionRecord, made_us: int) -> str:
        """The `jti` of an access token made at a time."""
        return base64url(self._mac(b"access", session, made_us // SECOND_US)[:12])

    def read(self, token: str) -> RefreshClaims:
        """What a token says.

        Raises:
            Refusal: TOKEN_INVALID.
        """
        try:
            user, device, number, mac = token.removeprefix(REFRESH_PREFIX).split(".")
            claims = RefreshClaims(
                from_base64url(user).decode(),
                from_base64url(device).decode(),
                int(number),
                from_base64url(mac),
            )
        except ValueError as error:
            raise token_invalid() from error
        if not token.startswith(REFRESH_PREFIX) or not 0 <= claims.number < 2**62:
            raise token_invalid()
        return claims

    def matches(self, session: SessionRecord, claims: RefreshClaims) -> bool:
        """Whether a token was made for a session."""
        return hmac.compare_digest(claims.mac, self._mac(b"refresh", session, claims.number))

    def _mac(self, purpose: bytes, session: SessionRecord, number: int) -> bytes:
        digest = hmac.new(self._secret, digestmod=hashlib.sha256)
        for part in (
            purpose,
            session.user_id.encode(),
            session.device_id.encode(),
            session.salt,
            str(number).encode(),
        ):
            digest.update(len(part).to_bytes(4, "big") + part)
        return digest.digest()[:MAC_BYTES]


def token_invalid() -> Refusal:
    """TOKEN_INVALID; what is wrong with it is not said."""
    return Refusal("TOKEN_INVALID", "the token is none of this server's: log in")


def token_expired() -> Refusal:
    """TOKEN_EXPIRED."""
    return Refusal("TOKEN_EXPIRED", "the token has ended: refresh it, or log in")


def session_revoked() -> Refusal:
    """SESSION_REVOKED."""
    return Refusal("SESSION_REVOKED", "the session has ended: log in again")
