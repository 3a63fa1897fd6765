"""Friends and requests for friendship."""

from __future__ import annotations

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import user_pb2
from chinwag_server.account import paging, protos
from chinwag_server.account.audiences import Audiences
from chinwag_server.account.pairs import Pair, Pairs
from chinwag_server.account.records import RelationRecord, RelationState
from chinwag_server.account.requests import Remember
from chinwag_server.account.store import AccountStore
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal

REQUESTED = (RelationState.REQUESTED_BY_ME, RelationState.REQUESTED_BY_THEM)
_DIRECTIONS = {
    user_pb2.FRIEND_REQUEST_DIRECTION_UNSPECIFIED: REQUESTED,
    user_pb2.FRIEND_REQUEST_DIRECTION_INCOMING: (RelationState.REQUESTED_BY_THEM,),
    user_pb2.FRIEND_REQUEST_DIRECTION_OUTGOING: (RelationState.REQUESTED_BY_ME,),
}


class Friends:
    """Who is whose friend.

    Args:
        limit: Friends of a user, and open requests.
    """

    def __init__(
        self, store: AccountStore, pairs: Pairs, audiences: Audiences, *, limit: int
    ) -> None:
        self._store = store
        self._pairs = pairs
        self._audiences = audiences
        self._limit = limit

    # --- changing ---

    async def request(
        self, caller: Caller, request: pb.RequestFriendRequest, remember: Remember
    ) -> pb.RequestFriendResponse:
        """Asks a user for friendship; two who have asked each other are friends.

        Raises:
            Refusal: RECIPIENT_UNAVAILABLE, ALREADY_FRIENDS, SELF_REFERENCE, RELATION_LIMIT.
        """
        user_id, other_id = caller.user_id, request.user_id
        refuse_self(user_id, other_id)

        async def decide(pair: Pair) -> pb.RequestFriendResponse:
            state = pair.row.state
            if state is RelationState.FRIEND:
                raise Refusal("ALREADY_FRIENDS", "the two are friends already")
            if state is RelationState.NONE:
                other = await self._store.user(other_id)
                if other is None or not await self._audiences.admits(
                    other, "request_friend", user_id
                ):
                    raise unavailable()
                await self._check_room(user_id, other_id, REQUESTED)
                state = pair.set(RelationState.REQUESTED_BY_ME, request.message).state
            elif state is RelationState.REQUESTED_BY_THEM:
                state = (await self._befriend(pair, user_id, other_id)).state
            answer = pb.RequestFriendResponse(relation=protos.relation(state))
            pair.draft.write(*remember(answer))
            return answer

        return await self._pairs.change(user_id, other_id, decide)

    async def accept(
        self, caller: Caller, request: pb.AcceptFriendRequest, remember: Remember
    ) -> pb.AcceptFriendResponse:
        """Accepts a request.

        Raises:
            Refusal: FRIEND_NOT_FOUND, RECIPIENT_UNAVAILABLE, RELATION_LIMIT.
        """
        user_id, other_id = caller.user_id, request.user_id

        async def decide(pair: Pair) -> pb.AcceptFriendResponse:
            row = pair.row
            if row.state is RelationState.REQUESTED_BY_THEM:
                row = await self._befriend(pair, user_id, other_id)
            elif row.state is not RelationState.FRIEND:
                raise friend_not_found()
            answer = pb.AcceptFriendResponse(friend=protos.friend(row, user_pb2.User(id=other_id)))
            pair.draft.write(*remember(answer))
            return answer

        return await self._pairs.change(user_id, other_id, decide)

    async def decline(
        self, caller: Caller, request: pb.DeclineFriendRequest, remember: Remember
    ) -> pb.DeclineFriendResponse:
        """Declines a request.

        Raises:
            Refusal: FRIEND_NOT_FOUND.
        """

        async def decide(pair: Pair) -> pb.DeclineFriendResponse:
            if pair.row.state is not RelationState.REQUESTED_BY_THEM:
                raise friend_not_found()
            pair.set(RelationState.NONE)
            answer = pb.DeclineFriendResponse()
            pair.draft.write(*remember(answer))
            return answer

        return await self._pairs.change(caller.user_id, request.user_id, decide)

    async def remove(
        self, caller: Caller, request: pb.RemoveFriendRequest, remember: Remember
    ) -> pb.RemoveFriendResponse:
        """Ends a friendship, or takes the caller's own request back.

        Raises:
            Refusal: FRIEND_NOT_FOUND.
        """

        async def decide(pair: Pair) -> pb.RemoveFriendResponse:
            if pair.row.state not in (RelationState.FRIEND, RelationState.REQUESTED_BY_ME):
                raise friend_not_found()
            pair.set(RelationState.NONE)
            answer = pb.RemoveFriendResponse()
            pair.draft.write(*remember(answer))
            return answer

        return await self._pairs.change(caller.user_id, request.user_id, decide)

    async def _befriend(self, pair: Pair, user_id: str, other_id: str) -> RelationRecord:
        other = await self._store.user(other_id)
        if other is None or other.deleted or await self._audiences.blocked(user_id, other_id):
            raise unavailable()
        await self._check_room(user_id, other_id, (RelationState.FRIEND,))
        return pair.set(RelationState.FRIEND)

    async def _check_room(
        self, user_id: str, other_id: str, states: tuple[RelationState, ...]
    ) -> None:
        for owner in (user_id, other_id):
            if await self._store.count_relations(owner, states) >= self._limit:
                whose = "you have" if owner == user_id else "the other user has"
                raise relation_limit(f"{whose} {self._limit} of them, as many as one may have")

    # --- reading ---

    async def list(self, caller: Caller, request: pb.ListFriendsRequest) -> pb.ListFriendsResponse:
        """A page of the caller's friends.

        Raises:
            Refusal: INVALID_PAGE_TOKEN.
        """
        rows = await self._store.relations(
            caller.user_id,
            (RelationState.FRIEND,),
            paging.read_token("friends", request.page_token),
            paging.limit(request.page_size),
            may_be_old=True,
        )
        page, token = paging.cut("friends", rows, request.page_size, _position)
        return pb.ListFriendsResponse(
            friends=[protos.friend(row, user_pb2.User(id=row.other_id)) for row in page],
            next_page_token=token,
        )

    async def list_requests(
        self, caller: Caller, request: pb.ListFriendRequestsRequest
    ) -> pb.ListFriendRequestsResponse:
        """A page of the open requests from and to the caller.

        Raises:
            Refusal: INVALID_PAGE_TOKEN.
        """
        method = f"requests {request.direction}"
        rows = await self._store.relations(
            caller.user_id,
            _DIRECTIONS[request.direction],
            paging.read_token(method, request.page_token),
            paging.limit(request.page_size),
            may_be_old=True,
        )
        page, token = paging.cut(method, rows, request.page_size, _position)
        return pb.ListFriendRequestsResponse(
            requests=[protos.friend_request(row, user_pb2.User(id=row.other_id)) for row in page],
            next_page_token=token,
        )


def _position(row: RelationRecord) -> tuple[int, str]:
    return row.time_us, row.other_id


def refuse_self(user_id: str, other_id: str) -> None:
    """Refuses a user who names themselves.

    Raises:
        Refusal: SELF_REFERENCE.
    """
    if user_id == other_id:
        raise Refusal(
            "SELF_REFERENCE", "user_id is the caller's own", fields=[("user_id", "is the caller")]
        )


def unavailable() -> Refusal:
    """RECIPIENT_UNAVAILABLE; why is not said."""
    return Refusal("RECIPIENT_UNAVAILABLE", "the user cannot be asked for friendship")


def friend_not_found() -> Refusal:
    """FRIEND_NOT_FOUND."""
    return Refusal("FRIEND_NOT_FOUND", "there is no such request or friendship with that user")


def relation_limit(text: str) -> Refusal:
    """RELATION_LIMIT."""
    return Refusal("RELATION_LIMIT", text)
