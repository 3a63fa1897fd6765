"""Read and delivered marks on their way: watermarks that overwrite one another."""

from __future__ import annotations

from chinwag.chat.v1 import channel_pb2, connect_pb2

MAX_A_FRAME = 1000
# A delivered mark may wait so long for others to share its frame.
LAZY_S = 1.0


class Marks:
    """The newest marks that the server has not confirmed by a `ChannelState`.

    A mark has no answer, so after a break all unconfirmed ones go again: they only rise, and a
    repeat changes nothing.
    """

    def __init__(self) -> None:
        self._marks: dict[str, connect_pb2.Mark] = {}
        self._dirty: dict[str, None] = {}
        self.due: float | None = None

    def raise_to(
        self, channel_id: str, read_id: int, delivered_id: int, now: float, *, lazy: bool = False
    ) -> None:
        """Raises marks; 0: unchanged.

        Args:
            now: The monotonic clock.
            lazy: May wait `LAZY_S` for others.
        """
        mark = self._marks.get(channel_id)
        if mark is None:
            mark = self._marks[channel_id] = connect_pb2.Mark(channel_id=channel_id)
        elif read_id <= mark.read_id and delivered_id <= max(mark.delivered_id, mark.read_id):
            return
        mark.read_id = max(mark.read_id, read_id)
        mark.delivered_id = max(mark.delivered_id, delivered_id)
        self._dirty[channel_id] = None
        due = now + LAZY_S if lazy else now
        self.due = due if self.due is None else min(due, self.due)

    def take(self, now: float) -> list[connect_pb2.Mark]:
        """Those that have to go now, at most a frame's worth."""
        if self.due is None or self.due > now:
            return []
        names = list(self._dirty)[:MAX_A_FRAME]
        for channel_id in names:
            del self._dirty[channel_id]
        if not self._dirty:
            self.due = None
        return [self._marks[channel_id] for channel_id in names if channel_id in self._marks]

    def confirmed(self, state: channel_pb2.ChannelState) -> None:
        """The server tells the user's registers."""
        mark = self._marks.get(state.channel_id)
        if mark is not None and (
            state.read_id >= mark.read_id and state.delivered_id >= mark.delivered_id
        ):
            self.drop(state.channel_id)

    def drop(self, channel_id: str) -> None:
        """A mark was refused, or its channel is gone."""
        self._marks.pop(channel_id, None)
        self._dirty.pop(channel_id, None)

    def again(self, now: float) -> None:
        """The unconfirmed ones may not have arrived."""
        self._dirty.update(dict.fromkeys(self._marks))
        self.due = now if self._dirty else None
