"""Keeps the sessions true: which users' devices are on this node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from itertools import islice

from chinwag_server.chat.listeners import Listener, Listeners
from chinwag_server.clock import Clock
from chinwag_server.mesh.sessions import Sessions
from chinwag_server.mesh.unavailable import Unavailable

log = logging.getLogger(__name__)

REFRESH_S = 1.5
# A device waits no longer for its note: owners then tell this node everything.
HEARD_S = 1.0
RETRY_S = 0.5
AT_ONCE = 64
SWEEP_EVERY = 40  # refreshes

_Key = tuple[str, str]  # (user, device)


class Registered:
    """Notes devices as they come and go. What cannot be noted now is noted later, and until then
    the node is *unknown*: it asks to be told everything.

    Args:
        unknown: Told whether the node is unknown, now and then while it is.
        lapsed: Called when the node's life had run out: it may have missed something.
    """

    def __init__(
        self,
        node_id: str,
        sessions: Sessions,
        clock: Clock,
        *,
        unknown: Callable[[bool], None],
        lapsed: Callable[[], None],
    ) -> None:
        self._node_id = node_id
        self._sessions = sessions
        self._clock = clock
        self._unknown = unknown
        self._lapsed = lapsed
        self._devices: dict[_Key, int] = {}  # how many listeners each has
        self._due: dict[_Key, None] = {}
        self._noting: list[_Key] = []
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._wake = asyncio.Event()
        self._was_unknown = True
        self._alive = False  # restored since the last lapse
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins the node's life among the sessions."""
        self._tasks = [
            asyncio.ensure_future(self._note_all()),
            asyncio.ensure_future(self._live()),
        ]

    async def stop(self) -> None:
        """Ends it: nothing is told to this node any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(HEARD_S):
                await self._sessions.end(self._node_id)
        except (Unavailable, TimeoutError) as error:
            log.debug("the node's sessions end with its life: %s", error)

    # --- devices ---

    def came(self, user_id: str, device_id: str) -> None:
        """A listener joined."""
        key = (user_id, device_id)
        count = self._devices[key] = self._devices.get(key, 0) + 1
        if count == 1:
            self._look_at(key)

    def went(self, user_id: str, device_id: str) -> None:
        """A listener left."""
        key = (user_id, device_id)
        left = self._devices.get(key, 1) - 1
        if left:
            self._devices[key] = left
        else:
            self._devices.pop(key, None)
            self._look_at(key)

    def _look_at(self, key: _Key) -> None:
        self._due[key] = None
        self._wake.set()

    async def heard(self, user_id: str) -> None:
        """Waits until the user's devices here are noted, or the node is known to be unknown."""
        if self._was_unknown and self._alive is False:
            return
        if not any(user == user_id for user, _ in (*self._noting, *self._due)):
            return
        noted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(user_id, []).append(noted)
        try:
            async with asyncio.timeout(HEARD_S):
                await noted
        except TimeoutError:
            self._say(True)

    # --- noting ---

    async def _note_all(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._due:
                keys = self._noting = list(islice(self._due, AT_ONCE))
                for key in keys:
                    del self._due[key]
                done = await asyncio.gather(*(self._note(key) for key in keys))
                self._noting = []
                failed = [key for key, noted in zip(keys, done, strict=True) if not noted]
                self._settle(key for key, noted in zip(keys, done, strict=True) if noted)
                if failed:
                    self._due = dict.fromkeys(failed) | self._due
                    self._say(True)
                    self._settle(failed)  # the node is unknown, and so they are heard
                    await asyncio.sleep(RETRY_S)
            if self._alive:
                self._say(False)

    def _settle(self, keys: Iterable[_Key]) -> None:
        for user_id, _ in keys:
            for noted in self._waiting.pop(user_id, ()):
                if not noted.done():
                    noted.set_result(None)

    async def _note(self, key: _Key) -> bool:
        user_id, device_id = key
        try:
            if key in self._devices:
                await self._sessions.add(user_id, device_id, self._node_id)
            else:
                await self._sessions.remove(user_id, device_id, self._node_id)
        except Unavailable as error:
            log.debug("a device could not be noted: %s", error)
            return False
        # It came or went meanwhile: that is another look.
        return True

    # --- the node's life ---

    async def _live(self) -> None:
        first, count = True, 0
        while True:
            try:
                if not await self._sessions.refresh(self._node_id) or not self._alive:
                    # Also where it was not restored to the end last time.
                    self._alive = False
                    self._say(True)
                    await self._sessions.restore(self._node_id, list(self._devices))
                    if not first:
                        log.warning("this node's sessions had lapsed: its devices are to resume")
                        self._lapsed()
                first, self._alive = False, True
                if not self._due:
                    self._say(False)
                count += 1
                if count % SWEEP_EVERY == 0:
                    await self._sessions.sweep()
            except Unavailable as error:
                log.warning("sessions are away: this node asks for everything (%s)", error)
                self._say(True)
            await asyncio.sleep(REFRESH_S)

    def _say(self, unknown: bool) -> None:
        if unknown or self._was_unknown:
            self._unknown(unknown)
        self._was_unknown = unknown


class RegisteredListeners(Listeners):
    """The listeners of a node, noted among the sessions."""

    def __init__(self) -> None:
        super().__init__()
        self._registered: Registered | None = None

    def note_in(self, registered: Registered) -> None:
        """From now on they are."""
        self._registered = registered

    def join(self, user_id: str, listener: Listener) -> None:
        super().join(user_id, listener)
        if self._registered is not None:
            self._registered.came(user_id, listener.device_id)

    def leave(self, user_id: str, listener: Listener) -> None:
        was = listener in self._listeners.get(user_id, ())
        super().leave(user_id, listener)
        if was and self._registered is not None:
            self._registered.went(user_id, listener.device_id)

    async def heard(self, user_id: str) -> None:
        if self._registered is not None:
            await self._registered.heard(user_id)
