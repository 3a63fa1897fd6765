"""What users say of themselves for presence: part of their row."""

from __future__ import annotations

from collections.abc import Callable, Collection

from chinwag.account.v1 import user_pb2
from chinwag.presence.v1 import presence_pb2, presence_service_pb2
from chinwag_server.account.audiences import Audiences
from chinwag_server.account.directory import AccountDirectory, Sight, storage_unavailable
from chinwag_server.account.records import UserRecord
from chinwag_server.account.requests import Requests, place_of
from chinwag_server.account.store import StoreUnavailable
from chinwag_server.account.users import Draft, Users
from chinwag_server.presence.ports import Profile
from chinwag_server.presence.states import AUTO, Status
from chinwag_server.rpc.caller import Caller

_SHOWN = (user_pb2.AUDIENCE_CONTACTS, user_pb2.AUDIENCE_EVERYONE)

# (status as it holds now, the time in microseconds) -> what it becomes
Change = Callable[[Status, int], Status]
# What is answered, from the new status.
Answer = Callable[[Status], presence_service_pb2.SetStatusResponse]


class Statuses:
    """`presence.ports.Accounts` over the account store."""

    def __init__(
        self,
        users: Users,
        requests: Requests,
        directory: AccountDirectory,
        audiences: Audiences,
    ) -> None:
        self._users = users
        self._requests = requests
        self._directory = directory
        self._audiences = audiences

    async def sight(self, viewer_id: str, owner_id: str) -> Sight | None:
        return await self._directory.sight(viewer_id, owner_id)

    async def profiles(self, user_ids: Collection[str]) -> dict[str, Profile]:
        """As the port says. They may be seconds old, but for what this node has changed or heard.

        Raises:
            Refusal: STORAGE_UNAVAILABLE.
        """
        try:
            records = await self._users.store.users(user_ids, may_be_old=True)
        except StoreUnavailable as error:
            raise storage_unavailable(error) from error
        return {
            user_id: Profile(status_of(record), self._audiences.of(record, "presence") in _SHOWN)
            for user_id, record in records.items()
            if not record.deleted
        }

    async def change(
        self,
        caller: Caller,
        request: presence_service_pb2.SetStatusRequest,
        change: Change,
        answer: Answer,
    ) -> presence_service_pb2.SetStatusResponse:
        """Changes the caller's status, once for a request_id.

        Raises:
            Refusal: ID_REUSED, STORAGE_UNAVAILABLE, and what `change` raises.
        """

        async def run(remember: object) -> presence_service_pb2.SetStatusResponse:
            async def decide(draft: Draft) -> presence_service_pb2.SetStatusResponse:
                status = change(status_of(draft.user).at(draft.now_us), draft.now_us)
                draft.set(
                    status=status.message().SerializeToString(deterministic=True),
                    status_time_us=status.mode_time_us,
                )
                found = answer(status)
                draft.write(*remember(found))  # type: ignore[operator]
                return found

            return await self._users.change_live(caller.user_id, decide)

        try:
            return await self._requests.once(
                place_of(caller.user_id, caller),
                request,
                presence_service_pb2.SetStatusResponse,
                run,
            )
        except StoreUnavailable as error:
            raise storage_unavailable(error) from error


def status_of(record: UserRecord) -> Status:
    """The status in a user's row, also what of it has ended."""
    kept = presence_pb2.UserStatus.FromString(record.status)
    return Status(
        kept.mode or AUTO,
        record.status_time_us,
        kept.mode_until.ToMicroseconds() if kept.HasField("mode_until") else 0,
        kept.text,
        kept.text_until.ToMicroseconds() if kept.HasField("text_until") else 0,
    )
