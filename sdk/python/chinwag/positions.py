"""The order of entries: each channel dense, each entry once, a hole filled before anything after.

Pure rules. Events of the stream and of `Sync` answers go in, events for the application come out,
and with them the fetches that are needed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from chinwag import events as ev
from chinwag.chat.v1 import channel_pb2, entry_pb2

_Reset = entry_pb2.ChannelReset
_BROADCAST = channel_pb2.CHANNEL_KIND_BROADCAST

# Events of all channels that may wait behind holes; those beyond are fetched again.
MAX_HELD = 2000
# Answers in a row that did not move a position, after which the connection is the suspect.
MAX_FRUITLESS = 3


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask `Sync` (cursors_only) for what follows a cursor, and give the answer to
    `Positions.fetched` with the number."""

    number: int
    cursor: ev.Cursor


@dataclass(slots=True)
class _Hole:
    """Entries are missing after a position.

    Attributes:
        number: Of the fetch that is under way.
        held: What came behind the hole.
        again: Some of it was dropped since that fetch: another one has to follow.
        fruitless: Answers in a row that brought nothing.
    """

    number: int = 0
    held: deque[entry_pb2.Event] = field(default_factory=deque)
    again: bool = False
    fruitless: int = 0


@dataclass(slots=True)
class _Position:
    """How far a channel was handed out; `keep`: hello names it."""

    generation: int
    id: int
    keep: bool = True
    hole: _Hole | None = None


class Positions:
    """The position in every channel.

    Args:
        cursors: Those of an earlier process.

    Attributes:
        out: Events for the application, in order; the owner empties it.
        fetches: Fetches that are needed; the owner empties it.
        stuck: A hole cannot be filled over this connection: open another one.
    """

    def __init__(self, cursors: Iterable[ev.Cursor] = ()) -> None:
        self._channels = {c.channel_id: _Position(c.generation, c.id) for c in cursors}
        self._holes: dict[int, str] = {}
        self._held = 0
        self._number = 0
        self.out: list[ev.Event] = []
        self.fetches: list[Fetch] = []
        self.stuck = False

    @property
    def complete(self) -> bool:
        """Whether no channel has a hole."""
        return not self._holes

    def cursor(self, channel_id: str) -> ev.Cursor | None:
        """How far a channel was handed out; None if it is not known."""
        position = self._channels.get(channel_id)
        if position is None:
            return None
        return ev.Cursor(channel_id, position.generation, position.id)

    def cursors(self) -> list[ev.Cursor]:
        """What hello says: every channel but broadcast channels that nobody looks at."""
        return [
            ev.Cursor(channel_id, position.generation, position.id)
            for channel_id, position in self._channels.items()
            if position.keep
        ]

    def look(self, start: ev.Cursor) -> ev.Cursor:
        """A broadcast channel is looked at from now on.

        Args:
            start: Where, if the channel is not looked at already.

        Returns:
            Where it goes on.
        """
        position = self._channels.get(start.channel_id)
        if position is None or not position.keep:
            position = _Position(start.generation, start.id)
            self._channels[start.channel_id] = position
        return ev.Cursor(start.channel_id, position.generation, position.id)

    def forget(self, channel_id: str) -> None:
        """A channel is gone, or not looked at any more."""
        position = self._channels.pop(channel_id, None)
        if position is not None:
            self._close_hole(position)

    def connection_lost(self) -> None:
        """Drops what waits behind holes: the next connection resumes at the positions."""
        for channel_id in list(self._holes.values()):
            self._close_hole(self._channels[channel_id])
        self.stuck = False

    # --- events in ---

    def take(self, event: entry_pb2.Event) -> None:
        """Takes the stream's next event."""
        kind = event.WhichOneof("event")
        if kind == "entry":
            channel_id = event.entry.channel_id
        elif kind == "gap":
            channel_id = event.gap.channel_id
        elif kind == "opened":
            channel_id = event.opened.channel.id
        elif kind == "reset":
            self._reset(event.reset)
            return
        elif kind == "state":
            self.out.append(ev.StateChanged(event.state.channel_id, event.state))
            return
        else:
            return  # of a later version: "a case that the reader does not know is passed over"
        position = self._channels.get(channel_id)
        if position is not None and position.hole is not None:
            self._hold(position.hole, event)
        elif not self._step(channel_id, position, event):
            self._open_hole(channel_id, event)

    def awaits(self, number: int) -> bool:
        """Whether the answer to a fetch is still of use."""
        return number in self._holes

    def fetched(self, number: int, events: Iterable[entry_pb2.Event], has_more: bool) -> None:
        """Takes the answer to a fetch."""
        channel_id = self._holes.get(number)
        if channel_id is None:
            return  # the hole is gone: reset, forgotten, or of an earlier connection
        position = self._channels[channel_id]
        hole = position.hole
        assert hole is not None
        before = position.id
        for event in events:
            kind = event.WhichOneof("event")
            if kind == "reset":
                self._reset(event.reset, hole)
                if self._channels.get(channel_id) is not position:
                    return
                before = -1
            elif kind == "state":
                self.out.append(ev.StateChanged(event.state.channel_id, event.state))
            elif kind is not None and not self._step(channel_id, position, event):
                break
        moved = position.id > before
        hole.fruitless = 0 if moved else hole.fruitless + 1
        if has_more or hole.again:
            self._fetch(channel_id, position, hole)
            return
        while hole.held:
            if not self._step(channel_id, position, hole.held[0]):
                self._fetch(channel_id, position, hole)
                return
            hole.held.popleft()
            self._held -= 1
        self._close_hole(position)

    def _step(self, channel_id: str, position: _Position | None, event: entry_pb2.Event) -> bool:
        """Hands an event out, or drops a repeat; False: there is a hole before it."""
        kind = event.WhichOneof("event")
        if kind == "entry":
            entry = event.entry
            if position is None or entry.id > position.id + 1:
                return False
            if entry.id == position.id + 1:
                position.id = entry.id
                self.out.append(ev.of_entry(entry, position.generation))
            return True
        if kind == "gap":
            gap = event.gap
            if position is None or gap.from_id > position.id + 1:
                return False
            if gap.to_id > position.id:
                from_id, position.id = position.id + 1, gap.to_id
                cursor = ev.Cursor(channel_id, position.generation, gap.to_id)
                self.out.append(ev.GapSeen(channel_id, from_id, gap.to_id, cursor))
            return True
        assert kind == "opened", f"no step is {kind}"
        self._opened(channel_id, position, event.opened)
        return True

    def _opened(
        self, channel_id: str, position: _Position | None, opened: entry_pb2.ChannelOpened
    ) -> None:
        channel = opened.channel
        if position is None:
            position = self._channels[channel_id] = _Position(
                channel.generation, opened.start_id, keep=channel.kind != _BROADCAST
            )
        elif position.generation == channel.generation and opened.start_id < position.id:
            return  # a repeat: what follows its start was handed out already
        else:
            # A member who comes back: what lies between the stays is not theirs to see.
            position.generation, position.id = channel.generation, opened.start_id
        cursor = ev.Cursor(channel_id, position.generation, position.id)
        self.out.append(ev.ChannelOpened(channel_id, channel, opened.state, cursor))

    def _reset(self, reset: entry_pb2.ChannelReset, fetching: _Hole | None = None) -> None:
        channel_id = reset.channel_id
        known = reset.reason in _Reset.Reason.values()
        reason = _Reset.Reason.Name(reset.reason).removeprefix("REASON_") if known else ""
        position = self._channels.get(channel_id)
        if reset.reason == _Reset.REASON_NOT_VISIBLE:
            self.forget(channel_id)
            self.out.append(ev.ChannelReset(channel_id, reason, None))
            return
        if position is None:
            position = self._channels[channel_id] = _Position(reset.generation, reset.start_id)
        else:
            if position.hole is not fetching:
                self._close_hole(position)
            position.generation, position.id = reset.generation, reset.start_id
        cursor = ev.Cursor(channel_id, position.generation, position.id)
        self.out.append(ev.ChannelReset(channel_id, reason, cursor))

    # --- holes ---

    def _open_hole(self, channel_id: str, event: entry_pb2.Event) -> None:
        position = self._channels.get(channel_id)
        if position is None:
            # An entry of a channel that was never opened. No generation is 0: the server answers
            # with a reset, which says where the view begins.
            position = self._channels[channel_id] = _Position(0, 0)
        hole = _Hole()
        self._fetch(channel_id, position, hole)
        self._hold(hole, event)

    def _hold(self, hole: _Hole, event: entry_pb2.Event) -> None:
        if self._held >= MAX_HELD:
            hole.again = True
            self._held -= len(hole.held)
            hole.held.clear()
            return
        hole.held.append(event)
        self._held += 1

    def _fetch(self, channel_id: str, position: _Position, hole: _Hole) -> None:
        self._holes.pop(hole.number, None)
        self._number += 1
        hole.number = self._number
        hole.again = False
        position.hole = hole
        self._holes[hole.number] = channel_id
        if hole.fruitless >= MAX_FRUITLESS:
            self.stuck = True
            return
        cursor = ev.Cursor(channel_id, position.generation, position.id)
        self.fetches.append(Fetch(hole.number, cursor))

    def _close_hole(self, position: _Position) -> None:
        hole = position.hole
        if hole is not None:
            position.hole = None
            self._held -= len(hole.held)
            del self._holes[hole.number]
            self.fetches = [fetch for fetch in self.fetches if fetch.number != hole.number]
