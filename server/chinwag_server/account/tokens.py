"""Access tokens (JWT, RFC 7519, signed with Ed25519 as RFC 8037 says) and refresh tokens."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from chinwag.account.v1 import user_pb2
from chinwag_server.account.ids import RandomBytes, base32, base64url, from_base64url
from chinwag_server.account.records import SessionRecord, SigningKeyRecord
from chinwag_server.account.store import AccountStore
from chinwag_server.clock import Clock
from chinwag_server.rpc.errors import Refusal

ALGORITHM = "EdDSA"
SECOND_US = 1_000_000
# How long a new key is shown before it signs: longer than anybody keeps the old key set.
SHOWN_BEFORE_S = 2 * 3600
# The longest life that an access token can have, and some for clocks that differ.
LONGEST_TOKEN_S = 86_400 + 600
# How often the keys are read again for tokens of a key that is not known.
LOOK_AGAIN_S = 1.0
REFRESH_PREFIX = "cwr_"
MAC_BYTES = 24


@dataclass(slots=True, frozen=True)
class Claims:
    """What a good access token says."""

    user_id: str
    device_id: str
    expire_time_us: int


@dataclass(slots=True, frozen=True)
class _Key:
    record: SigningKeyRecord
    private: Ed25519PrivateKey = field(repr=False)
    public: Ed25519PublicKey

    def jwk(self) -> user_pb2.Jwk:
        return user_pb2.Jwk(
            kty="OKP",
            crv="Ed25519",
            x=base64url(self.public.public_bytes_raw()),
            kid=self.record.key_id,
            use="sig",
            alg=ALGORITHM,
        )


class SigningKeys:
    """The key pairs that sign access tokens; made on the first start, replaced now and then.

    Args:
        life_s: How long a key signs.

    Attributes:
        on_change: Called after a key was made or dropped here.
    """

    def __init__(
        self, store: AccountStore, clock: Clock, random_bytes: RandomBytes, *, life_s: float
    ) -> None:
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes
        self._life_us = int(life_s * SECOND_US)
        self._keys: list[_Key] = []  # newest first
        self._by_id: dict[str, _Key] = {}
        self.on_change: list[Callable[[], None]] = []
        self._refreshing = asyncio.Lock()
        self._looked = -math.inf

    def __repr__(self) -> str:
        return f"SigningKeys({list(self._by_id)})"

    async def refresh(self) -> None:
        """Reads the keys, makes one where one is due, and drops those that are over. To be called
        at the start and every few minutes."""
        async with self._refreshing:
            changed = await self._replace()
            await self._read()
        if changed:
            for told in self.on_change:
                told()

    async def look_again(self) -> None:
        """Reads the keys, since a token names one that is not known: another node may have made
        it. At most once in `LOOK_AGAIN_S`, so that forged names cost the store little.

        Raises:
            StoreUnavailable: They cannot be read.
        """
        async with self._refreshing:
            now = self._clock.monotonic()
            if now - self._looked >= LOOK_AGAIN_S:
                await self._read()
                self._looked = now

    async def _replace(self) -> bool:
        """Makes and drops keys in the store; whether there was one."""
        records = await self._store.signing_keys()
        now_us = self._clock.time_us()
        changed = True
        if not records:
            await self._make(use_from_us=now_us)
        elif records[0].use_from_us + self._life_us <= now_us:
            await self._make(use_from_us=now_us + SHOWN_BEFORE_S * SECOND_US)
        else:
            changed = False
        records = await self._store.signing_keys()
        signing = self._signs(records, now_us)
        for record in records[signing + 1 :]:
            successor = records[records.index(record) - 1]
            if successor.use_from_us + LONGEST_TOKEN_S * SECOND_US < now_us:
                await self._store.delete_signing_key(record.key_id)
                changed = True
        return changed

    async def _read(self) -> None:
        self._keys = [_key(record) for record in await self._store.signing_keys()]
        self._by_id = {key.record.key_id: key for key in self._keys}

    async def _make(self, *, use_from_us: int) -> None:
        seed = self._random_bytes(32)
        key_id = base32(hashlib.sha256(_public(seed).public_bytes_raw()).digest()[:10])
        await self._store.put_signing_key(SigningKeyRecord(key_id, seed, use_from_us))

    @staticmethod
    def _signs(records: list[SigningKeyRecord], time_us: int) -> int:
        for index, record in enumerate(records):
            if record.use_from_us <= time_us:
                return index
        return len(records) - 1

    def at(self, time_us: int) -> _Key:
        """The key that signs tokens made at a time."""
        return self._keys[self._signs([key.record for key in self._keys], time_us)]

    def get(self, key_id: object) -> _Key | None:
        """The key of a `kid`."""
        return self._by_id.get(key_id) if isinstance(key_id, str) else None

    def jwks(self) -> list[user_pb2.Jwk]:
        """The public keys, newest first."""
        return [key.jwk() for key in self._keys]

    def jwks_json(self) -> bytes:
        """The public keys as a JWK Set (RFC 7517)."""
        keys = [
            {"kty": k.kty, "crv": k.crv, "x": k.x, "kid": k.kid, "use": k.use, "alg": k.alg}
            for k in self.jwks()
        ]
        return json.dumps({"keys": keys}).encode()


def _key(record: SigningKeyRecord) -> _Key:
    private = Ed25519PrivateKey.from_private_bytes(record.private)
    return _Key(record, private, private.public_key())


def _public(seed: bytes) -> Ed25519PublicKey:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key()


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
