"""API keys: what a team's backend proves itself with."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag_server.account import ids, paging, protos
from chinwag_server.account.cache import Cache
from chinwag_server.account.records import ApiKeyRecord
from chinwag_server.account.requests import Remember
from chinwag_server.account.store import AccountStore
from chinwag_server.account.tokens import token_expired, token_invalid
from chinwag_server.clock import Clock
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal
from chinwag_server.rpc.validation import invalid

HOUR_US = 3_600_000_000
# How soon a node knows at the latest that another one revoked a key.
KNOWN_US = 10_000_000

# ApiKey.scopes in the contract.
SCOPES = frozenset(
    [
        "messages:read",
        "messages:write",
        "channels:read",
        "channels:write",
        "events:read",
        "users:read",
        "users:write",
        "tokens:issue",
        "bans:write",
        "keys:write",
        "presence:read",
        "presence:write",
        "push:read",
        "push:write",
        "push:relay",
    ]
)


@dataclass(slots=True, frozen=True)
class _Known:
    record: ApiKeyRecord
    caller: Caller
    until_us: int


class ApiKeys:
    """Makes, verifies and revokes API keys.

    Args:
        max_keys: Of the deployment.

    Attributes:
        on_revoke: Called with the id of a key that was revoked, here or by another node.
    """

    def __init__(
        self,
        store: AccountStore,
        clock: Clock,
        random_bytes: ids.RandomBytes,
        *,
        max_keys: int,
    ) -> None:
        self.on_revoke: list[Callable[[str], None]] = [self._forget]
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes
        self._max_keys = max_keys
        self._known: Cache[str, _Known] = Cache(max(2 * max_keys, 100))
        # A key's row is replaced as a whole: what was read of it must still hold then.
        self._changing = asyncio.Lock()
        self._revision = 0

    def __repr__(self) -> str:
        return f"ApiKeys({len(self._known)} known)"

    async def authenticate(self, secret: str) -> Caller:
        """The caller who holds a key.

        Raises:
            Refusal: TOKEN_INVALID, TOKEN_EXPIRED, SESSION_REVOKED.
        """
        now_us = self._clock.time_us()
        known = self._known.get(secret)
        if known is None or known.until_us <= now_us:
            known = await self._verify(secret, now_us)
        record = known.record
        if record.revoked_time_us:
            raise Refusal("SESSION_REVOKED", "the API key was revoked")
        if not record.live(now_us):
            raise token_expired()
        return known.caller

    async def _verify(self, secret: str, now_us: int) -> _Known:
        revision = self._revision
        record = await self._store.api_key(ids.api_key_id(secret))
        if record is None or not hmac.compare_digest(record.secret_hash, ids.secret_hash(secret)):
            raise token_invalid()
        if record.live(now_us) and record.used_time_us // HOUR_US != now_us // HOUR_US:
            record = await self._used(record.key_id, now_us) or record
        caller = Caller(
            api_key_id=record.key_id,
            scopes=frozenset(record.scopes),
            expire_time_us=record.expire_time_us,
        )
        # Noted as used again when the hour is over.
        until_us = min(now_us + KNOWN_US, (now_us // HOUR_US + 1) * HOUR_US)
        known = _Known(record, caller, until_us)
        if revision == self._revision:
            self._known.put(secret, known)
        return known

    async def _used(self, key_id: str, now_us: int) -> ApiKeyRecord | None:
        async with self._changing:
            record = await self._store.api_key(key_id)
            if record is not None and record.used_time_us < now_us:
                record = dataclasses.replace(record, used_time_us=now_us)
                await self._store.put_api_key(record)
            return record

    async def create(
        self, caller: Caller, request: pb.CreateApiKeyRequest, remember: Remember
    ) -> pb.CreateApiKeyResponse:
        """Makes a key with no more rights than the calling one.

        Raises:
            Refusal: SCOPE_REQUIRED, API_KEY_LIMIT, INVALID_FIELD.
        """
        check_scopes(request.scopes)
        self._check_covers(caller, request.scopes, "make")
        async with self._changing:
            now_us = self._clock.time_us()
            expire_us = caller.expire_time_us
            if request.HasField("expire_time"):
                expire_us = protos.time_us(request.expire_time)
                if expire_us <= now_us:
                    raise invalid([("expire_time", "lies in the past")])
                if caller.expire_time_us and expire_us > caller.expire_time_us:
                    raise invalid([("expire_time", "lies after the end of the calling key")])
            if await self._store.count_api_keys(now_us) >= self._max_keys:
                raise Refusal(
                    "API_KEY_LIMIT",
                    f"there are {self._max_keys} API keys, as many as may be: revoke one",
                )
            key_id, secret = ids.new_api_key(self._random_bytes)
            record = ApiKeyRecord(
                key_id,
                request.name,
                tuple(request.scopes),
                ids.secret_hash(secret),
                now_us,
                expire_us,
                creator_key_id=caller.api_key_id,
            )
            answer = pb.CreateApiKeyResponse(api_key=protos.api_key(record))
            # What is remembered is without the secret.
            remembered = remember(answer)
            await self._store.put_api_key(record, remembered[0] if remembered else None)
        answer.secret = secret
        return answer

    async def list(self, request: pb.ListApiKeysRequest) -> pb.ListApiKeysResponse:
        """A page of the keys that hold.

        Raises:
            Refusal: INVALID_PAGE_TOKEN.
        """
        records = await self._store.api_keys(
            self._clock.time_us(),
            paging.read_token("keys", request.page_token),
            paging.limit(request.page_size),
        )
        page, token = paging.cut(
            "keys", records, request.page_size, lambda row: (row.create_time_us, row.key_id)
        )
        return pb.ListApiKeysResponse(
            api_keys=[protos.api_key(record) for record in page], next_page_token=token
        )

    async def revoke(
        self, caller: Caller, request: pb.RevokeApiKeyRequest, remember: Remember
    ) -> pb.RevokeApiKeyResponse:
        """Makes a key void from now on.

        Raises:
            Refusal: API_KEY_NOT_FOUND, SCOPE_REQUIRED.
        """
        answer = pb.RevokeApiKeyResponse()
        async with self._changing:
            record = await self._store.api_key(request.api_key_id)
            if record is None:
                raise Refusal("API_KEY_NOT_FOUND", "there is no such API key")
            self._check_covers(caller, record.scopes, "revoke")
            if not record.revoked_time_us:
                record = dataclasses.replace(record, revoked_time_us=self._clock.time_us())
            remembered = remember(answer)
            await self._store.put_api_key(record, remembered[0] if remembered else None)
        for told in self.on_revoke:
            told(record.key_id)
        return answer

    def _forget(self, _key_id: str) -> None:
        self._revision += 1
        self._known = Cache(max(2 * self._max_keys, 100))

    @staticmethod
    def _check_covers(caller: Caller, scopes: Iterable[str], what: str) -> None:
        lacking = sorted(set(scopes) - caller.scopes)
        if lacking:
            raise Refusal(
                "SCOPE_REQUIRED",
                f"a key may {what} only keys whose scopes it has too; it lacks "
                + ", ".join(lacking),
                metadata={"scope": lacking[0]},
            )


def check_scopes(scopes: Iterable[str]) -> None:
    """Refuses scopes that there are not.

    Raises:
        Refusal: INVALID_FIELD.
    """
    unknown = [
        (f"scopes[{index}]", "there is no such scope")
        for index, scope in enumerate(scopes)
        if scope not in SCOPES
    ]
    if unknown:
        raise invalid(unknown)
