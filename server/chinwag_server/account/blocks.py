"""Blocks: whom a user does not want to hear from."""

from __future__ import annotations

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import events_pb2, user_pb2
from chinwag_server.account import paging, protos
from chinwag_server.account.chores import Chores
from chinwag_server.account.friends import refuse_self, relation_limit
from chinwag_server.account.pairs import Pairs
from chinwag_server.account.records import BlockRecord, ChoreRecord, DeleteBlock
from chinwag_server.account.requests import Remember
from chinwag_server.account.users import Draft, Users, no_such_user
from chinwag_server.rpc.caller import Caller

END_PAIR = "end pair"


class Blocks:
    """Whom users have blocked.

    Args:
        limit: Blocks of a user.
    """

    def __init__(self, users: Users, pairs: Pairs, chores: Chores, *, limit: int) -> None:
        self._users = users
        self._store = users.store
        self._pairs = pairs
        self._chores = chores
        self._limit = limit
        chores.handle(END_PAIR, self._end_pair)

    async def block(
        self, caller: Caller, request: pb.BlockUserRequest, remember: Remember
    ) -> pb.BlockUserResponse:
        """Blocks a user, which ends what the two are to each other.

        Raises:
            Refusal: USER_NOT_FOUND, SELF_REFERENCE, RELATION_LIMIT.
        """
        user_id, other_id = caller.user_id, request.user_id
        refuse_self(user_id, other_id)
        if await self._store.user(other_id) is None:
            raise no_such_user()

        async def decide(draft: Draft) -> tuple[pb.BlockUserResponse, ChoreRecord | None]:
            chore = None
            block = await self._store.block(user_id, other_id)
            if block is None:
                if await self._store.count_blocks(user_id) >= self._limit:
                    raise relation_limit(f"you have blocked {self._limit} users, the most there is")
                block = BlockRecord(user_id, other_id, draft.now_us)
                draft.write(block)
                blocked = events_pb2.UserBlocked(block=_shown(block))
                draft.event(events_pb2.AccountEvent(user_blocked=blocked))
                chore = draft.chore(END_PAIR, other_id)
            answer = pb.BlockUserResponse(block=_shown(block))
            draft.write(*remember(answer))
            return answer, chore

        answer, chore = await self._users.change_live(user_id, decide)
        if chore is not None:
            await self._chores.run(chore)
        return answer

    async def _end_pair(self, chore: ChoreRecord) -> None:
        await self._pairs.end(chore.user_id, chore.target)

    async def unblock(
        self, caller: Caller, request: pb.UnblockUserRequest, remember: Remember
    ) -> pb.UnblockUserResponse:
        """Takes a block back."""
        user_id, other_id = caller.user_id, request.user_id

        async def decide(draft: Draft) -> pb.UnblockUserResponse:
            if await self._store.block(user_id, other_id) is not None:
                draft.write(DeleteBlock(user_id, other_id))
                unblocked = events_pb2.UserUnblocked(user_id=other_id)
                draft.event(events_pb2.AccountEvent(user_unblocked=unblocked))
            answer = pb.UnblockUserResponse()
            draft.write(*remember(answer))
            return answer

        return await self._users.change_live(user_id, decide)

    async def list(self, caller: Caller, request: pb.ListBlocksRequest) -> pb.ListBlocksResponse:
        """A page of the users whom the caller has blocked.

        Raises:
            Refusal: INVALID_PAGE_TOKEN.
        """
        rows = await self._store.blocks(
            caller.user_id,
            paging.read_token("blocks", request.page_token),
            paging.limit(request.page_size),
        )
        page, token = paging.cut(
            "blocks", rows, request.page_size, lambda row: (row.time_us, row.other_id)
        )
        return pb.ListBlocksResponse(blocks=[_shown(row) for row in page], next_page_token=token)


def _shown(block: BlockRecord) -> user_pb2.Block:
    return user_pb2.Block(
        user=user_pb2.User(id=block.other_id), create_time=protos.timestamp(block.time_us)
    )
