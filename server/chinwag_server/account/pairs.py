"""What two users are to each other: decided in one place, copied to the other.

Each of the two has a row. The row of the one whose id is smaller is the truth: a change is
decided and committed there, with a revision that rises. A chore of the same commit copies it to
the other's row, which takes only a greater revision. So two who ask each other at the same moment,
or a crash between the two commits, leave the pair in one state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import TypeVar

from chinwag_server.account import events
from chinwag_server.account.audiences import Audiences
from chinwag_server.account.chores import Chores
from chinwag_server.account.records import ChoreRecord, RelationRecord, RelationState
from chinwag_server.account.users import Draft, Users

MIRROR = "mirror"

Result = TypeVar("Result")

_MIRRORED = {
    RelationState.NONE: RelationState.NONE,
    RelationState.FRIEND: RelationState.FRIEND,
    RelationState.REQUESTED_BY_ME: RelationState.REQUESTED_BY_THEM,
    RelationState.REQUESTED_BY_THEM: RelationState.REQUESTED_BY_ME,
}


def leader(user_id: str, other_id: str) -> str:
    """The one of a pair whose row is the truth."""
    return min(user_id, other_id)


def mirrored(row: RelationRecord) -> RelationRecord:
    """The same, as the other of the two sees it."""
    return dataclasses.replace(
        row, user_id=row.other_id, other_id=row.user_id, state=_MIRRORED[row.state]
    )


class Pair:
    """A pair in a draft of its leader's partition, seen from one of the two.

    Attributes:
        row: As it is, from that side.
    """

    def __init__(self, draft: Draft, side: str, truth: RelationRecord) -> None:
        self.draft = draft
        self.row = truth if truth.user_id == side else mirrored(truth)
        self.chore: ChoreRecord | None = None
        self._side = side
        self._truth = truth

    def set(self, state: RelationState, message: str = "") -> RelationRecord:
        """Gives the pair another state; the answer is the row of the side."""
        draft, old = self.draft, self._truth
        self.row = RelationRecord(
            self._side,
            self.row.other_id,
            state,
            # The clock keeps it rising also when a NONE row was forgotten meanwhile.
            max(old.revision + 1, draft.now_us),
            draft.now_us,
            message,
        )
        new = self.row if self._side == old.user_id else mirrored(self.row)
        draft.write(new)
        if not draft.user.deleted:
            draft.event(*events.of_relation(old, new))
        self.chore = draft.chore(MIRROR, old.other_id)
        return self.row


class Pairs:
    """Changes what two users are to each other."""

    def __init__(self, users: Users, audiences: Audiences, chores: Chores) -> None:
        self._users = users
        self._store = users.store
        self._audiences = audiences
        self._chores = chores
        chores.handle(MIRROR, self._mirror)

    async def change(
        self, user_id: str, other_id: str, decide: Callable[[Pair], Awaitable[Result]]
    ) -> Result:
        """Decides on the truth, and copies it to the other side before it returns.

        Args:
            user_id: The side from which `decide` sees the pair.
        """
        first = leader(user_id, other_id)
        second = other_id if first == user_id else user_id

        async def decide_first(draft: Draft) -> tuple[Result, ChoreRecord | None]:
            pair = Pair(draft, user_id, await self._store.relation(first, second))
            result = await decide(pair)
            return result, pair.chore

        result, chore = await self._users.change(first, decide_first)
        if chore is not None:
            await self._chores.run(chore)
        return result

    async def end(self, user_id: str, other_id: str) -> None:
        """Makes them nothing to each other, also where they are so: whoever decides at this
        moment to make them more has to look again."""

        first = leader(user_id, other_id)
        second = other_id if first == user_id else user_id

        async def decide(draft: Draft) -> ChoreRecord | None:
            if draft.is_new:
                return None
            pair = Pair(draft, first, await self._store.relation(first, second))
            pair.set(RelationState.NONE)
            return pair.chore

        chore = await self._users.change(first, decide)
        if chore is not None:
            # Not by `Chores`: who waits for the end is to know if it failed.
            await self._mirror(chore)
            await self._store.finish_chore(chore)

    async def settle(self, user_id: str, other_id: str) -> None:
        """Makes both rows say the same, whatever became of the chore that was to do it."""
        first = leader(user_id, other_id)
        await self._copy(first, other_id if first == user_id else user_id)

    async def _mirror(self, chore: ChoreRecord) -> None:
        await self._copy(chore.user_id, chore.target)

    async def _copy(self, first: str, second: str) -> None:
        truth = await self._store.relation(first, second)
        if truth.state is not RelationState.NONE and not await self._may_last(first, second):
            # A block or a deletion came between the decision and now.
            await self._users.change(first, self._undo(first, second))
            truth = await self._store.relation(first, second)

        async def decide(draft: Draft) -> None:
            mine = await self._store.relation(second, first)
            if draft.is_new or mine.revision >= truth.revision:
                return
            new = mirrored(truth)
            if draft.user.deleted:
                if new.state is RelationState.NONE and mine.state is not RelationState.NONE:
                    draft.write(new)
                return
            draft.write(new)
            draft.event(*events.of_relation(mine, new))

        await self._users.change(second, decide)

    def _undo(self, first: str, second: str) -> Callable[[Draft], Awaitable[None]]:
        async def decide(draft: Draft) -> None:
            truth = await self._store.relation(first, second)
            if truth.state is not RelationState.NONE:
                Pair(draft, first, truth).set(RelationState.NONE)

        return decide

    async def _may_last(self, first: str, second: str) -> bool:
        users = await self._store.users([first, second])
        return all(
            (user := users.get(user_id)) is not None and not user.deleted
            for user_id in (first, second)
        ) and not await self._audiences.blocked(first, second)
