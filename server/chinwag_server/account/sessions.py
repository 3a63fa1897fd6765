"""Sessions: each is one login of one device, and proves itself with tokens."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import events_pb2, user_pb2
from chinwag.common.v1 import close_pb2
from chinwag_server.account import ids, paging, protos
from chinwag_server.account.records import SessionRecord
from chinwag_server.account.requests import Remember
from chinwag_server.account.tokens import (
    AccessTokens,
    RefreshTokens,
)
from chinwag_server.account.users import Draft, Users
from chinwag_server.observe.logs import describe
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal

log = logging.getLogger(__name__)

SECOND_US = 1_000_000
SALT_BYTES = 16
MAX_ADDRESS = 64

# (user_id, device_id or None for all of them, why) - called after the commit.
OnEnd = Callable[[str, str | None, close_pb2.CloseReason.ValueType], None]
EndReason = events_pb2.DeviceRevokeReason


@dataclass(slots=True, frozen=True)
class SessionSettings:
    """Lives of tokens and how many sessions a user may have."""

    access_token_s: int
    refresh_token_s: int
    refresh_grace_s: int
    max_devices: int


class Sessions:
    """Opens and ends sessions.

    Attributes:
        on_end: Told of every session that has ended before its time.
    """

    def __init__(
        self,
        users: Users,
        access: AccessTokens,
        refresh: RefreshTokens,
        random_bytes: ids.RandomBytes,
        settings: SessionSettings,
    ) -> None:
        self.on_end: list[OnEnd] = []
        self._users = users
        self._store = users.store
        self._clock = users.clock
        self._access = access
        self._refresh = refresh
        self._random_bytes = random_bytes
        self._settings = settings

    # --- opening ---

    async def open(
        self, draft: Draft, info: user_pb2.DeviceInfo, address: str, *, refreshable: bool = True
    ) -> SessionRecord:
        """Adds a session to a draft.

        Raises:
            Refusal: DEVICE_LIMIT.
        """
        now_us = draft.now_us
        if not draft.is_new:
            sessions = await self._store.sessions(draft.user.user_id)
            if sum(session.live(now_us) for session in sessions) >= self._settings.max_devices:
                raise Refusal(
                    "DEVICE_LIMIT",
                    f"the user has {self._settings.max_devices} devices, as many as one may have: "
                    "log one out",
                )
        session = SessionRecord(
            draft.user.user_id,
            ids.new_device_id(self._random_bytes),
            info=info.SerializeToString(),
            salt=self._random_bytes(SALT_BYTES),
            refreshable=refreshable,
            create_time_us=now_us,
            active_time_us=now_us,
            address=address[:MAX_ADDRESS],
            token_time_us=now_us,
            expire_time_us=now_us + self._settings.refresh_token_s * SECOND_US,
        )
        draft.write(session)
        draft.event(
            events_pb2.AccountEvent(
                device_added=events_pb2.DeviceAdded(device=protos.device(session))
            )
        )
        return session

    def tokens(
        self, session: SessionRecord, *, made_us: int | None = None, life_s: int | None = None
    ) -> user_pb2.Tokens:
        """A session's newest refresh token, if it has one, with an access token.

        Args:
            made_us: When the access token is made; None: with the refresh token.
        """
        made_us = session.token_time_us if made_us is None else made_us
        token, end_us = self._access.make(
            session.user_id,
            session.device_id,
            self._refresh.token_id(session, made_us),
            made_us,
            life_s or self._settings.access_token_s,
        )
        tokens = user_pb2.Tokens(
            user_id=session.user_id,
            device_id=session.device_id,
            access_token=token,
            access_expire_time=protos.timestamp(end_us),
        )
        if session.refreshable:
            tokens.refresh_token = self._refresh.make(session)
            tokens.refresh_expire_time.CopyFrom(protos.some_timestamp(session.expire_time_us))
        return tokens

    def prolong(self, draft: Draft, session: SessionRecord) -> SessionRecord:
        """A session that gets a token now, with its end put off."""
        return dataclasses.replace(
            session, expire_time_us=draft.now_us + self._settings.refresh_token_s * SECOND_US
        )

    # --- repeats of the call that opened one ---

    def mark(self, session: SessionRecord) -> bytes:
        """What is remembered of a session that a call opened: no token, nor what makes one."""
        digest = hashlib.sha256(b"session mark" + session.salt).hexdigest()
        return f"{session.device_id} {digest}".encode()

    async def marked(self, user_id: str, mark: bytes) -> SessionRecord | None:
        """The session of a mark, if it is live and has not been refreshed."""
        device_id = mark.decode().partition(" ")[0]
        session = await self._store.session(user_id, device_id)
        if session is None or not session.live(self._clock.time_us()) or session.refresh_count:
            return None
        return session if hmac.compare_digest(mark, self.mark(session)) else None

    # --- ending ---

    def end(self, draft: Draft, session: SessionRecord, reason: EndReason.ValueType) -> None:
        """Ends a session in a draft; `tell_ended` after the commit."""
        draft.write(
            dataclasses.replace(session, ended_time_us=draft.now_us, end_reason=int(reason))
        )
        revoked = events_pb2.DeviceRevoked(device_id=session.device_id, reason=reason)
        draft.event(events_pb2.AccountEvent(device_revoked=revoked))

    async def end_others(
        self, draft: Draft, but: str, reason: EndReason.ValueType
    ) -> list[SessionRecord]:
        """Ends a user's sessions in a draft but for one device; `tell_ended` after the commit."""
        sessions = await self._store.sessions(draft.user.user_id)
        ended = [session for session in sessions if session.device_id != but]
        for session in ended:
            self.end(draft, session, reason)
        return ended

    async def forget_all(self, draft: Draft) -> None:
        """Ends all of a user's sessions in a draft, and forgets what devices they were."""
        for session in await self._store.sessions(draft.user.user_id):
            bare = dataclasses.replace(session, info=b"", address="")
            self.end(draft, bare, EndReason.DEVICE_REVOKE_REASON_UNSPECIFIED)

    def tell_ended(self, ended: Sequence[SessionRecord]) -> None:
        """Closes what the sessions have open."""
        for session in ended:
            self._tell(session.user_id, session.device_id, close_pb2.CLOSE_REASON_SESSION_REVOKED)

    def tell_all(self, user_id: str, reason: close_pb2.CloseReason.ValueType) -> None:
        """Closes what any session of a user has open."""
        self._tell(user_id, None, reason)

    def _tell(
        self, user_id: str, device_id: str | None, reason: close_pb2.CloseReason.ValueType
    ) -> None:
        for told in self.on_end:
            told(user_id, device_id, reason)

    async def log_out(self, caller: Caller, remember: Remember) -> pb.LogOutResponse:
        """Ends the calling session."""
        await self._revoke(
            caller.user_id,
            caller.device_id,
            EndReason.DEVICE_REVOKE_REASON_LOGGED_OUT,
            remember,
            pb.LogOutResponse(),
        )
        self._tell(caller.user_id, caller.device_id, close_pb2.CLOSE_REASON_LOGGED_OUT)
        return pb.LogOutResponse()

    async def revoke(
        self, caller: Caller, request: pb.RevokeDeviceRequest, remember: Remember
    ) -> pb.RevokeDeviceResponse:
        """Ends one of the user's sessions.

        Raises:
            Refusal: DEVICE_NOT_FOUND.
        """
        reason = EndReason.DEVICE_REVOKE_REASON_REVOKED
        if caller.api_key_id:
            reason = EndReason.DEVICE_REVOKE_REASON_BACKEND
        answer = pb.RevokeDeviceResponse()
        await self._revoke(caller.user_id, request.device_id, reason, remember, answer)
        self._tell(caller.user_id, request.device_id, close_pb2.CLOSE_REASON_SESSION_REVOKED)
        return answer

    async def _revoke(
        self,
        user_id: str,
        device_id: str,
        reason: EndReason.ValueType,
        remember: Remember,
        answer: pb.LogOutResponse | pb.RevokeDeviceResponse,
    ) -> None:
        async def decide(draft: Draft) -> None:
            session = await self._store.session(user_id, device_id)
            if session is None:
                raise device_not_found()
            if not session.ended_time_us:
                self.end(draft, session, reason)
            draft.write(*remember(answer))

        await self._users.change_live(user_id, decide)

    async def expire(self, limit: int = 100) -> int:
        """Ends sessions that were not refreshed in time; how many."""
        now_us = self._clock.time_us()
        sessions = await self._store.expired_sessions(now_us, limit)
        for found in sessions:

            async def decide(draft: Draft, device_id: str = found.device_id) -> None:
                session = await self._store.session(draft.user.user_id, device_id)
                if session and not session.ended_time_us and session.expire_time_us <= now_us:
                    self.end(draft, session, EndReason.DEVICE_REVOKE_REASON_EXPIRED)

            await self._users.change(found.user_id, decide)
            self._tell(found.user_id, found.device_id, close_pb2.CLOSE_REASON_SESSION_REVOKED)
        return len(sessions)

    # --- reading ---

    async def list(self, caller: Caller, request: pb.ListDevicesRequest) -> pb.ListDevicesResponse:
        """A page of the user's devices.

        Raises:
            Refusal: INVALID_PAGE_TOKEN.
        """
        after = paging.read_token("devices", request.page_token)
        now_us = self._clock.time_us()
        sessions = [
            session
            for session in await self._store.sessions(caller.user_id)
            if session.live(now_us)
            and (after is None or (session.create_time_us, session.device_id) < after)
        ]
        page, token = paging.cut(
            "devices", sessions, request.page_size, lambda row: (row.create_time_us, row.device_id)
        )
        return pb.ListDevicesResponse(
            devices=[protos.device(session, current=caller.device_id) for session in page],
            next_page_token=token,
        )

    async def device(self, caller: Caller) -> user_pb2.Device | None:
        """The calling device."""
        session = await self._store.session(caller.user_id, caller.device_id)
        return protos.device(session, current=caller.device_id) if session else None

    async def touch(self, user_id: str, device_id: str, address: str = "") -> None:
        """Notes that a device has called, exact to the hour; what fails is of no weight."""

        async def decide(draft: Draft) -> None:
            session = await self._store.session(user_id, device_id)
            if session is not None and not session.ended_time_us:
                draft.write(
                    dataclasses.replace(
                        session,
                        active_time_us=max(session.active_time_us, draft.now_us),
                        address=address[:MAX_ADDRESS] or session.address,
                    )
                )

        try:
            await self._users.change_live(user_id, decide)
        except Exception as error:
            log.debug("a device's activity was not noted: %s", describe(error))


def device_not_found() -> Refusal:
    """DEVICE_NOT_FOUND."""
    return Refusal("DEVICE_NOT_FOUND", "the user has no such device")
