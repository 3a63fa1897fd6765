"""The account's own calls: profile, people, devices, privacy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from grpc import aio

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import account_service_pb2_grpc, user_pb2
from chinwag.calls import Calls, set_fields
from chinwag.errors import ChinwagError

_PAGE = 200
_BATCH = 1000


class Account:
    """`AccountService` for the user of a session. Every method may raise `ChinwagError`.

    Args:
        channel: Where to call.
        calls: How to call.
    """

    def __init__(self, channel: aio.Channel, calls: Calls) -> None:
        self._stub = account_service_pb2_grpc.AccountServiceStub(channel)
        self._calls = calls

    # --- oneself ---

    async def me(self) -> pb.GetMeResponse:
        """The own profile, device and privacy settings."""
        return await self._calls(self._stub.GetMe, pb.GetMeRequest())

    async def update_profile(
        self,
        *,
        username: str | None = None,
        display_name: str | None = None,
        bio: str | None = None,
        avatar_url: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> user_pb2.User:
        """Changes what is given.

        Raises:
            AlreadyExists: USERNAME_TAKEN.
        """
        request = pb.UpdateProfileRequest()
        set_fields(
            request,
            request.update_mask,
            username=username,
            display_name=display_name,
            bio=bio,
            avatar_url=avatar_url,
            metadata=dict(metadata) if metadata is not None else None,
        )
        return (await self._calls(self._stub.UpdateProfile, request)).user

    async def change_password(
        self, current: str, new: str, *, keep_other_devices: bool = False
    ) -> int:
        """Changes the password and logs the other devices out.

        Returns:
            How many were logged out.

        Raises:
            Unauthenticated: CREDENTIALS_INVALID: `current` is wrong.
        """
        request = pb.ChangePasswordRequest(
            current_password=current, new_password=new, keep_other_devices=keep_other_devices
        )
        return (await self._calls(self._stub.ChangePassword, request)).revoked_device_count

    async def log_out(self) -> None:
        """Ends this session; its tokens are void. A session that has ended is no error."""
        try:
            await self._calls(self._stub.LogOut, pb.LogOutRequest())
        except ChinwagError as error:
            if error.reason != "SESSION_REVOKED":
                raise

    async def delete(self, password: str) -> None:
        """Deletes the account for good."""
        await self._calls(self._stub.DeleteAccount, pb.DeleteAccountRequest(password=password))

    async def privacy(self) -> user_pb2.PrivacySettings:
        """Who may do what with the user."""
        request = pb.GetPrivacySettingsRequest()
        return (await self._calls(self._stub.GetPrivacySettings, request)).settings

    async def update_privacy(self, settings: user_pb2.PrivacySettings) -> user_pb2.PrivacySettings:
        """Changes those settings that are set."""
        request = pb.UpdatePrivacySettingsRequest(settings=settings)
        return (await self._calls(self._stub.UpdatePrivacySettings, request)).settings

    # --- other users ---

    async def user(self, user_id: str) -> pb.GetUserResponse:
        """A profile and what that user is to the caller."""
        return await self._calls(self._stub.GetUser, pb.GetUserRequest(user_id=user_id))

    async def users(self, user_ids: Sequence[str]) -> list[user_pb2.User]:
        """Many profiles; ids that do not exist are left out."""
        found: list[user_pb2.User] = []
        unique = list(dict.fromkeys(user_ids))
        for start in range(0, len(unique), _BATCH):
            request = pb.GetUsersRequest(user_ids=unique[start : start + _BATCH])
            found.extend((await self._calls(self._stub.GetUsers, request)).users)
        return found

    async def find(self, username: str) -> user_pb2.User:
        """The user with exactly this username.

        Raises:
            NotFound: USER_NOT_FOUND, or one who does not want to be found.
        """
        return (await self._calls(self._stub.FindUser, pb.FindUserRequest(username=username))).user

    # --- devices ---

    async def devices(self) -> AsyncIterator[user_pb2.Device]:
        """The logins that have not ended, newest first."""
        request = pb.ListDevicesRequest(page_size=_PAGE)
        while True:
            page = await self._calls(self._stub.ListDevices, request)
            for device in page.devices:
                yield device
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def revoke_device(self, device_id: str) -> None:
        """Ends one of the user's logins."""
        await self._calls(self._stub.RevokeDevice, pb.RevokeDeviceRequest(device_id=device_id))

    # --- friends ---

    async def request_friend(self, user_id: str, message: str = "") -> user_pb2.Relation.ValueType:
        """Asks for friendship.

        Returns:
            What the two are now: asked, or friends if the other had asked before.
        """
        request = pb.RequestFriendRequest(user_id=user_id, message=message)
        return (await self._calls(self._stub.RequestFriend, request)).relation

    async def accept_friend(self, user_id: str) -> user_pb2.Friend:
        """Accepts a request."""
        request = pb.AcceptFriendRequest(user_id=user_id)
        return (await self._calls(self._stub.AcceptFriend, request)).friend

    async def decline_friend(self, user_id: str) -> None:
        """Declines a request."""
        await self._calls(self._stub.DeclineFriend, pb.DeclineFriendRequest(user_id=user_id))

    async def remove_friend(self, user_id: str) -> None:
        """Ends a friendship, or takes an own request back."""
        await self._calls(self._stub.RemoveFriend, pb.RemoveFriendRequest(user_id=user_id))

    async def friends(self) -> AsyncIterator[user_pb2.Friend]:
        """The user's friends, newest first."""
        request = pb.ListFriendsRequest(page_size=_PAGE)
        while True:
            page = await self._calls(self._stub.ListFriends, request)
            for friend in page.friends:
                yield friend
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def friend_requests(
        self,
        direction: user_pb2.FriendRequestDirection.ValueType = (
            user_pb2.FRIEND_REQUEST_DIRECTION_UNSPECIFIED
        ),
    ) -> AsyncIterator[user_pb2.FriendRequest]:
        """Open requests from and to the user, newest first."""
        request = pb.ListFriendRequestsRequest(page_size=_PAGE, direction=direction)
        while True:
            page = await self._calls(self._stub.ListFriendRequests, request)
            for asked in page.requests:
                yield asked
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    # --- blocks ---

    async def block(self, user_id: str) -> user_pb2.Block:
        """Blocks a user."""
        request = pb.BlockUserRequest(user_id=user_id)
        return (await self._calls(self._stub.BlockUser, request)).block

    async def unblock(self, user_id: str) -> None:
        """Takes a block back."""
        await self._calls(self._stub.UnblockUser, pb.UnblockUserRequest(user_id=user_id))

    async def blocks(self) -> AsyncIterator[user_pb2.Block]:
        """Whom the user has blocked, newest first."""
        request = pb.ListBlocksRequest(page_size=_PAGE)
        while True:
            page = await self._calls(self._stub.ListBlocks, request)
            for block in page.blocks:
                yield block
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
