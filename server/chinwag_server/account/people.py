"""Profiles and privacy settings: reading, finding, changing.

Answers name users by their ids alone; the servicer fills them in (`events.fill`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import events_pb2, user_pb2
from chinwag_server.account import protos
from chinwag_server.account.audiences import Audiences
from chinwag_server.account.chores import Chores
from chinwag_server.account.names import Names
from chinwag_server.account.records import ChoreRecord, RelationState, UserRecord
from chinwag_server.account.requests import Remember
from chinwag_server.account.sessions import Sessions
from chinwag_server.account.users import Draft, Users, no_such_user
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.validation import invalid

Result = TypeVar("Result")

PROFILE_CHANGED = "profile"
FREE_NAME = "free name"
FRIENDS_AT_ONCE = 50


class People:
    """Users as others and they themselves see them."""

    def __init__(
        self,
        users: Users,
        names: Names,
        sessions: Sessions,
        audiences: Audiences,
        chores: Chores,
    ) -> None:
        self._users = users
        self._store = users.store
        self._names = names
        self._sessions = sessions
        self._audiences = audiences
        self._chores = chores
        chores.handle(PROFILE_CHANGED, self._tell_friends)
        chores.handle(FREE_NAME, self._free_name)

    # --- reading ---

    async def me(self, caller: Caller) -> pb.GetMeResponse:
        """The caller's own account."""
        user = await self._users.live(caller.user_id)
        return pb.GetMeResponse(
            user=protos.user(user),
            device=await self._sessions.device(caller) if caller.device_id else None,
            has_password=bool(user.password_hash),
            privacy=protos.privacy(user),
        )

    async def get(self, caller: Caller, user_id: str) -> pb.GetUserResponse:
        """A user, and what they are to the caller.

        Raises:
            Refusal: USER_NOT_FOUND.
        """
        user = await self._store.user(user_id)
        if user is None:
            raise no_such_user()
        blocked = bool(caller.user_id) and await self._store.block(caller.user_id, user_id)
        return pb.GetUserResponse(
            user=protos.user(user),
            relation=await self._relation(caller, user_id),
            blocked=bool(blocked),
        )

    async def get_many(self, user_ids: Collection[str]) -> pb.GetUsersResponse:
        """Those of the users that there are."""
        found = await self._store.users(user_ids, may_be_old=True)
        return pb.GetUsersResponse(
            users=[protos.user(found[user_id]) for user_id in user_ids if user_id in found]
        )

    async def find(self, caller: Caller, username: str) -> pb.FindUserResponse:
        """The user who has a name, if they let the caller find them.

        Raises:
            Refusal: USER_NOT_FOUND.
        """
        user = await self._names.find(username)
        if user is None or not await self._audiences.admits(user, "find", caller.user_id):
            raise no_such_user()
        return pb.FindUserResponse(
            user=protos.user(user), relation=await self._relation(caller, user.user_id)
        )

    async def _relation(self, caller: Caller, user_id: str) -> user_pb2.Relation.ValueType:
        if not caller.user_id:
            return user_pb2.RELATION_NONE
        if caller.user_id == user_id:
            return user_pb2.RELATION_SELF
        return protos.relation((await self._store.relation(caller.user_id, user_id)).state)

    # --- the profile ---

    async def update(
        self, caller: Caller, request: pb.UpdateProfileRequest, remember: Remember
    ) -> pb.UpdateProfileResponse:
        """Changes the caller's profile.

        Raises:
            Refusal: USERNAME_TAKEN, INVALID_FIELD.
        """
        paths = set(request.update_mask.paths)
        name = request.username if "username" in paths else ""
        if "username" in paths and not name:
            raise invalid([("username", "cannot be made empty")])

        def edit(profile: user_pb2.User) -> None:
            for path in paths - {"username"}:
                if path == "metadata":
                    profile.metadata.clear()
                    profile.metadata.update(request.metadata)
                else:
                    setattr(profile, path, getattr(request, path))

        async def decide(draft: Draft) -> tuple[pb.UpdateProfileResponse, list[ChoreRecord]]:
            chores = self.edit_profile(draft, edit, name or draft.user.username)
            answer = pb.UpdateProfileResponse(user=user_pb2.User(id=caller.user_id))
            draft.write(*remember(answer))
            return answer, chores

        answer, chores = await self.with_name(
            caller.user_id, name, lambda: self._users.change_live(caller.user_id, decide)
        )
        for chore in chores:
            self._chores.start(chore)
        return answer

    async def with_name(
        self, user_id: str, name: str, change: Callable[[], Awaitable[Result]]
    ) -> Result:
        """Makes a change that gives a user a name, which is reserved before and confirmed after.

        Args:
            name: "": the change gives none.

        Raises:
            Refusal: USERNAME_TAKEN, and what the change raises.
        """
        if not name:
            return await change()
        await self._names.reserve(name, user_id)
        try:
            result = await change()
        except Exception:
            await self._names.release(name, user_id)
            raise
        await self._names.confirm(name, user_id)
        return result

    def edit_profile(
        self, draft: Draft, edit: Callable[[user_pb2.User], None], username: str
    ) -> list[ChoreRecord]:
        """Changes a profile in a draft; the answer is what has to follow, to be started after the
        commit. A change that changes nothing leaves the draft as it is."""
        profile = user_pb2.User.FromString(draft.user.profile)
        edit(profile)
        serialised = profile.SerializeToString(deterministic=True)
        old_name = draft.user.username
        if not draft.is_new and (serialised, username) == (draft.user.profile, old_name):
            return []
        draft.set(
            profile=serialised,
            username=username,
            update_time_us=max(draft.now_us, draft.user.update_time_us + 1),
        )
        if draft.is_new:
            draft.set(create_time_us=draft.now_us, update_time_us=draft.now_us)
            return []
        draft.event(profile_changed(draft.user))
        chores = [draft.chore(PROFILE_CHANGED)]
        if old_name and old_name != username:
            chores.append(draft.chore(FREE_NAME, old_name))
        return chores

    async def _free_name(self, chore: ChoreRecord) -> None:
        await self._names.release(chore.target, chore.user_id)

    async def _tell_friends(self, chore: ChoreRecord) -> None:
        user = await self._store.user(chore.user_id)
        after = None
        while user is not None and not user.deleted:
            friends = await self._store.relations(
                user.user_id, [RelationState.FRIEND], after, FRIENDS_AT_ONCE
            )
            if not friends:
                return
            for friend in friends:
                await self._tell(friend.other_id, user)
            after = (friends[-1].time_us, friends[-1].other_id)

    async def _tell(self, friend_id: str, user: UserRecord) -> None:
        async def decide(draft: Draft) -> None:
            if not draft.is_new and not draft.user.deleted:
                draft.event(profile_changed(user))

        await self._users.change(friend_id, decide)

    # --- privacy ---

    async def privacy(self, caller: Caller) -> pb.GetPrivacySettingsResponse:
        """The caller's settings, whole."""
        user = await self._users.live(caller.user_id)
        return pb.GetPrivacySettingsResponse(settings=protos.privacy(user))

    async def update_privacy(
        self, caller: Caller, request: pb.UpdatePrivacySettingsRequest, remember: Remember
    ) -> pb.UpdatePrivacySettingsResponse:
        """Changes those of the caller's settings that are given."""

        async def decide(draft: Draft) -> pb.UpdatePrivacySettingsResponse:
            self.edit_privacy(draft, request.settings)
            answer = pb.UpdatePrivacySettingsResponse(settings=protos.privacy(draft.user))
            draft.write(*remember(answer))
            return answer

        return await self._users.change_live(caller.user_id, decide)

    def edit_privacy(self, draft: Draft, given: user_pb2.PrivacySettings) -> None:
        """Changes privacy settings in a draft."""
        before = protos.privacy(draft.user)
        settings = user_pb2.PrivacySettings()
        settings.CopyFrom(before)
        settings.MergeFrom(given)  # 0 is AUDIENCE_UNSPECIFIED, and is not merged
        if settings != before:
            draft.set(privacy=settings.SerializeToString())
            if not draft.is_new:
                changed = events_pb2.PrivacyChanged(settings=settings)
                draft.event(events_pb2.AccountEvent(privacy_changed=changed))


def profile_changed(user: UserRecord) -> events_pb2.AccountEvent:
    """The event; the profile in it is filled in when it is read."""
    return events_pb2.AccountEvent(
        profile_changed=events_pb2.ProfileChanged(user=user_pb2.User(id=user.user_id))
    )
