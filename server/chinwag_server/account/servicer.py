"""AccountService for callers: translates calls to rules and their results to answers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from google.protobuf.message import Message

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import account_service_pb2_grpc
from chinwag_server.account import events
from chinwag_server.account.activity import Activity
from chinwag_server.account.apikeys import ApiKeys
from chinwag_server.account.backends import Backends
from chinwag_server.account.blocks import Blocks
from chinwag_server.account.deletion import Deletion
from chinwag_server.account.directory import storage_unavailable
from chinwag_server.account.friends import Friends
from chinwag_server.account.logins import Logins
from chinwag_server.account.pairs import leader
from chinwag_server.account.people import People
from chinwag_server.account.refreshing import Refreshing
from chinwag_server.account.requests import Place, Remember, Requests, key_place, place_of
from chinwag_server.account.sessions import Sessions
from chinwag_server.account.signing_keys import SigningKeys
from chinwag_server.account.store import AccountStore, StoreUnavailable
from chinwag_server.account.watch_streams import WatchStreams
from chinwag_server.rpc.caller import Caller, current_caller
from chinwag_server.rpc.errors import Refusal
from chinwag_server.rpc.framed_stream import Write

Context = Any  # of the server core that runs the servicer: nothing here looks into it
Answer = TypeVar("Answer", bound=Message)
Servicer = TypeVar("Servicer", bound=type)


def _stored(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def run(*args: Any) -> Any:
        try:
            return await method(*args)
        except StoreUnavailable as error:
            raise storage_unavailable(error) from error

    return run


def over_a_store(servicer: Servicer) -> Servicer:
    """Makes every method of a servicer answer STORAGE_UNAVAILABLE where the store fails."""
    for name, method in vars(servicer).items():
        if inspect.iscoroutinefunction(method):
            setattr(servicer, name, _stored(method))
    return servicer


@over_a_store
class AccountServicer(account_service_pb2_grpc.AccountServiceServicer):
    """The methods of AccountService, each a translation and nothing else."""

    def __init__(
        self,
        *,
        store: AccountStore,
        requests: Requests,
        keys: SigningKeys,
        logins: Logins,
        sessions: Sessions,
        refreshing: Refreshing,
        people: People,
        friends: Friends,
        blocks: Blocks,
        backends: Backends,
        api_keys: ApiKeys,
        deletion: Deletion,
        activity: Activity,
        watches: WatchStreams,
    ) -> None:
        self._store = store
        self._requests = requests
        self._keys = keys
        self._logins = logins
        self._sessions = sessions
        self._refreshing = refreshing
        self._people = people
        self._friends = friends
        self._blocks = blocks
        self._backends = backends
        self._api_keys = api_keys
        self._deletion = deletion
        self._activity = activity
        self._watches = watches

    def _caller(self) -> Caller:
        caller = current_caller()
        self._activity.called(caller)
        return caller

    def _user(self) -> Caller:
        """The caller, who is or stands for a user.

        Raises:
            Refusal: USER_REQUIRED.
        """
        caller = self._caller()
        if not caller.user_id:
            raise Refusal(
                "USER_REQUIRED",
                "an API key calls this on behalf of a user: name them in the metadata "
                '"chinwag-on-behalf-of"',
            )
        return caller

    async def _once(
        self,
        place: Place,
        request: Message,
        answer: type[Answer],
        run: Callable[[Remember], Any],
    ) -> Answer:
        return await self._filled(await self._requests.once(place, request, answer, run))

    async def _filled(self, answer: Answer) -> Answer:
        # Answers name users by their ids: they are shown as they are now, also in a repeat.
        await events.fill(self._store, answer)
        return answer

    async def _listed(self, answer: Answer) -> Answer:
        await events.fill(self._store, answer, may_be_old=True)
        return answer

    # --- logging in and out ---

    async def SignUp(  # noqa: N802
        self, request: pb.SignUpRequest, context: Context
    ) -> pb.SignUpResponse:
        return await self._logins.sign_up(request, current_caller().address)

    async def LogIn(  # noqa: N802
        self, request: pb.LogInRequest, context: Context
    ) -> pb.LogInResponse:
        return await self._logins.log_in(request, current_caller().address)

    async def LogOut(  # noqa: N802
        self, request: pb.LogOutRequest, context: Context
    ) -> pb.LogOutResponse:
        caller = self._user()
        return await self._once(
            place_of(caller.user_id, caller),
            request,
            pb.LogOutResponse,
            lambda remember: self._sessions.log_out(caller, remember),
        )

    async def RefreshToken(  # noqa: N802
        self, request: pb.RefreshTokenRequest, context: Context
    ) -> pb.RefreshTokenResponse:
        return await self._refreshing.refresh(request, current_caller().address)

    async def ChangePassword(  # noqa: N802
        self, request: pb.ChangePasswordRequest, context: Context
    ) -> pb.ChangePasswordResponse:
        caller = self._user()
        return await self._once(
            place_of(caller.user_id, caller),
            request,
            pb.ChangePasswordResponse,
            lambda remember: self._logins.change_password(caller, request, remember),
        )

    async def GetJwks(  # noqa: N802
        self, request: pb.GetJwksRequest, context: Context
    ) -> pb.GetJwksResponse:
        return pb.GetJwksResponse(keys=self._keys.jwks())

    # --- people ---

    async def GetMe(  # noqa: N802
        self, request: pb.GetMeRequest, context: Context
    ) -> pb.GetMeResponse:
        return await self._people.me(self._user())

    async def UpdateProfile(  # noqa: N802
        self, request: pb.UpdateProfileRequest, context: Context
    ) -> pb.UpdateProfileResponse:
        caller = self._user()
        return await self._once(
            place_of(caller.user_id, caller),
            request,
            pb.UpdateProfileResponse,
            lambda remember: self._people.update(caller, request, remember),
        )

    async def GetUser(  # noqa: N802
        self, request: pb.GetUserRequest, context: Context
    ) -> pb.GetUserResponse:
        return await self._people.get(self._caller(), request.user_id)

    async def GetUsers(  # noqa: N802
        self, request: pb.GetUsersRequest, context: Context
    ) -> pb.GetUsersResponse:
        return await self._people.get_many(request.user_ids)

    async def FindUser(  # noqa: N802
        self, request: pb.FindUserRequest, context: Context
    ) -> pb.FindUserResponse:
        return await self._people.find(self._caller(), request.username)

    # --- devices ---

    async def ListDevices(  # noqa: N802
        self, request: pb.ListDevicesRequest, context: Context
    ) -> pb.ListDevicesResponse:
        return await self._sessions.list(self._user(), request)

    async def RevokeDevice(  # noqa: N802
        self, request: pb.RevokeDeviceRequest, context: Context
    ) -> pb.RevokeDeviceResponse:
        caller = self._user()
        return await self._once(
            place_of(caller.user_id, caller),
            request,
            pb.RevokeDeviceResponse,
            lambda remember: self._sessions.revoke(caller, request, remember),
        )

    # --- friends ---

    async def _pair_once(
        self,
        request: Any,
        answer: type[Answer],
        run: Callable[[Caller, Any, Remember], Any],
    ) -> Answer:
        caller = self._user()
        place = place_of(caller.user_id, caller, pair=leader(caller.user_id, request.user_id))
        return await self._once(
            place, request, answer, lambda remember: run(caller, request, remember)
        )

    async def RequestFriend(  # noqa: N802
        self, request: pb.RequestFriendRequest, context: Context
    ) -> pb.RequestFriendResponse:
        return await self._pair_once(request, pb.RequestFriendResponse, self._friends.request)

    async def AcceptFriend(  # noqa: N802
        self, request: pb.AcceptFriendRequest, context: Context
    ) -> pb.AcceptFriendResponse:
        return await self._pair_once(request, pb.AcceptFriendResponse, self._friends.accept)

    async def DeclineFriend(  # noqa: N802
        self, request: pb.DeclineFriendRequest, context: Context
    ) -> pb.DeclineFriendResponse:
        return await self._pair_once(request, pb.DeclineFriendResponse, self._friends.decline)

    async def RemoveFriend(  # noqa: N802
        self, request: pb.RemoveFriendRequest, context: Context
    ) -> pb.RemoveFriendResponse:
        return await self._pair_once(request, pb.RemoveFriendResponse, self._friends.remove)

    async def ListFriends(  # noqa: N802
        self, request: pb.ListFriendsRequest, context: Context
    ) -> pb.ListFriendsResponse:
        return await self._listed(await self._friends.list(self._user(), request))

    async def ListFriendRequests(  # noqa: N802
        self, request: pb.ListFriendRequestsRequest, context: Context
    ) -> pb.ListFriendRequestsResponse:
        return await self._listed(await self._friends.list_requests(self._user(), request))

    # --- blocks and privacy ---

    async def BlockUser(  # noqa: N802
        self, request: pb.BlockUserRequest, context: Context
    ) -> pb.BlockUserResponse:
        caller = self._user()
        return await self._once(
            place_of(caller.user_id, caller),
            request,
            pb.BlockUserResponse,
            lambda remember: self._blocks.block(caller, request, remember),
        )

    async def UnblockUser(  # noqa: N802
        self, request: pb.UnblockUserRequest, context: Context
    ) -> pb.UnblockUserResponse:
        caller = self._user()
        return await self._once(
            place_of(caller.user_id, caller),
            request,
            pb.UnblockUserResponse,
            lambda remember: self._blocks.unblock(caller, request, remember),
        )

    async def ListBlocks(  # noqa: N802
        self, request: pb.ListBlocksRequest, context: Context
    ) -> pb.ListBlocksResponse:
        return await self._listed(await self._blocks.list(self._user(), request))

    async def GetPrivacySettings(  # noqa: N802
        self, request: pb.GetPrivacySettingsRequest, context: Context
    ) -> pb.GetPrivacySettingsResponse:
        return await self._people.privacy(self._user())

    async def UpdatePrivacySettings(  # noqa: N802
        self, request: pb.UpdatePrivacySettingsRequest, context: Context
    ) -> pb.UpdatePrivacySettingsResponse:
        caller = self._user()
        return await self._once(
            place_of(caller.user_id, caller),
            request,
            pb.UpdatePrivacySettingsResponse,
            lambda remember: self._people.update_privacy(caller, request, remember),
        )

    async def DeleteAccount(  # noqa: N802
        self, request: pb.DeleteAccountRequest, context: Context
    ) -> pb.DeleteAccountResponse:
        return await self._deletion.delete(self._user(), request)

    # --- events ---

    async def Watch(  # type: ignore[override]  # noqa: N802
        self, incoming: AsyncIterator[bytes], write: Write
    ) -> None:
        """Raw: its frames are parsed here, since a bad one is answered inside the stream."""
        await self._watches.serve(self._user(), incoming, write)

    # --- backends ---

    async def UpsertUsers(  # noqa: N802
        self, request: pb.UpsertUsersRequest, context: Context
    ) -> pb.UpsertUsersResponse:
        return await self._once(
            key_place(self._caller()),
            request,
            pb.UpsertUsersResponse,
            lambda remember: self._backends.upsert(request, remember),
        )

    async def IssueUserToken(  # noqa: N802
        self, request: pb.IssueUserTokenRequest, context: Context
    ) -> pb.IssueUserTokenResponse:
        place = place_of(request.user_id, self._caller())
        return await self._backends.issue(place, request)

    async def BanUser(  # noqa: N802
        self, request: pb.BanUserRequest, context: Context
    ) -> pb.BanUserResponse:
        caller = self._caller()
        return await self._once(
            place_of(request.user_id, caller),
            request,
            pb.BanUserResponse,
            lambda remember: self._backends.ban(caller, request, remember),
        )

    async def UnbanUser(  # noqa: N802
        self, request: pb.UnbanUserRequest, context: Context
    ) -> pb.UnbanUserResponse:
        return await self._once(
            place_of(request.user_id, self._caller()),
            request,
            pb.UnbanUserResponse,
            lambda remember: self._backends.unban(request, remember),
        )

    async def ListBans(  # noqa: N802
        self, request: pb.ListBansRequest, context: Context
    ) -> pb.ListBansResponse:
        return await self._backends.list_bans(request)

    async def CreateApiKey(  # noqa: N802
        self, request: pb.CreateApiKeyRequest, context: Context
    ) -> pb.CreateApiKeyResponse:
        caller = self._caller()
        return await self._requests.once(
            key_place(caller),
            request,
            pb.CreateApiKeyResponse,
            lambda remember: self._api_keys.create(caller, request, remember),
        )

    async def ListApiKeys(  # noqa: N802
        self, request: pb.ListApiKeysRequest, context: Context
    ) -> pb.ListApiKeysResponse:
        return await self._api_keys.list(request)

    async def RevokeApiKey(  # noqa: N802
        self, request: pb.RevokeApiKeyRequest, context: Context
    ) -> pb.RevokeApiKeyResponse:
        caller = self._caller()
        return await self._requests.once(
            key_place(caller),
            request,
            pb.RevokeApiKeyResponse,
            lambda remember: self._api_keys.revoke(caller, request, remember),
        )
