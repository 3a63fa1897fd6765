"""Refresh tokens in use: the next pair, the lost answer, the theft."""

from __future__ import annotations

import dataclasses

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag_server.account.authenticator import check_ban
from chinwag_server.account.records import SessionRecord
from chinwag_server.account.sessions import MAX_ADDRESS, EndReason, Sessions, SessionSettings
from chinwag_server.account.signing_keys import SECOND_US
from chinwag_server.account.tokens import (
    RefreshTokens,
    session_revoked,
    token_expired,
    token_invalid,
)
from chinwag_server.account.users import Draft, Users
from chinwag_server.rpc.errors import Refusal


class Refreshing:
    """Gives sessions their next tokens."""

    def __init__(
        self, users: Users, sessions: Sessions, tokens: RefreshTokens, settings: SessionSettings
    ) -> None:
        self._users = users
        self._store = users.store
        self._sessions = sessions
        self._refresh = tokens
        self._settings = settings

    async def refresh(
        self, request: pb.RefreshTokenRequest, address: str
    ) -> pb.RefreshTokenResponse:
        """The next pair of tokens; the rule of reuse is in the contract.

        Raises:
            Refusal: TOKEN_INVALID, TOKEN_EXPIRED, SESSION_REVOKED, REFRESH_TOKEN_REUSED, BANNED.
        """
        claims = self._refresh.read(request.refresh_token)

        async def decide(draft: Draft) -> tuple[SessionRecord, bool]:
            session = await self._store.session(claims.user_id, claims.device_id)
            if session is None or not self._refresh.matches(session, claims):
                raise token_invalid()
            same_device = request.device_id == session.device_id
            is_used = claims.number < session.refresh_count
            if not same_device and not is_used:
                raise token_invalid()
            if session.end_reason == EndReason.DEVICE_REVOKE_REASON_EXPIRED:
                raise token_expired()
            if session.ended_time_us or draft.user.deleted:
                raise session_revoked()
            if session.expire_time_us <= draft.now_us:
                raise token_expired()
            check_ban(draft.user, draft.now_us)
            age_us = draft.now_us - session.token_time_us
            if (
                same_device
                and claims.number == session.refresh_count - 1
                and age_us <= self._settings.refresh_grace_s * SECOND_US
            ):
                return session, False  # its answer was lost
            if is_used:
                reason = EndReason.DEVICE_REVOKE_REASON_REFRESH_TOKEN_REUSED
                self._sessions.end(draft, session, reason)
                return session, True
            # A greater number is ours too: the store is a restored, older one.
            session = dataclasses.replace(
                session,
                refresh_count=claims.number + 1,
                token_time_us=draft.now_us,
                expire_time_us=draft.now_us + self._settings.refresh_token_s * SECOND_US,
                active_time_us=draft.now_us,
                address=address[:MAX_ADDRESS] or session.address,
            )
            draft.write(session)
            return session, False

        session, stolen = await self._users.change(claims.user_id, decide)
        if stolen:
            self._sessions.tell_ended([session])
            raise Refusal(
                "REFRESH_TOKEN_REUSED",
                "the refresh token was used before: it may have been stolen, so the session has "
                "ended; log in again",
            )
        return pb.RefreshTokenResponse(tokens=self._sessions.tokens(session))
