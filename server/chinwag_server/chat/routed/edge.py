"""The node that holds devices' streams: what owners tell, passed on in order and without holes.

For each channel it knows the last entry that it has passed on (`positions`). What is not the next
one makes it read the hole first, and each user gets of it what they may see. Owners repeat the
heads of channels that changed a moment ago, so that a loss at the end of a burst is noticed too.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from chinwag.chat.v1 import connect_pb2
from chinwag.mesh.v1 import mesh_service_pb2 as pb
from chinwag_server.chat import frames, ranges
from chinwag_server.chat.listeners import Listeners
from chinwag_server.chat.routed.reading import EdgeReads
from chinwag_server.chat.store import MemberRecord, StoredEntry, StoreUnavailable

log = logging.getLogger(__name__)

MAX_POSITIONS = 200_000
# Pieces that wait behind a hole of one channel; those beyond are read from the store again.
MAX_BEHIND = 1000
PAGE_ENTRIES = 200
PAGE_BYTES = 256 << 10
RETRY_S = 0.3
FILL_S = 20.0
# Beyond which those who are gone are forgotten.
MAX_BEGAN = 100

_Kind = pb.ForUsers.Kind


@dataclass(slots=True, frozen=True)
class _Position:
    """The last entry that was passed on, and to whom; None: to who looks.

    Attributes:
        began: Whose devices caught up to there, or to one before it: they wait for what follows.
        lacking: Those of them with another device here, which may have missed what lies before.
    """

    id: int
    users: Collection[str] | None
    began: set[str]
    lacking: set[str]


@dataclass(slots=True)
class _Hole:
    """A channel whose entries wait for earlier ones.

    Attributes:
        end: Up to here entries are known to exist.
        users: Who gets them; None: who looks.
        behind: Pieces that came already, each with who gets it.
        opened: (start, user, piece) of those who come back: what is before it they get first.
    """

    end: int
    users: set[str] | None
    behind: dict[int, tuple[bytes, list[str] | None]] = field(default_factory=dict)
    opened: list[tuple[int, str, bytes]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


class Edge:
    """Passes on to this node's listeners.

    Args:
        resume: Ends the streams of users, of a channel that cannot be read, so that they come
            back and catch up: no gap is passed over.
    """

    def __init__(
        self,
        listeners: Listeners,
        reads: EdgeReads,
        resume: Callable[[Collection[str]], None],
    ) -> None:
        self._listeners = listeners
        self._reads = reads
        self._resume = resume
        self._positions: OrderedDict[str, _Position] = OrderedDict()
        self._holes: dict[str, _Hole] = {}
        reads.on_head = self.start_at

    async def stop(self) -> None:
        """Ends what is under way."""
        tasks = [hole.task for hole in self._holes.values() if hole.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- positions ---

    def start_at(self, channel_id: str, head_id: int, user_id: str) -> None:
        """A device of a user catches up with a channel up to a head: what follows has to reach it.
        What lies before the head may be under way to others who wait for it."""
        known = self._positions.get(channel_id)
        if known is None or not self._waits(channel_id, known):
            self._positions.pop(channel_id, None)
            self._note(channel_id, head_id, ())
            if self._listeners.count(user_id) > 1:
                self._positions[channel_id].lacking.add(user_id)
        elif head_id < known.id:
            self._note(channel_id, head_id, known.users)
        self._positions[channel_id].began.add(user_id)
        hole = self._holes.get(channel_id)
        if hole is not None and hole.users is not None:
            hole.users.add(user_id)

    def _waits(self, channel_id: str, known: _Position) -> bool:
        """Whether somebody here may have yet to get what follows a position."""
        if known.users is None or channel_id in self._holes:
            return True
        here = self._listeners.users()
        if len(known.began) > MAX_BEGAN:
            known.began.intersection_update(here)
        return (
            any(user_id in here for user_id in known.users)
            or any(user_id in here for user_id in known.began)
            or channel_id in self._listeners.looked_at()
        )

    def position(self, channel_id: str) -> int | None:
        """The last entry that was passed on, if that is known."""
        known = self._positions.get(channel_id)
        return known.id if known is not None else None

    def _note(self, channel_id: str, entry_id: int, users: Collection[str] | None) -> None:
        known = self._positions.get(channel_id)
        began, lacking = (known.began, known.lacking) if known is not None else (set(), set())
        self._positions[channel_id] = _Position(entry_id, users, began, lacking)
        self._positions.move_to_end(channel_id)
        if len(self._positions) > MAX_POSITIONS:
            self._positions.popitem(last=False)

    # --- what owners tell ---

    def told(self, news: pb.News) -> None:
        """News of an owner, but for those of nodes."""
        match news.WhichOneof("news"):
            case "entries":
                told = news.entries
                users = list(told.user_ids) if told.user_ids else None
                self.entries(told.channel_id, told.first_id, told.entries, users)
            case "heads":
                for head in news.heads.heads:
                    users = list(head.user_ids) if head.user_ids else None
                    self.head(head.channel_id, head.since_id, head.head_id, users)
            case "for_users":
                self.for_users(news.for_users)

    def entries(
        self,
        channel_id: str,
        first_id: int,
        pieces: Sequence[bytes],
        user_ids: Collection[str] | None,
    ) -> None:
        """Entries without a hole between them, for users or (None) for who looks."""
        here = self._here(channel_id, user_ids)
        if here is not None and not here:
            return
        hole = self._holes.get(channel_id)
        position = self.position(channel_id)
        if hole is None and (position is None or first_id <= position + 1):
            skip = 0 if position is None else position + 1 - first_id
            for offset in range(max(0, skip), len(pieces)):
                entry_id = first_id + offset
                self._note(channel_id, entry_id, here)
                self._listeners.entry(channel_id, entry_id, pieces[offset], here)
            return
        hole = self._hole(channel_id, first_id + len(pieces) - 1, here)
        for offset, piece in enumerate(pieces):
            if len(hole.behind) < MAX_BEHIND:
                hole.behind[first_id + offset] = (piece, here)

    def head(
        self, channel_id: str, since_id: int, head_id: int, user_ids: Collection[str] | None
    ) -> None:
        """A channel is so far; `since_id` is its head of some seconds ago."""
        here = self._here(channel_id, user_ids)
        if here is not None and not here:
            return
        position = self.position(channel_id)
        if position is None:
            self._note(channel_id, position := since_id, here)
        elif since_id < position and here is not None and self._adds(channel_id, here):
            # Who came into the channel a moment ago may have missed that: all of it once more.
            self._note(channel_id, position := since_id, self._positions[channel_id].users)
        if head_id > position:
            self._hole(channel_id, head_id, here)

    def for_users(self, told: pb.ForUsers) -> None:
        """A piece that is no entry."""
        channel_id, piece, to = told.channel_id, told.piece, self._listeners
        users: Collection[str] | None = told.user_ids or None
        match told.kind:
            case _Kind.KIND_OPENED:
                for user_id in self._here(channel_id, told.user_ids) or ():
                    self._opened(user_id, channel_id, piece)
            case _Kind.KIND_GONE:
                for user_id in told.user_ids:
                    to.gone(user_id, channel_id)
            case _Kind.KIND_STATE:
                for user_id in told.user_ids:
                    to.state(user_id, channel_id, piece, told.but_device_id)
            case _Kind.KIND_RECEIPTS:
                to.receipts(channel_id, piece, told.user_ids)
            case _Kind.KIND_TYPING:
                to.typing(channel_id, piece, users)

    def _opened(self, user_id: str, channel_id: str, piece: bytes) -> None:
        """Tells of a channel. Of somebody who was in it before, devices must first get what they
        may see of that time: it may be missing yet."""
        start_id = connect_pb2.ConnectResponse.FromString(piece).events[0].opened.start_id
        known = self._positions.get(channel_id)
        is_looked_at = channel_id in self._listeners.looked_at()
        if known is None or known.users is None or is_looked_at or known.id >= start_id:
            self._listeners.opened(user_id, channel_id, piece)
        else:
            self._hole(channel_id, start_id, [user_id]).opened.append((start_id, user_id, piece))

    def _here(self, channel_id: str, user_ids: Collection[str] | None) -> list[str] | None:
        """Which of them have a listener here; None: the channel is looked at."""
        if user_ids is None:
            return None if channel_id in self._listeners.looked_at() else []
        users = self._listeners.users()
        return [user_id for user_id in user_ids if user_id in users]

    # --- holes ---

    def _hole(self, channel_id: str, end: int, here: Collection[str] | None) -> _Hole:
        hole = self._holes.get(channel_id)
        if hole is None:
            users = None if here is None else {*here, *self._waiting(channel_id)}
            hole = self._holes[channel_id] = _Hole(end, users)
            hole.task = asyncio.ensure_future(self._fill(channel_id, hole))
            return hole
        hole.end = max(hole.end, end)
        if here is not None:
            hole.users = (hole.users or set()) | set(here)
        return hole

    def _adds(self, channel_id: str, here: Collection[str]) -> bool:
        """Whether some of the users neither got what was passed on last nor caught up, with all of
        their devices."""
        known = self._positions[channel_id]
        if known.users is None:
            return False
        new = set(here) - known.began - set(known.users)
        behind = known.lacking.intersection(here)
        known.began.update(new)
        known.lacking.difference_update(behind)
        return bool(new or behind)

    def _waiting(self, channel_id: str) -> list[str]:
        """Who got what was passed on last, or caught up to it: they may get what follows too, also
        those who have left since."""
        known = self._positions.get(channel_id)
        if known is None:
            return []
        here = self._listeners.users()
        return [user_id for user_id in {*(known.users or ()), *known.began} if user_id in here]

    async def _fill(self, channel_id: str, hole: _Hole) -> None:
        try:
            async with asyncio.timeout(FILL_S):
                await self._pass_on(channel_id, hole)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.warning(
                "a channel cannot be read: its devices are to resume (%r)",
                error,
                extra={"channel_id": channel_id},
            )
            self._positions.pop(channel_id, None)
            self._resume(tuple(hole.users or ()))
        finally:
            del self._holes[channel_id]

    async def _pass_on(self, channel_id: str, hole: _Hole) -> None:
        rows: dict[str, MemberRecord | None] = {}
        page: list[StoredEntry] = []
        while (position := self.position(channel_id)) is not None and position < hole.end:
            self._open(channel_id, hole, position)
            entry_id = position + 1
            behind = hole.behind.pop(entry_id, None)
            if behind is not None:
                self._note(channel_id, entry_id, behind[1])
                self._listeners.entry(channel_id, entry_id, *behind)
                continue
            page = [entry for entry in page if entry.id > position]
            if not page or page[0].id != entry_id:
                page = await self._read(channel_id, position, hole)
                rows.clear()
                continue
            new = [user_id for user_id in hole.users or () if user_id not in rows]
            if new:
                # After the entries: a row is written before its entry is announced.
                await self._read_rows(channel_id, new, rows)
                continue
            self._note(channel_id, entry_id, hole.users)
            who = hole.users
            if who is not None:
                # Who came or went in between gets what they may see.
                who = {user for user in who if _may_see(rows[user], entry_id)}
            self._listeners.entry(channel_id, entry_id, frames.entry(page[0].payload), who)
        self._open(channel_id, hole, hole.end)

    def _open(self, channel_id: str, hole: _Hole, position: int) -> None:
        """Tells those who come back at or before a position."""
        if hole.opened:
            for start_id, user_id, piece in hole.opened:
                if start_id <= position:
                    self._listeners.opened(user_id, channel_id, piece)
            hole.opened = [item for item in hole.opened if item[0] > position]

    async def _read(self, channel_id: str, position: int, hole: _Hole) -> list[StoredEntry]:
        first_behind = min(hole.behind, default=hole.end + 1)
        while True:
            try:
                page = await self._reads.entries(
                    channel_id, position, first_behind - 1, PAGE_ENTRIES, PAGE_BYTES
                )
            except StoreUnavailable:
                page = []
            if page and page[0].id == position + 1:
                return page
            await asyncio.sleep(RETRY_S)

    async def _read_rows(
        self, channel_id: str, users: Sequence[str], rows: dict[str, MemberRecord | None]
    ) -> None:
        for user_id in users:
            while user_id not in rows:
                try:
                    rows[user_id] = await self._reads.group_member(channel_id, user_id)
                except StoreUnavailable:
                    await asyncio.sleep(RETRY_S)


def _may_see(row: MemberRecord | None, entry_id: int) -> bool:
    return row is not None and ranges.contains(ranges.visible(row.ranges, entry_id), entry_id)
