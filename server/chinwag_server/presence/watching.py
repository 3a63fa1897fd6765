"""Who wants to know of whom, and what they are told: the newest state, at most so often.

A change is told at once if nothing was told of the user for `debounce_s`, otherwise when that is
over; all that a watcher is to hear at one moment goes in one piece.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from chinwag.presence.v1 import presence_pb2 as pb
from chinwag_server.clock import Clock
from chinwag_server.mesh.unavailable import Unavailable
from chinwag_server.presence.ports import States, Undo
from chinwag_server.presence.views import Ground, Now, Views, ground_of, refused, same
from chinwag_server.rpc.errors import Refusal

log = logging.getLogger(__name__)

SECOND_US = 1_000_000
# Users whose watchers are told in one go.
BATCH = 500
RETRY_S = 1.0

# Takes what changed, as `PresenceChange`s; must not wait.
Tell = Callable[[Sequence[pb.PresenceChange]], None]


@dataclass(slots=True)
class _Watch:
    """One watch of one watcher.

    Attributes:
        told: The last view that was told; None: the snapshot is under way.
        again: Something changed while it was.
    """

    ground: Ground
    told: pb.PresenceChange | None = None
    again: bool = False


class Watcher:
    """What one stream watches."""

    def __init__(self, viewer_id: str, tell: Tell) -> None:
        self.viewer_id = viewer_id
        self.tell = tell
        self.watches: dict[str, _Watch] = {}
        self.closed = False

    def __len__(self) -> int:
        return len(self.watches)


class Watching:
    """All watchers of a node.

    Args:
        debounce_s: The shortest time between two changes of a user.
    """

    def __init__(
        self, views: Views, states: States, clock: Clock, *, debounce_s: float = 10.0
    ) -> None:
        self._views = views
        self._states = states
        self._clock = clock
        self.debounce_s = debounce_s
        self._by_user: dict[str, dict[Watcher, None]] = {}
        self._undo: dict[str, Undo] = {}
        self._told_at: dict[str, float] = {}
        # (when, user); when a user is due is in `_due_at`, the others are void.
        self._due: list[tuple[float, str]] = []
        self._due_at: dict[str, float] = {}
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        states.on_change = self.changed

    def start(self) -> None:
        """Begins to tell."""
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Ends it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._by_user)

    # --- watches ---

    async def watch(self, watcher: Watcher, watches: Sequence[pb.Watch]) -> None:
        """Adds watches, each answered by a snapshot or by its end; of two for one user the later
        holds.

        Raises:
            Unavailable, Refusal: It cannot be known now how they appear; nothing is watched.
        """
        wanted: dict[str, _Watch] = {}
        bad: list[pb.PresenceChange] = []
        for watch in watches:
            try:
                wanted[watch.user_id] = _Watch(ground_of(watch, watcher.viewer_id))
            except Refusal as refusal:
                change = refused(watch.user_id, refusal)
                change.snapshot = True
                bad.append(change)
                wanted.pop(watch.user_id, None)
        # Before anything is read: what changes meanwhile is told after the snapshot.
        before = {user_id: watcher.watches.get(user_id) for user_id in wanted}
        for user_id, mine in wanted.items():
            self._add(watcher, user_id, mine)
        try:
            found = await self._snapshot(watcher, wanted)
        except BaseException:
            for user_id, mine in wanted.items():
                if watcher.watches.get(user_id) is mine:
                    self._restore(watcher, user_id, before[user_id])
            raise
        if not watcher.closed:
            watcher.tell([*bad, *found])

    async def _snapshot(
        self, watcher: Watcher, wanted: dict[str, _Watch]
    ) -> list[pb.PresenceChange]:
        found = []
        now = await self._views.now(wanted)
        for user_id, mine in wanted.items():
            change = await self._views.change(watcher.viewer_id, user_id, mine.ground, now)
            if watcher.watches.get(user_id) is not mine:
                continue  # another watch has taken its place
            if change.HasField("ended"):
                self._remove(watcher, user_id)
            else:
                mine.told = change
                self._note_end(user_id, now)
                if mine.again:
                    mine.again = False
                    self.changed(user_id)
            told = pb.PresenceChange()
            told.CopyFrom(change)
            told.snapshot = True
            found.append(told)
        return found

    def unwatch(self, watcher: Watcher, user_ids: Collection[str]) -> None:
        """Ends watches; of who is not watched nothing changes."""
        for user_id in user_ids:
            if user_id in watcher.watches:
                self._remove(watcher, user_id)

    def clear(self, watcher: Watcher, but: Collection[str] = ()) -> None:
        """Ends all watches, but for those of some users."""
        self.unwatch(watcher, [user_id for user_id in watcher.watches if user_id not in but])

    def close(self, watcher: Watcher) -> None:
        """The stream is gone."""
        watcher.closed = True
        self.clear(watcher)

    def _add(self, watcher: Watcher, user_id: str, watch: _Watch) -> None:
        watcher.watches[user_id] = watch
        mine = self._by_user.get(user_id)
        if mine is None:
            mine = self._by_user[user_id] = {}
            self._undo[user_id] = self._states.watch(user_id)
        mine[watcher] = None

    def _restore(self, watcher: Watcher, user_id: str, before: _Watch | None) -> None:
        if before is None:
            self._remove(watcher, user_id)
        else:
            watcher.watches[user_id] = before

    def _remove(self, watcher: Watcher, user_id: str) -> None:
        del watcher.watches[user_id]
        mine = self._by_user[user_id]
        del mine[watcher]
        if not mine:
            del self._by_user[user_id]
            self._undo.pop(user_id)()
            self._told_at.pop(user_id, None)
            self._due_at.pop(user_id, None)

    # --- telling ---

    def changed(self, user_id: str) -> None:
        """A user may appear otherwise than before."""
        if user_id not in self._by_user:
            return
        now = self._clock.monotonic()
        told_at = self._told_at.get(user_id)
        self._be_due(user_id, now if told_at is None else max(now, told_at + self.debounce_s))

    def changed_all(self, user_ids: Collection[str] | None = None) -> None:
        """Users may appear otherwise; None: any that is watched."""
        for user_id in list(self._by_user) if user_ids is None else user_ids:
            self.changed(user_id)

    def _be_due(self, user_id: str, when: float) -> None:
        known = self._due_at.get(user_id)
        if known is not None and known <= when:
            return
        self._due_at[user_id] = when
        heapq.heappush(self._due, (when, user_id))
        self._wanted.set()

    def _note_end(self, user_id: str, now: Now) -> None:
        """A part of a user's status ends by itself."""
        if ends_us := now.status(user_id).ends_us():
            wait_s = (ends_us - now.now_us) / SECOND_US
            self._be_due(user_id, self._clock.monotonic() + wait_s)

    def _take_due(self) -> list[str]:
        now = self._clock.monotonic()
        found: list[str] = []
        while self._due and self._due[0][0] <= now and len(found) < BATCH:
            when, user_id = heapq.heappop(self._due)
            if self._due_at.get(user_id) == when:
                del self._due_at[user_id]
                found.append(user_id)
        return found

    async def flush(self) -> None:
        """Tells all that is due."""
        while users := self._take_due():
            try:
                await self._tell(users)
            except (Unavailable, Refusal) as error:
                log.warning("the presence of %d users is not told yet: %s", len(users), error)
                for user_id in users:
                    if user_id in self._by_user:
                        self._be_due(user_id, self._clock.monotonic() + RETRY_S)
                return

    async def _tell(self, users: Sequence[str]) -> None:
        now = await self._views.now(users)
        found: dict[Watcher, list[pb.PresenceChange]] = {}
        at = self._clock.monotonic()
        for user_id in users:
            for watcher in list(self._by_user.get(user_id, ())):
                watch = watcher.watches.get(user_id)
                if watch is None:
                    continue
                if watch.told is None:
                    watch.again = True
                    continue
                change = await self._views.change(watcher.viewer_id, user_id, watch.ground, now)
                if watcher.watches.get(user_id) is not watch or same(watch.told, change):
                    continue
                if change.HasField("ended"):
                    self._remove(watcher, user_id)
                else:
                    watch.told = change
                    self._told_at[user_id] = at
                found.setdefault(watcher, []).append(change)
            if user_id in self._by_user:
                self._note_end(user_id, now)
        for watcher, changes in found.items():
            if not watcher.closed:
                watcher.tell(changes)

    async def _run(self) -> None:
        while True:
            wait_s = self._due[0][0] - self._clock.monotonic() if self._due else None
            if wait_s is None or wait_s > 0:
                try:
                    async with asyncio.timeout(wait_s):
                        await self._wanted.wait()
                except TimeoutError:
                    pass
                self._wanted.clear()
                continue
            try:
                await self.flush()
            except Exception:
                log.exception("presence was not told")
                await asyncio.sleep(RETRY_S)
