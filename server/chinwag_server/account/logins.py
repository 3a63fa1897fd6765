"""Signing up, logging in, changing the password: where a password is shown."""

from __future__ import annotations

import hashlib
import hmac

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import events_pb2, user_pb2
from chinwag_server.account import ids, protos
from chinwag_server.account.authenticator import check_ban
from chinwag_server.account.names import Names, taken
from chinwag_server.account.passwords import Passwords, Throttle
from chinwag_server.account.records import SessionRecord, UserRecord
from chinwag_server.account.requests import Place, Remember, Requests
from chinwag_server.account.sessions import EndReason, Sessions
from chinwag_server.account.users import Draft, Users
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal


class Logins:
    """Proves who somebody is.

    Args:
        secret: Of the store: what ids of repeated sign-ups are made from.
        open_signup: Whether anybody may make an account.
    """

    def __init__(
        self,
        users: Users,
        names: Names,
        sessions: Sessions,
        requests: Requests,
        passwords: Passwords,
        throttle: Throttle,
        random_bytes: ids.RandomBytes,
        *,
        secret: bytes,
        open_signup: bool,
    ) -> None:
        self._users = users
        self._clock = users.clock
        self._names = names
        self._sessions = sessions
        self._requests = requests
        self._passwords = passwords
        self._throttle = throttle
        self._random_bytes = random_bytes
        self._secret = secret
        self._open_signup = open_signup

    # --- proof ---

    async def prove(self, user: UserRecord | None, password: str, address: str, name: str) -> None:
        """Whether a password is a user's.

        Args:
            user: None: nobody has the name; that takes as long and is not told apart.
            name: What was asked for.

        Raises:
            Refusal: CREDENTIALS_INVALID, LOGIN_THROTTLED, OVERLOADED.
        """
        key = f"user {user.user_id}" if user else f"name {name}"
        with self._throttle.attempt(key, address) as attempt:
            if not await self._passwords.verify(user.password_hash if user else "", password):
                raise credentials_invalid()
            attempt.succeed()

    # --- sign-up ---

    async def sign_up(self, request: pb.SignUpRequest, address: str) -> pb.SignUpResponse:
        """Makes an account and opens its first session.

        Raises:
            Refusal: USERNAME_TAKEN, DISABLED; of a repeat also what `log_in` raises.
        """
        async with self._requests.one_at_a_time(_place("", request.username), request):
            holder = await self._names.find(request.username)
            if holder is not None:
                place = _place(holder.user_id, request.username)
                stored = await self._requests.find(place, request)
                if stored is None:
                    raise taken(request.username)
                session = await self._again(holder, request, address, stored.response)
                return pb.SignUpResponse(
                    user=protos.user(await self._users.live(holder.user_id)),
                    tokens=self._sessions.tokens(session, made_us=self._clock.time_us()),
                )
            if not self._open_signup:
                raise Refusal("DISABLED", "sign-up is closed: the team makes the accounts here")
            return await self._make(request, address)

    async def _make(self, request: pb.SignUpRequest, address: str) -> pb.SignUpResponse:
        password_hash = await self._passwords.hash(request.password)
        user_id = await self._new_id(request)
        await self._names.reserve(request.username, user_id)

        async def decide(draft: Draft) -> tuple[UserRecord, SessionRecord]:
            assert draft.is_new, "a user id of 128 random bits is there already"
            profile = user_pb2.User(display_name=request.display_name)
            draft.set(
                username=request.username,
                password_hash=password_hash,
                profile=profile.SerializeToString(),
                create_time_us=draft.now_us,
                update_time_us=draft.now_us,
            )
            session = await self._sessions.open(draft, request.device, address)
            place = _place(user_id, request.username)
            draft.write(*self._requests.records(place, request, self._sessions.mark(session)))
            return draft.user, session

        try:
            user, session = await self._users.change(user_id, decide)
        except Exception:
            await self._names.release(request.username, user_id)
            raise
        await self._names.confirm(request.username, user_id)
        return pb.SignUpResponse(user=protos.user(user), tokens=self._sessions.tokens(session))

    async def _new_id(self, request: pb.SignUpRequest) -> str:
        if request.request_id:
            # The same one for a repeat: it finds the name that a crash left reserved as its own.
            name = f"{request.username} {request.request_id}".encode()
            digest = hmac.digest(self._secret, name, hashlib.sha256)
            user_id = ids.new_user_id(lambda size: digest[:size])
            if await self._users.store.user(user_id) is None:
                return user_id
        return ids.new_user_id(self._random_bytes)

    # --- login ---

    async def log_in(self, request: pb.LogInRequest, address: str) -> pb.LogInResponse:
        """Opens a session for a new device.

        Raises:
            Refusal: CREDENTIALS_INVALID, LOGIN_THROTTLED, BANNED, DEVICE_LIMIT, OVERLOADED.
        """
        async with self._requests.one_at_a_time(_place("", request.username), request):
            user = await self._names.find(request.username)
            session = await self._again(user, request, address, None)
            return pb.LogInResponse(
                user=protos.user(await self._users.live(session.user_id)),
                tokens=self._sessions.tokens(session, made_us=self._clock.time_us()),
            )

    async def _again(
        self,
        user: UserRecord | None,
        request: pb.LogInRequest | pb.SignUpRequest,
        address: str,
        mark: bytes | None,
    ) -> SessionRecord:
        """A login: the session that the same request opened before, or a new one."""
        await self.prove(user, request.password, address, request.username)
        assert user is not None
        check_ban(user, self._clock.time_us())
        place = _place(user.user_id, request.username)
        if mark is None:
            stored = await self._requests.find(place, request)
            mark = stored.response if stored else b""
        if mark and (session := await self._sessions.marked(user.user_id, mark)) is not None:
            return session
        fresh_hash = ""
        if self._passwords.outdated(user.password_hash):
            fresh_hash = await self._passwords.hash(request.password)

        async def decide(draft: Draft) -> SessionRecord:
            if draft.user.password_hash != user.password_hash:
                raise credentials_invalid()  # it was changed while this one was compared
            check_ban(draft.user, draft.now_us)
            if fresh_hash:
                draft.set(password_hash=fresh_hash)
            session = await self._sessions.open(draft, request.device, address)
            draft.write(*self._requests.records(place, request, self._sessions.mark(session)))
            return session

        return await self._users.change(user.user_id, decide)

    # --- password ---

    async def change_password(
        self, caller: Caller, request: pb.ChangePasswordRequest, remember: Remember
    ) -> pb.ChangePasswordResponse:
        """Gives the account another password and ends the other sessions.

        Raises:
            Refusal: CREDENTIALS_INVALID, LOGIN_THROTTLED, OVERLOADED.
        """
        user = await self._users.live(caller.user_id)
        await self.prove(user, request.current_password, caller.address, user.username)
        password_hash = await self._passwords.hash(request.new_password)

        async def decide(draft: Draft) -> tuple[pb.ChangePasswordResponse, list[SessionRecord]]:
            if draft.user.password_hash != user.password_hash:
                raise credentials_invalid()
            draft.set(password_hash=password_hash)
            ended = []
            if not request.keep_other_devices:
                ended = await self._sessions.end_others(
                    draft, caller.device_id, EndReason.DEVICE_REVOKE_REASON_PASSWORD_CHANGED
                )
            changed = events_pb2.PasswordChanged(device_id=caller.device_id)
            draft.event(events_pb2.AccountEvent(password_changed=changed))
            live = sum(session.live(draft.now_us) for session in ended)
            answer = pb.ChangePasswordResponse(revoked_device_count=live)
            draft.write(*remember(answer))
            return answer, ended

        answer, ended = await self._users.change_live(caller.user_id, decide)
        self._sessions.tell_ended(ended)
        return answer


def _place(user_id: str, username: str) -> Place:
    # Logins count by the username: nobody else has said yet who they are.
    return Place(user_id, f"name:{username}")


def credentials_invalid() -> Refusal:
    """CREDENTIALS_INVALID; whether it is the name or the password is not said."""
    return Refusal("CREDENTIALS_INVALID", "wrong username or password")
