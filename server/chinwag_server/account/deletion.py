"""Deleting an account: at once nobody can log in, the rest follows durably."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.common.v1 import close_pb2
from chinwag_server.account.chores import Chores
from chinwag_server.account.friends import REQUESTED
from chinwag_server.account.logins import Logins, credentials_invalid
from chinwag_server.account.names import Names
from chinwag_server.account.pairs import Pairs
from chinwag_server.account.records import ChoreRecord, EraseRows, RelationState
from chinwag_server.account.sessions import Sessions
from chinwag_server.account.users import Draft, Users
from chinwag_server.rpc.caller import Caller

FORGET = "forget"
PAIRS_AT_ONCE = 100

# Takes a user out of everything else that the deployment holds; may be repeated.
ForgetElsewhere = Callable[[str], Awaitable[None]]


class Deletion:
    """Deletes accounts.

    Attributes:
        elsewhere: What forgets the user in other rooms, before the last of them goes here.
    """

    def __init__(
        self,
        users: Users,
        names: Names,
        sessions: Sessions,
        pairs: Pairs,
        logins: Logins,
        chores: Chores,
    ) -> None:
        self.elsewhere: list[ForgetElsewhere] = []
        self._users = users
        self._store = users.store
        self._names = names
        self._sessions = sessions
        self._pairs = pairs
        self._logins = logins
        self._chores = chores
        chores.handle(FORGET, self._forget)

    async def delete(
        self, caller: Caller, request: pb.DeleteAccountRequest
    ) -> pb.DeleteAccountResponse:
        """Closes the account for good. Nothing is remembered for a repeat: there is nobody any
        more who could call.

        Raises:
            Refusal: CREDENTIALS_INVALID, LOGIN_THROTTLED.
        """
        user = await self._users.live(caller.user_id)
        if user.password_hash and not caller.api_key_id:
            await self._logins.prove(user, request.password, caller.address, user.username)

        async def decide(draft: Draft) -> ChoreRecord:
            if draft.user.password_hash != user.password_hash:
                raise credentials_invalid()
            await self._sessions.forget_all(draft)
            chore = draft.chore(FORGET, draft.user.username)
            draft.set(
                deleted=True,
                username="",
                password_hash="",
                profile=b"",
                privacy=b"",
                ban=None,
                status=b"",
                status_time_us=0,
                create_time_us=0,
                update_time_us=0,
            )
            return chore

        chore = await self._users.change_live(caller.user_id, decide)
        self._sessions.tell_all(caller.user_id, close_pb2.CLOSE_REASON_ACCOUNT_DELETED)
        self._chores.start(chore)
        return pb.DeleteAccountResponse()

    async def _forget(self, chore: ChoreRecord) -> None:
        user_id = chore.user_id
        if chore.target:
            await self._names.release(chore.target, user_id)
        states = (RelationState.FRIEND, *REQUESTED)
        while pairs := await self._store.relations(user_id, states, None, PAIRS_AT_ONCE):
            for pair in pairs:
                await self._pairs.end(user_id, pair.other_id)
        # An earlier try may have ended a pair and not copied that: the other side would never hear
        # of it once the truth is erased.
        after = None
        ended = (RelationState.NONE,)
        while pairs := await self._store.relations(user_id, ended, after, PAIRS_AT_ONCE):
            for pair in pairs:
                await self._pairs.settle(user_id, pair.other_id)
            after = (pairs[-1].time_us, pairs[-1].other_id)
        for forget in self.elsewhere:
            await forget(user_id)

        async def erase(draft: Draft) -> None:
            draft.write(EraseRows(user_id))

        await self._users.change(user_id, erase)
