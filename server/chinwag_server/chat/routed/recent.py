"""The channels that changed in the last seconds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

# Turns for which a channel is repeated after its last change. A link that breaks comes back, or
# its node is gone, within these.
TURNS = 5


@dataclass(slots=True)
class _Changed:
    marks: list[int]  # the heads before each of the last turns, the oldest first
    head_id: int
    users: Collection[str] | None
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
            self._changed[channel_id] = _Changed([before], head_id, users)
            return
        found.head_id = max(found.head_id, head_id)
        found.users = users
        found.quiet = 0

    def turn(self) -> dict[str, tuple[int, int, Collection[str] | None]]:
        """Ends a turn. By channel: its head some turns ago, its head, who gets what is between."""
        told = {}
        for channel_id, found in list(self._changed.items()):
            told[channel_id] = (found.marks[0], found.head_id, found.users)
            found.quiet += 1
            found.marks.append(found.head_id)
            if len(found.marks) > TURNS:
                del found.marks[0]
            if found.quiet >= TURNS:
                del self._changed[channel_id]
        return told
