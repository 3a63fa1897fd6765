"""The channels that changed in the last seconds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

# Turns for which a channel is repeated after its last change. A link that breaks comes back, or
# its node is gone, within these.
TURNS = 5


@dataclass(slots=True)
class _Turn:
    """A channel's last turns: the head before one, and who gets what came in it."""

    before_id: int
    users: Collection[str] | None


@dataclass(slots=True)
class _Changed:
    turns: list[_Turn]  # the oldest first; the last one goes on
    head_id: int
    quiet: int = 0


class Recent:
    """Remembers heads so that they can be repeated; the caller says when a turn ends."""

    def __init__(self) -> None:
        self._changed: dict[str, _Changed] = {}

    def note(
        self,
        channel_id: str,
        head_id: int,
        users: Collection[str] | None,
        *,
        since_id: int | None = None,
    ) -> None:
        """A channel has a new head.

        Args:
            since_id: What was told before, if it is not the entry before.
        """
        found = self._changed.get(channel_id)
        if found is None:
            before = head_id - 1 if since_id is None else since_id
            self._changed[channel_id] = _Changed([_Turn(before, users)], head_id)
            return
        found.head_id = max(found.head_id, head_id)
        found.turns[-1].users = _both(found.turns[-1].users, users)
        found.quiet = 0

    def turn(self) -> dict[str, tuple[int, int, Collection[str] | None]]:
        """Ends a turn. By channel: its head some turns ago, its head, who gets something of what
        is between, be it that they are no member any more."""
        told = {}
        for channel_id, found in list(self._changed.items()):
            users = found.turns[0].users
            for turn in found.turns[1:]:
                users = _both(users, turn.users)
            told[channel_id] = (found.turns[0].before_id, found.head_id, users)
            found.quiet += 1
            found.turns.append(_Turn(found.head_id, ()))
            if len(found.turns) > TURNS:
                del found.turns[0]
            if found.quiet >= TURNS:
                del self._changed[channel_id]
        return told


def _both(some: Collection[str] | None, more: Collection[str] | None) -> Collection[str] | None:
    """One of them if that is enough: most often nobody came or went."""
    if some is None or more is None or some == more or not more:
        return some if more is not None else None
    return {*some, *more} if some else more
