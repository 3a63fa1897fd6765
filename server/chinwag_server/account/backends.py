"""What a team's backend does with users: makes them, gives them tokens, bans them."""

from __future__ import annotations

import asyncio
import dataclasses

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import user_pb2
from chinwag.common.v1 import close_pb2
from chinwag_server.account import ids, paging, protos
from chinwag_server.account.authenticator import check_ban
from chinwag_server.account.chores import Chores
from chinwag_server.account.people import People
from chinwag_server.account.records import BanRecord, ChoreRecord, SessionRecord
from chinwag_server.account.requests import Place, Remember, Requests
from chinwag_server.account.sessions import SALT_BYTES, Sessions, device_not_found
from chinwag_server.account.users import Draft, Users
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal
from chinwag_server.rpc.validation import invalid

_PLAIN_FIELDS = ("display_name", "bio", "avatar_url", "service_account")


class Backends:
    """Calls of API keys about users."""

    def __init__(
        self,
        users: Users,
        people: People,
        sessions: Sessions,
        requests: Requests,
        chores: Chores,
        random_bytes: ids.RandomBytes,
    ) -> None:
        self._users = users
        self._store = users.store
        self._clock = users.clock
        self._people = people
        self._sessions = sessions
        self._requests = requests
        self._chores = chores
        self._random_bytes = random_bytes

    # --- users ---

    async def upsert(
        self, request: pb.UpsertUsersRequest, remember: Remember
    ) -> pb.UpsertUsersResponse:
        """Makes or changes users, each by itself. What is remembered of it is remembered last: a
        repeat after a crash changes nothing more."""
        seen: set[str] = set()
        work = []
        for index, given in enumerate(request.users):
            work.append(self._outcome(index, given, repeated=given.id in seen))
            seen.add(given.id)
        answer = pb.UpsertUsersResponse(results=await asyncio.gather(*work))
        for record in remember(answer):
            await self._store.put_request(record)
        return answer

    async def _outcome(
        self, index: int, given: pb.UserUpsert, *, repeated: bool
    ) -> pb.UpsertUserResult:
        try:
            if repeated:
                raise invalid([(f"users[{index}].id", "stands in the request already")])
            created = await self._upsert(given)
        except Refusal as refusal:
            return pb.UpsertUserResult(error=refusal.status())
        return pb.UpsertUserResult(user=user_pb2.User(id=given.id), created=created)

    async def _upsert(self, given: pb.UserUpsert) -> bool:
        def edit(profile: user_pb2.User) -> None:
            for name in _PLAIN_FIELDS:
                if given.HasField(name):  # type: ignore[arg-type]
                    setattr(profile, name, getattr(given, name))
            if given.HasField("metadata"):
                profile.metadata.clear()
                profile.metadata.update(given.metadata.pairs)

        async def decide(draft: Draft) -> tuple[bool, list[ChoreRecord]]:
            if draft.user.deleted:
                raise Refusal("USER_EXISTS", "the account with this id was deleted")
            is_new = draft.is_new
            username = given.username if given.HasField("username") else draft.user.username
            chores = self._people.edit_profile(draft, edit, username)
            if given.HasField("privacy"):
                self._people.edit_privacy(draft, given.privacy)
            return is_new, chores

        created, chores = await self._people.with_name(
            given.id, given.username, lambda: self._users.change(given.id, decide)
        )
        for chore in chores:
            self._chores.start(chore)
        return created

    # --- tokens ---

    async def issue(
        self, place: Place, request: pb.IssueUserTokenRequest
    ) -> pb.IssueUserTokenResponse:
        """Opens a session for a user, or gives one of the user's sessions a new access token.

        Raises:
            Refusal: USER_NOT_FOUND, DEVICE_NOT_FOUND, BANNED, DEVICE_LIMIT, ID_REUSED.
        """
        life_s = request.access_lifetime.seconds or None
        async with self._requests.one_at_a_time(place, request):
            session = None
            if (stored := await self._requests.find(place, request)) is not None:
                session = await self._sessions.marked(request.user_id, stored.response)
            if session is not None:
                check_ban(await self._users.live(request.user_id), self._clock.time_us())
            else:
                session = await self._issue(place, request)
            tokens = self._sessions.tokens(session, made_us=self._clock.time_us(), life_s=life_s)
        if not request.with_refresh_token:
            # A device that has a refresh token keeps it: it is not given again.
            tokens.ClearField("refresh_token")
            tokens.ClearField("refresh_expire_time")
        return pb.IssueUserTokenResponse(tokens=tokens)

    async def _issue(self, place: Place, request: pb.IssueUserTokenRequest) -> SessionRecord:
        async def decide(draft: Draft) -> SessionRecord:
            check_ban(draft.user, draft.now_us)
            if not request.device_id:
                session = await self._sessions.open(
                    draft, request.device, "", refreshable=request.with_refresh_token
                )
            else:
                found = await self._store.session(request.user_id, request.device_id)
                if found is None or not found.live(draft.now_us):
                    raise device_not_found()
                session = self._sessions.prolong(draft, found)
                if request.with_refresh_token:
                    session = dataclasses.replace(
                        session,
                        salt=self._random_bytes(SALT_BYTES),
                        refresh_count=0,
                        refreshable=True,
                        token_time_us=draft.now_us,
                    )
                draft.write(session)
            draft.write(*self._requests.records(place, request, self._sessions.mark(session)))
            return session

        return await self._users.change_live(request.user_id, decide)

    # --- bans ---

    async def ban(
        self, caller: Caller, request: pb.BanUserRequest, remember: Remember
    ) -> pb.BanUserResponse:
        """Keeps a user out.

        Raises:
            Refusal: USER_NOT_FOUND, INVALID_FIELD.
        """
        expire_us = protos.time_us(request.expire_time) if request.HasField("expire_time") else 0

        async def decide(draft: Draft) -> pb.BanUserResponse:
            if request.HasField("expire_time") and expire_us <= draft.now_us:
                raise invalid([("expire_time", "lies in the past")])
            ban = BanRecord(draft.now_us, request.reason, expire_us, caller.api_key_id)
            draft.set(ban=ban)
            answer = pb.BanUserResponse(ban=protos.ban(request.user_id, ban))
            draft.write(*remember(answer))
            return answer

        answer = await self._users.change_live(request.user_id, decide)
        self._sessions.tell_all(request.user_id, close_pb2.CLOSE_REASON_BANNED)
        return answer

    async def unban(self, request: pb.UnbanUserRequest, remember: Remember) -> pb.UnbanUserResponse:
        """Ends a ban.

        Raises:
            Refusal: USER_NOT_FOUND.
        """

        async def decide(draft: Draft) -> pb.UnbanUserResponse:
            if draft.user.ban is not None:
                draft.set(ban=None)
            answer = pb.UnbanUserResponse()
            draft.write(*remember(answer))
            return answer

        return await self._users.change_live(request.user_id, decide)

    async def list_bans(self, request: pb.ListBansRequest) -> pb.ListBansResponse:
        """A page of the bans that hold.

        Raises:
            Refusal: INVALID_PAGE_TOKEN.
        """
        users = await self._store.bans(
            self._clock.time_us(),
            paging.read_token("bans", request.page_token),
            paging.limit(request.page_size),
        )
        page, token = paging.cut(
            "bans",
            users,
            request.page_size,
            lambda row: (row.ban.create_time_us if row.ban else 0, row.user_id),
        )
        return pb.ListBansResponse(
            bans=[protos.ban(user.user_id, user.ban) for user in page if user.ban],
            next_page_token=token,
        )
