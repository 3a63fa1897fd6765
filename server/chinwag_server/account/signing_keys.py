"""The key pairs that sign access tokens (Ed25519), the same on all nodes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from chinwag.account.v1 import user_pb2
from chinwag_server.account.ids import RandomBytes, base32, base64url
from chinwag_server.account.records import SigningKeyRecord
from chinwag_server.account.store import AccountStore
from chinwag_server.clock import Clock

ALGORITHM = "EdDSA"
SECOND_US = 1_000_000
# How long a new key is shown before it signs: longer than anybody keeps the old key set.
SHOWN_BEFORE_S = 2 * 3600
# The longest life that an access token can have, and some for clocks that differ.
LONGEST_TOKEN_S = 86_400 + 600
# How often the keys are read again for tokens of a key that is not known.
LOOK_AGAIN_S = 1.0


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
